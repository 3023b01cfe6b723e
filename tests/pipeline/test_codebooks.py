"""Runs with a vector-quantised first stage: complete, resumable bit for bit with their codebook, reproducible."""

import math

import pytest
import torch
from safetensors.torch import load_file

from hldm.commands import evaluate
from hldm.pipeline import run
from hldm.training.stages import FirstStage
from tests.pipeline.conftest import curve, prepare, weights

VQ = [
    "autoencoder=vq",
    "autoencoder.codebook_size=32",
    "autoencoder.initial_batches=1",
    "autoencoder.revive_after=1",
]


def finish(outputs, *overrides):
    directory = prepare(outputs, *VQ, *overrides)
    run(directory.path)
    return directory


@pytest.mark.parametrize("codebook", ["gradient", "ema"])
@pytest.mark.parametrize("geometry", ["euclidean", "poincare", "hybrid"])
def test_a_run_leaves_everything_it_should_and_evaluation_reproduces_it(tmp_path, monkeypatch, geometry, codebook):
    directory = finish(tmp_path, f"geometry={geometry}", f"autoencoder.codebook={codebook}")
    metrics = directory.results["metrics"]
    assert metrics.keys() >= {"fid", "reconstruction_mse", "codebook_perplexity", "codebook_used", "sqrt_c_rms"}
    assert not {name for name in metrics if name.startswith("elbo")}
    assert all(math.isfinite(value) for value in metrics.values())
    assert 1 <= metrics["codebook_perplexity"] <= 32 * metrics["codebook_used"] <= 32
    figures = [record for record in curve(directory) if record["stage"] == "first_stage"]
    assert len(figures) == 6
    assert all(record.keys() >= {"loss", "reconstruction", "quantization", "perplexity"} for record in figures)
    saved = load_file(directory.path / "checkpoints" / "model.safetensors")
    assert saved["autoencoder.quantizer.codes"].shape == (32, 4)
    assert ("autoencoder.quantizer.mass" in saved) == (codebook == "ema")
    for name in ("samples.png", "reconstructions.png", "latents.png"):
        assert (directory.path / name).stat().st_size > 100, name
    argv = [f"run={directory.path}"]
    assert evaluate.main(argv) == 0


@pytest.mark.parametrize("codebook", ["gradient", "ema"])
def test_a_stopped_run_resumes_bit_for_bit(tmp_path, monkeypatch, codebook):
    # more codes than the points of a batch, so that some are idle and revived in every step
    choice = ("geometry=hybrid", f"autoencoder.codebook={codebook}", "autoencoder.codebook_size=1100")
    straight = finish(tmp_path / "straight", *choice)
    directory, loss = prepare(tmp_path / "stopped", *VQ, *choice), FirstStage.loss

    def stopped(self, k):
        if k == 3:
            raise KeyboardInterrupt
        return loss(self, k)

    with monkeypatch.context() as patch:
        patch.setattr(FirstStage, "loss", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(directory.path)
    [state_path] = (tmp_path / "stopped" / "first_stages").glob("*/resume.pt")
    state = torch.load(state_path, weights_only=True)["model"]
    assert int(state["quantizer.steps"]) == 2
    assert state["quantizer.idle"].any()
    assert codebook == "gradient" or state["quantizer.mass"].any()
    run(directory.path)
    assert weights(directory) == weights(straight)
    assert curve(directory) == curve(straight)
    assert evaluate.differing(straight.results, directory.results) == []


def test_a_learned_curvature(tmp_path):
    metrics = finish(tmp_path, "geometry=poincare", "curvature=learnable").results["metrics"]
    assert metrics["curvature_0"] not in (0, 1)
