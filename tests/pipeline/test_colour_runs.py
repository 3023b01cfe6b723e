"""Colour pictures of one's own, 32 × 32: judged by a file that the user has, without a classifier, or refused early."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Generator, Tensor

from hldm.config import fits, fits_samples
from hldm.config.compose import compose
from hldm.config.dataset import Dataset as DatasetSection
from hldm.config.schema import RunConfig
from hldm.data import Dataset, InMemorySplit
from hldm.errors import UserError
from hldm.metrics import FeatureExtractor
from hldm.pipeline import evaluate_run, load_model, run
from hldm.pipeline.build import build_dataset
from hldm.pipeline.samples import scores
from hldm.run.directory import RunDirectory
from tests.metrics.test_photographs import authors_state
from tests.pipeline.conftest import TINY


def colours(settings: DatasetSection) -> Dataset:
    """Noise around a colour for each of three classes."""
    generator = Generator().manual_seed(0)
    labels = torch.arange(240) % 3
    images = torch.randint(0, 120, (240, 3, 32, 32), generator=generator)
    images[torch.arange(240), labels] += 130
    split = InMemorySplit(images.to(torch.uint8), labels)
    empty = InMemorySplit(split.images[:0], labels[:0])
    names = ("red", "green", "blue")
    return Dataset("colours", (3, 32, 32), names, train=split, validation=empty, test=split)


@pytest.fixture
def section(monkeypatch: pytest.MonkeyPatch) -> DatasetSection:
    monkeypatch.setattr(DatasetSection, "options", dict(DatasetSection.options))

    class Colours(DatasetSection, target="tests.pipeline.test_colour_runs.colours"):
        """It does not say how large its pictures are, as it reads them from a folder."""

    return Colours()


def directory(outputs: Path, section: DatasetSection, *overrides: str) -> RunDirectory:
    config = compose([*TINY, "autoencoder.padded_side=32", f"paths.outputs={outputs}", *overrides])
    return RunDirectory.create(outputs / "main" / "run", config.model_copy(update={"dataset": section}))


def test_a_run_is_judged_by_dinov2_and_without_a_classifier(
    tmp_path: Path, section: DatasetSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hldm.metrics.photographs.DINOV2_SIDE", 56)  # quicker
    weights = tmp_path / "dinov2.pth"
    torch.save(authors_state(), weights)
    settings = ["metrics=dinov2", f"metrics.weights={weights}", "metrics.memorisation=true"]
    made = directory(tmp_path, section, *settings)
    results = run(made.path)
    assert results["metrics"]["fid"] > 0
    assert {"memorisation_share", "memorisation_ratio_pixels"} <= results["metrics"].keys()
    assert results["metrics"]["reconstruction_psnr"] > 0
    assert -1 <= results["metrics"]["reconstruction_ssim"] <= 1
    assert "reconstruction_lpips" not in results["metrics"]
    assert (made.path / "neighbours.png").stat().st_size > 100
    # features of the real images wait for the next run of the sweep, which finds the same numbers by them
    kept = sorted((tmp_path / "references").iterdir())
    assert len(kept) == 1  # training images are the test images here
    dataset = build_dataset(made.config)
    model = load_model(made.config, dataset, made.path, torch.device("cpu"))
    assert evaluate_run(model, dataset, made.config, made)["metrics"] == results["metrics"]
    assert sorted((tmp_path / "references").iterdir()) == kept
    assert "label_accuracy" not in results["metrics"]
    assert "classifier" not in results["provenance"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            [],
            r"metrics\.extractors=\[digits,unlabelled\] look at grey pictures of 28 × 28.* in 3 channels\. Type metr",
        ),
        (
            ["metrics.extractors=[pixels]"],
            r"The classifier judges grey pictures of 28 × 28.*Type metrics\.classifier=null",
        ),
    ],
)
def test_what_sees_digits_only_is_refused_before_anything_is_trained(
    tmp_path: Path, section: DatasetSection, settings: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        run(directory(tmp_path, section, *settings).path)
    assert not (tmp_path / "first_stages").exists()


def test_what_a_section_knows_is_refused_before_its_data_are_read(section: DatasetSection) -> None:
    class Known(DatasetSection, target="tests.known"):
        image_side: ClassVar[int] = 28
        image_channels: ClassVar[int] = 3

    def said(config: RunConfig) -> str:
        return "\n".join(fits.problems(config))

    base = compose([])
    assert said(base) == ""
    assert "28 × 28 in 3 channels" in said(base.model_copy(update={"dataset": Known()}))
    without = base.metrics.model_copy(update={"extractors": (), "classifier": None})
    assert said(base.model_copy(update={"dataset": Known(), "metrics": without})) == ""


def test_classes_have_enough_samples_to_be_judged_each() -> None:
    metrics = compose(["metrics.per_class=true", "metrics.samples=640"]).metrics
    (said,) = fits_samples.class_samples(metrics, 10)
    assert "64 of each of 10 classes" in said
    assert "metrics.samples=650 or more" in said
    assert list(fits_samples.class_samples(metrics.model_copy(update={"samples": 650}), 10)) == []
    assert list(fits_samples.class_samples(metrics.model_copy(update={"per_class": False}), 10)) == []


class Means(FeatureExtractor):
    """The mean of each channel."""

    name, sha256, accuracy = "means", "none", None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = images.float().mean((2, 3)) / 255
        return features, features[:, :0]


def test_classes_are_judged_each_where_that_is_asked_for(section: DatasetSection, tmp_path: Path) -> None:
    data, asked = colours(section), torch.arange(60) % 3
    samples = data.test.first(60).clone()
    samples[asked == 2] = samples[asked == 2].flip(1)  # blue ones are red
    for per_class in (True, False):
        config = compose([f"metrics.per_class={str(per_class).lower()}", f"paths.outputs={tmp_path}"])
        found = scores(samples, asked, data, data.test.first(), Means(), None, config, is_leading=True)
        assert ("fid_class_blue" in found) is per_class
        if per_class:
            assert found["fid_class_blue"] > 20 * found["fid_class_red"]
    assert "fid_class_red" not in scores(samples, None, data, data.test.first(), Means(), None, config, is_leading=True)
