"""The bundled features without labels are what their file says, can be learned again, and see what samples may lack."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hldm.config.compose import compose
from hldm.config.dataset import MNIST
from hldm.data import Dataset, mnist
from hldm.errors import UserError
from hldm.metrics import DigitFeatures, UnlabelledFeatures, frechet_distance, outputs
from hldm.metrics.classifier import weights_sha256
from hldm.metrics.neighbours import nearest_labels
from hldm.metrics.unlabelled import BUNDLED_WEIGHTS
from hldm.training import unlabelled_digits
from hldm.training.digit_classifier import save_network
from hldm.training.unlabelled_digits import (
    VALIDATION_IMAGES,
    calibrated,
    contrastive_loss,
    correlation,
    probe_accuracy,
    train,
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return mnist(MNIST(validation_images=VALIDATION_IMAGES))


def test_the_header_says_what_the_weights_are(digits: Dataset) -> None:
    extractor = UnlabelledFeatures()
    assert extractor.sha256 == weights_sha256(load_file(BUNDLED_WEIGHTS)) == extractor.figures["sha256"]
    assert extractor.figures["command"] == "python -m hldm.training.unlabelled_digits --epochs 4 --seed 0"
    assert extractor.figures["threads"] == "1"
    assert BUNDLED_WEIGHTS.stat().st_size < 400_000
    # quality by labels that training never saw, of fewer digits than the header counts
    seen, unseen = (outputs(extractor, split.first(2500))[0] for split in (digits.train, digits.validation))
    labels, expected = digits.train.labels[:2500], digits.validation.labels[:2500]
    assert float(extractor.figures["neighbours_accuracy"]) > 0.97
    assert float(extractor.figures["probe_accuracy"]) > 0.96
    assert (nearest_labels(unseen, seen, labels, 5) == expected).double().mean() > 0.9
    assert probe_accuracy(seen, labels, unseen, expected) > 0.9
    # in units of the training digits' own spread
    assert seen.mean(0).abs().max() < 0.2
    assert (seen.std(0) - 1).abs().max() < 0.1


def test_it_sees_the_hand_where_the_classifier_sees_the_class(digits: Dataset) -> None:
    images, labels = digits.train.first(2000), digits.train.labels[:2000]
    reference = digits.validation.first(2000)
    altered = {
        "none": images,
        "blurred": F.avg_pool2d(images.float(), 3, 1, 1).round().to(torch.uint8),
        "thicker": F.max_pool2d(images.float(), 2, 1, 1)[:, :, :28, :28].to(torch.uint8),
        "without eights": images[labels != 8],
        "malformed": torch.cat([images[:, :, :14], images.roll(1, 0)[:, :, 14:]], 2),
    }
    found = {}
    for extractor in (DigitFeatures(), UnlabelledFeatures()):
        real = outputs(extractor, reference)[0]
        fid = {name: frechet_distance(outputs(extractor, x)[0], real) for name, x in altered.items()}
        assert all(fid[name] > 1.1 * fid["none"] for name in altered if name != "none")
        found[extractor.name] = fid
    # the two err differently: what counts for more depends on who looks
    assert found["digits"]["without eights"] > 0.5 * found["digits"]["blurred"]
    assert found["unlabelled"]["without eights"] < 0.5 * found["unlabelled"]["blurred"]


def test_damaged_files_are_told_apart(tmp_path: Path) -> None:
    state = load_file(BUNDLED_WEIGHTS)
    with safe_open(BUNDLED_WEIGHTS, framework="pt") as file:
        metadata = file.metadata()
    state["head.1.weight"] = state["head.1.weight"] + 1e-6
    path = tmp_path / "other.safetensors"
    save_file(state, path, metadata=metadata)
    with pytest.raises(UserError, match="hash that its header states"):
        UnlabelledFeatures(str(path))
    state.pop("body.0.weight")
    save_file(state, path, metadata=metadata)
    with pytest.raises(UserError, match=r"other\.safetensors does not hold unlabelled features \(body\.0\.weight is"):
        UnlabelledFeatures(str(path))
    with pytest.raises(UserError, match=r"is not a file.*metrics\.extractors=\[digits,unlabelled\]"):
        UnlabelledFeatures(str(tmp_path / "absent.safetensors"))


def test_it_is_chosen_by_its_name() -> None:
    names = [extractor.name for extractor in compose(["metrics.extractors=[digits,unlabelled]"]).metrics.extractors]
    assert names == ["digits", "unlabelled"]


def test_training_is_deterministic_and_leaves_the_test_digits_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset
) -> None:
    monkeypatch.setattr(unlabelled_digits, "BATCH_SIZE", 32)
    images = digits.train.first(320)
    hashes = [
        save_network(train(images, epochs=1, seed=seed), tmp_path / f"{i}.safetensors")
        for i, seed in enumerate((0, 0, 1))
    ]
    assert hashes[0] == hashes[1] != hashes[2]
    extractor = UnlabelledFeatures(str(tmp_path / "0.safetensors"))
    features, logits = extractor(images[:5])
    assert features.shape == (5, 64)
    assert logits.shape == (5, 0)


def test_the_command_sees_no_test_digit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset) -> None:
    few = Dataset(
        "few",
        digits.image_shape,
        digits.class_names,
        train=digits.train,
        validation=digits.validation,
        test=None,  # type: ignore[arg-type]  # whoever looks at it fails
    )
    asked: list[MNIST] = []
    monkeypatch.setattr(unlabelled_digits, "mnist", lambda settings: asked.append(settings) or few)
    monkeypatch.setattr(unlabelled_digits, "BATCH_SIZE", 32)
    monkeypatch.setattr(digits.train, "images", digits.train.images[:640])
    monkeypatch.setattr(digits.train, "labels", digits.train.labels[:640])
    monkeypatch.setattr(digits.validation, "images", digits.validation.images[:100])
    monkeypatch.setattr(digits.validation, "labels", digits.validation.labels[:100])
    unlabelled_digits.main(["--epochs", "1", "--out", str(tmp_path / "made.safetensors")])
    assert asked[0].validation_images == 5000
    figures = UnlabelledFeatures(str(tmp_path / "made.safetensors")).figures
    assert 0.2 < float(figures["neighbours_accuracy"]) <= 1  # chance is .1


def test_losses_in_known_cases() -> None:
    a = torch.eye(4)[:2]
    # both views alike, others orthogonal: −log e^{1/T}/(e^{1/T} + 2)
    e = torch.tensor(1 / unlabelled_digits.TEMPERATURE).exp()
    assert contrastive_loss(a, a) == pytest.approx(float(-(e / (e + 2)).log()), rel=1e-4)
    assert contrastive_loss(a, a.flip(0)) > contrastive_loss(a, a)
    x = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))
    assert correlation(x) == pytest.approx(0, abs=2e-3)
    assert correlation(x[:, :1].expand(-1, 3) * torch.tensor([1.0, -2.0, 3.0])) == pytest.approx(2, rel=1e-4)


def test_calibration_is_of_the_images_themselves(digits: Dataset) -> None:
    images = digits.train.first(1000)
    network = calibrated(unlabelled_digits.UnlabelledNetwork(), images)
    features = network(images)
    assert torch.allclose(features.mean(0), torch.zeros(64), atol=1e-3)
    assert torch.allclose(features.var(0), torch.ones(64), atol=1e-2)
