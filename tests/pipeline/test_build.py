"""Configuration → objects: a user's mistake that only a constructor can see is still one sentence."""

import shutil

import pytest
import torch

from hldm.commands import curvature, evaluate, generate
from hldm.errors import UserError
from hldm.pipeline import run
from tests.pipeline.conftest import prepare


def test_a_constructor_that_refuses_a_setting(tmp_path):
    with pytest.raises(UserError, match="padded_side=24"):
        run(prepare(tmp_path, "autoencoder.padded_side=24").path)


def test_a_damaged_text_model(tmp_path):
    for name in ("config.json", "model.safetensors", "vocab.json"):
        (tmp_path / name).write_text("damaged")
    with pytest.raises(UserError, match="cannot be read as a CLIP text model"):
        run(prepare(tmp_path / "outputs", "conditioning=text", f"conditioning.pretrained={tmp_path}").path)


def test_a_run_of_a_gpu_is_looked_at_without_one(finished, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(finished["euclidean"].path, tmp_path / "run")
    text = (folder / "config.yaml").read_text()
    assert "device: cpu" in text
    (folder / "config.yaml").write_text(text.replace("device: cpu", "device: cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert evaluate.main([f"run={folder}"]) == 0
    generate.main([f"run={folder}", "n=2", f"out={tmp_path / 'g.npz'}"])
    curvature.main([f"run={folder}", "images=100"])
    assert capsys.readouterr().out.count("the processor is used") == 3
    with pytest.raises(UserError, match="finds no working GPU here"):  # training is not
        run(prepare(tmp_path / "outputs", "hardware=gpu").path)
