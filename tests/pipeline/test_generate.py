"""Samples on disk: the field's usual form, balanced, repeatable."""

import numpy as np
import pytest
import torch
from PIL import Image

from hldm.commands import generate
from hldm.errors import UserError
from hldm.metrics import DigitClassifier
from hldm.pipeline import run
from tests.pipeline.conftest import prepare


@pytest.fixture
def draw(finished, tmp_path, monkeypatch):
    def call(*arguments, run=None):
        run = run or finished["poincare"].path
        argv = [f"run={run}", *(a.format(tmp=tmp_path) for a in arguments)]
        generate.main(argv)
        return tmp_path

    return call


def test_npz(draw):
    with np.load(draw("n=45", "seed=3", "out={tmp}/a.npz") / "a.npz") as content:
        images, labels = content["arr_0"], content["arr_1"]
    assert images.shape == (45, 28, 28, 1)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    counts = np.bincount(labels, minlength=10)
    assert counts.max() - counts.min() <= 1


def test_the_seed_decides(draw):
    for name, seed in [("a", 3), ("b", 3), ("c", 4)]:
        folder = draw("n=10", f"seed={seed}", f"out={{tmp}}/{name}.npz")
    a, b, c = (np.load(folder / f"{name}.npz")["arr_0"] for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_one_label_as_a_grid(draw):
    folder = draw("n=13", "label=7", "out={tmp}/sevens.png")
    with Image.open(folder / "sevens.png") as picture:
        assert picture.size == (2 * (10 * 30 + 2), 2 * (2 * 30 + 2))
    with np.load(draw("n=5", "label=7", "out={tmp}/sevens.npz") / "sevens.npz") as content:
        assert content["arr_1"].tolist() == [7] * 5


def test_a_column_of_each_class_has_its_name(draw):
    with Image.open(draw("n=12", "out={tmp}/a.png") / "a.png") as picture:
        assert picture.text["Columns"].split() == list("0123456789")
    with Image.open(draw("n=12", "guidance=0", "out={tmp}/a.png") / "a.png") as picture:
        assert "Columns" not in picture.text  # no label decided about them


def test_a_run_without_labels_is_sampled_until_there_are_enough(outputs, draw, monkeypatch, capsys):
    """A fake classifier that sees a class in how bright a picture is, so that a tiny model has some of it."""
    unconditional = prepare(outputs, "conditioning=none")
    run(unconditional.path)

    def brightness(self, images):
        bright = images.float().mean((1, 2, 3))
        is_seven = (bright > bright.median()).float().unsqueeze(1)
        return images.flatten(1).float(), 7 * is_seven * (torch.arange(10) == 7)

    monkeypatch.setattr(DigitClassifier, "forward", brightness)
    folder = draw("n=12", "label=7", "seed=2", "out={tmp}/a.npz", run=unconditional.path)
    with np.load(folder / "a.npz") as content:
        images, labels = content["arr_0"], content["arr_1"]
    assert images.shape == (12, 28, 28, 1)
    assert labels.tolist() == [7] * 12
    assert "those of 40 that digits takes for class 7" in " ".join(capsys.readouterr().out.split())
    draw("n=40", "seed=2", "out={tmp}/all.npz", run=unconditional.path)
    every = np.load(folder / "all.npz")["arr_0"]
    order = every.reshape(40, -1).mean(1)
    assert np.array_equal(images, every[order > np.median(order)][:12])
    monkeypatch.setattr(
        DigitClassifier, "forward", lambda self, x: (x.flatten(1).float(), torch.eye(10)[0].expand(len(x), -1))
    )
    with pytest.raises(UserError, match=r"Of \d+ samples, 0 look like class 7"):
        draw("n=1", "label=7", "out={tmp}/b.npz", run=unconditional.path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["label=10"], "label=10 is not a class of mnist"),
        (["out=samples.jpg"], "out=grid.png"),
        (["out={tmp}/absent/a.png"], "there is no folder"),
        (["out={tmp}/folder.png"], r"folder\.png is a folder\. Name a file"),
        (["n=0"], "no samples"),
        (["n=ten"], "whole number"),
        (["count=3"], "not understood"),
    ],
)
def test_wrong_arguments(draw, arguments, message, tmp_path):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=message):
        draw(*arguments)


def test_a_missing_run(draw, tmp_path):
    with pytest.raises(UserError, match="names no runs"):
        draw(run=tmp_path)
