"""The bundled classifier is what its file says, and can be trained again."""

import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hldm.config.dataset import MNIST
from hldm.data import mnist
from hldm.errors import UserError
from hldm.metrics import DigitClassifier, DigitFeatures, label_accuracy, predictive_entropy
from hldm.metrics.classifier import BUNDLED_WEIGHTS, weights_sha256
from hldm.training.digit_classifier import distorted, save_network, train


def test_accuracy_and_hash_are_the_recorded_ones() -> None:
    digits, classifier = mnist(MNIST()), DigitClassifier()
    measured = label_accuracy(classifier, digits.test.first(), digits.test.labels)
    # one image may fall on the other side of a tie on another processor
    assert measured == pytest.approx(classifier.accuracy, abs=1.5e-4)
    assert classifier.accuracy >= 0.993
    assert classifier.sha256 == weights_sha256(load_file(BUNDLED_WEIGHTS)) == DigitFeatures().sha256
    with safe_open(BUNDLED_WEIGHTS, framework="pt") as file:
        assert file.metadata()["command"] == "python -m hldm.training.digit_classifier --epochs 8 --seed 0"


def test_other_weights_have_another_hash(tmp_path: Path) -> None:
    state = load_file(BUNDLED_WEIGHTS)
    with safe_open(BUNDLED_WEIGHTS, framework="pt") as file:
        metadata = file.metadata()
    state["head.bias"] = state["head.bias"] + 1e-6
    save_file(state, tmp_path / "other.safetensors", metadata=metadata)
    with pytest.raises(UserError, match="hash that its header states"):
        DigitClassifier(str(tmp_path / "other.safetensors"))


def test_wrong_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a file.*metrics\.extractors=\[digits\]"):
        DigitClassifier(str(tmp_path / "absent.safetensors"))
    path = tmp_path / "wrong.safetensors"
    path.write_bytes(b"hello")
    with pytest.raises(UserError, match="does not hold a digit classifier"):
        DigitClassifier(str(path))
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="does not hold a digit classifier"):
        DigitClassifier(str(path))


def test_training_is_deterministic_and_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hldm.training.digit_classifier.BATCH_SIZE", 32)  # more steps from few images
    digits = mnist(MNIST())
    images, labels = digits.train.first(1280), digits.train.labels[:1280]
    networks = [train(images, labels, epochs=1, seed=seed) for seed in (0, 0, 1)]
    hashes = [
        save_network(network, tmp_path / f"{i}.safetensors", test_accuracy=0.5) for i, network in enumerate(networks)
    ]
    assert hashes[0] == hashes[1] != hashes[2]
    classifier = DigitClassifier(str(tmp_path / "0.safetensors"))
    assert classifier.accuracy == 0.5
    assert classifier.sha256 == hashes[0]
    assert label_accuracy(classifier, digits.test.first(1000), digits.test.labels[:1000]) > 0.3  # chance is 0.1


def test_distortion_moves_digits_but_keeps_them() -> None:
    images = mnist(MNIST()).test.first(200)
    moved = distorted(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert moved.dtype == torch.uint8
    assert not torch.equal(moved[0], images[0])
    ink = moved.double().sum() / images.double().sum()
    assert 0.9 < ink < 1.1


def test_entropy_of_sure_and_unsure_images() -> None:
    digits, classifier = mnist(MNIST()), DigitClassifier()
    clear = digits.test.first(500)
    # two digits on top of each other
    doubtful = torch.maximum(clear, clear.flip(0))
    sure, unsure = predictive_entropy(classifier, clear), predictive_entropy(classifier, doubtful)
    assert sure.shape == (500,)
    assert sure.min() >= 0
    assert unsure.max() <= math.log(10)
    assert unsure.mean() > 3 * sure.mean()
