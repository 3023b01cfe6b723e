"""The bundled digits are the published ones, and a wrong folder is explained."""

import gzip
import os
import shutil
from pathlib import Path

import pytest
import torch

from hldm.config.dataset import MNIST
from hldm.data import Dataset, mnist
from hldm.data import idx as idx_module
from hldm.errors import UserError

BUNDLED = Path(idx_module.__file__).parent / "mnist_idx"


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return mnist(MNIST())


def in_folder(path: Path) -> MNIST:
    return MNIST(folder=str(path))


def test_shapes_and_types(digits: Dataset) -> None:
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (60_000, 0, 10_000)
    assert digits.train.labels.shape == (60_000,)
    assert digits.test.labels.shape == (10_000,)
    for split in (digits.train, digits.validation, digits.test):
        images = split.first(5)
        assert images.dtype == torch.uint8
        assert images.shape[1:] == digits.image_shape == (1, 28, 28)
        assert split.labels.dtype == torch.int64
    assert digits.classes == 10
    assert digits.class_names[7] == "7"
    assert digits.class_words[7] == "seven"
    assert digits.has_pictures
    assert digits.depths is None


def test_content_is_the_published_one(digits: Dataset) -> None:
    # counts of LeCun's page and of every textbook; the mean pixel is the well-known 0.1307
    assert digits.train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert digits.test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert digits.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert digits.train.first().double().mean().item() / 255 == pytest.approx(0.1307, abs=1e-4)


def test_validation_is_the_end_of_the_training_set(digits: Dataset) -> None:
    parted = mnist(MNIST(validation_images=5000))
    assert (len(parted.train), len(parted.validation), len(parted.test)) == (55_000, 5000, 10_000)
    assert torch.equal(torch.cat([parted.train.first(), parted.validation.first()]), digits.train.first())
    assert torch.equal(torch.cat([parted.train.labels, parted.validation.labels]), digits.train.labels)
    assert parted.test.fingerprint == digits.test.fingerprint
    assert parted.fingerprint != digits.fingerprint


def test_folder_may_hold_packed_and_unpacked_files(tmp_path: Path, digits: Dataset) -> None:
    for packed in BUNDLED.glob("*.gz"):
        if packed.name.startswith("t10k"):
            (tmp_path / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
        else:
            shutil.copy(packed, tmp_path)
    again = mnist(in_folder(tmp_path))
    assert torch.equal(again.test.first(), digits.test.first())
    assert torch.equal(again.train.labels, digits.train.labels)
    assert again.fingerprint == digits.fingerprint


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.*dataset\.folder"):
        mnist(in_folder(tmp_path))


@pytest.mark.parametrize("damage", ["truncated", "not packed", "other content"])
def test_corrupt_file_is_an_error(tmp_path: Path, damage: str) -> None:
    for packed in BUNDLED.glob("*.gz"):
        shutil.copy(packed, tmp_path)
    victim = tmp_path / "t10k-labels-idx1-ubyte.gz"
    content = victim.read_bytes()
    changed = bytearray(gzip.decompress(content))
    changed[100] ^= 1
    victim.write_bytes(
        {"truncated": content[:-50], "not packed": b"hello", "other content": gzip.compress(bytes(changed))}[damage]
    )
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte"):
        mnist(in_folder(tmp_path))


@pytest.mark.skipif("HLDM_DATA" not in os.environ, reason="HLDM_DATA names no folder with the original MNIST files")
def test_a_folder_with_the_original_unpacked_files_gives_the_same(digits: Dataset) -> None:
    original = mnist(in_folder(Path(os.environ["HLDM_DATA"]) / "MNIST" / "raw"))
    assert original.fingerprint == digits.fingerprint


def test_as_many_images_can_be_drawn_as_the_section_says(digits: Dataset) -> None:
    """The promise of `floor_images` holds wherever validation begins, and it is not far from all there are."""
    counts = torch.nn.functional.one_hot(digits.train.labels, 10).cumsum(0)
    test = digits.test.labels.bincount()
    for validation_images in (0, 1, 2, 10, 100, *range(1000, 50_001, 1000)):
        section = MNIST(validation_images=validation_images)
        there = int((counts[section.training_images - 1] * len(digits.test.labels) // test).min())
        assert 0.95 * there < section.floor_images <= there
