"""A run that reads text: complete, resumable bit for bit, evaluated on a caption it never saw, asked in words."""

import numpy as np
import pytest
from PIL import Image

from hldm.commands import evaluate, generate
from hldm.config.metrics import Metrics
from hldm.errors import UserError
from hldm.pipeline import run
from hldm.training.stages import DiffusionStage
from tests.pipeline.conftest import curve, prepare, weights

TEXT = ["conditioning=text", "conditioning.channels=16", "geometry=poincare"]


@pytest.fixture(scope="module")
def text(outputs):
    directory = prepare(outputs, *TEXT)
    run(directory.path)
    return directory


@pytest.fixture
def draw(tmp_path, monkeypatch):
    def call(directory, *arguments):
        argv = [f"run={directory.path}", *arguments]
        generate.main(argv)

    return call


def test_results_say_what_was_asked_and_of_how_many_samples(text, finished):
    results = text.results
    assert results["provenance"]["caption_template"] == "a drawing of a handwritten {}"
    assert results["provenance"]["samples"] == 60
    assert 0 <= results["metrics"]["label_accuracy"] <= 1
    assert results["provenance"]["parameters"]["conditioning"] > 0
    of_classes = finished["poincare"].results["provenance"]
    assert "caption_template" not in of_classes
    assert "conditioning" not in of_classes["parameters"]


def test_a_stopped_run_resumes_bit_for_bit(text, tmp_path, monkeypatch):
    directory, loss = prepare(tmp_path, *TEXT), DiffusionStage.loss

    def stopped(self, k):
        if k == 3:
            raise KeyboardInterrupt
        return loss(self, k)

    with monkeypatch.context() as patch:
        patch.setattr(DiffusionStage, "loss", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(directory.path)
    run(directory.path)
    assert weights(directory) == weights(text)
    assert curve(directory) == curve(text)
    assert evaluate.differing(text.results, directory.results) == []


def test_a_prompt_draws_a_grid(text, draw, tmp_path):
    draw(text, "prompt=a handwritten seven", "n=16", "seed=0", f"out={tmp_path}/a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (2 * (10 * 30 + 2), 2 * (2 * 30 + 2))
    for name, prompt in [
        ("a", "a handwritten seven"),
        ("b", "A handwritten seven!"),
        ("c", "the digit one"),
        ("d", ""),
    ]:
        draw(text, f"prompt={prompt}", "n=4", "seed=0", f"out={tmp_path}/{name}.npz")
    drawn = {}
    for name in "abcd":
        with np.load(tmp_path / f"{name}.npz") as content:
            assert content.files == ["arr_0"]
            drawn[name] = content["arr_0"]
    assert np.array_equal(drawn["a"], drawn["b"])
    assert not np.array_equal(drawn["a"], drawn["c"])
    assert not np.array_equal(drawn["a"], drawn["d"])
    draw(text, "n=12", f"out={tmp_path}/labels.npz")
    with np.load(tmp_path / "labels.npz") as content:
        assert content["arr_1"].tolist() == [*range(10), 0, 1]


def test_what_a_run_cannot_be_asked(text, finished, draw, tmp_path):
    unconditional = prepare(tmp_path, "conditioning=none")
    unjudged = unconditional.config.model_copy(update={"metrics": Metrics(classifier=None)})
    with pytest.raises(UserError, match=r"without labels, and has no classifier to find them. Leave label= out"):
        generate.check_request(unjudged, "it", label=7, prompt=None)
    with pytest.raises(UserError, match=r"trained without text. Leave prompt= out"):
        draw(unconditional, "prompt=a seven")
    with pytest.raises(UserError, match=r"trained without text. Type label=….*conditioning=text"):
        draw(finished["poincare"], "prompt=a seven")
    with pytest.raises(UserError, match=r'trained with text. Type prompt="a handwritten …"'):
        draw(text, "label=7")
    with pytest.raises(UserError, match=r"'scribbled'.*It knows a, digit"):
        draw(text, "prompt=a scribbled seven", f"out={tmp_path}/a.png")
    assert not (tmp_path / "a.png").exists()


def test_labels_as_points_are_stored_and_resumed_bit_for_bit(tmp_path, outputs, monkeypatch):
    settings = ["conditioning.hyperbolic=true", "geometry=euclidean", "curvature=1"]
    straight, broken, loss = prepare(outputs, *settings), prepare(tmp_path, *settings), DiffusionStage.loss
    assert straight.path.name.startswith("euclidean-c1-s0-")
    run(straight.path)

    def stopped(self, k):
        if k == 3:
            raise KeyboardInterrupt
        return loss(self, k)

    with monkeypatch.context() as patch:
        patch.setattr(DiffusionStage, "loss", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(broken.path)
    run(broken.path)
    assert weights(broken) == weights(straight)
    assert evaluate.differing(straight.results, broken.results) == []
