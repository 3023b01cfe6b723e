"""The bundled digits are the published ones, and a wrong folder is explained."""

import gzip
import os
import shutil
from pathlib import Path

import pytest
import torch

from hldm.data import Dataset, mnist
from hldm.data import idx as idx_module
from hldm.errors import UserError

BUNDLED = Path(idx_module.__file__).parent / "mnist_idx"


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return mnist()


def test_shapes_and_types(digits: Dataset) -> None:
    assert digits.train_images.shape == (60_000, 1, 28, 28)
    assert digits.test_images.shape == (10_000, 1, 28, 28)
    assert digits.train_images.dtype == digits.test_images.dtype == torch.uint8
    assert digits.train_labels.shape == (60_000,)
    assert digits.test_labels.shape == (10_000,)
    assert digits.train_labels.dtype == digits.test_labels.dtype == torch.int64
    assert digits.classes == 10
    assert digits.class_names[7] == "7"


def test_content_is_the_published_one(digits: Dataset) -> None:
    # counts of LeCun's page and of every textbook; the mean pixel is the well-known 0.1307
    assert digits.train_labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert digits.test_labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert digits.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert digits.train_images.double().mean().item() / 255 == pytest.approx(0.1307, abs=1e-4)


def test_folder_may_hold_packed_and_unpacked_files(tmp_path: Path, digits: Dataset) -> None:
    for packed in BUNDLED.glob("*.gz"):
        if packed.name.startswith("t10k"):
            (tmp_path / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
        else:
            shutil.copy(packed, tmp_path)
    again = mnist(str(tmp_path))
    assert torch.equal(again.test_images, digits.test_images)
    assert torch.equal(again.train_labels, digits.train_labels)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.*dataset\.folder"):
        mnist(str(tmp_path))


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
        mnist(str(tmp_path))


@pytest.mark.skipif("HLDM_DATA" not in os.environ, reason="HLDM_DATA names no folder with the original MNIST files")
def test_a_folder_with_the_original_unpacked_files_gives_the_same(digits: Dataset) -> None:
    original = mnist(str(Path(os.environ["HLDM_DATA"]) / "MNIST" / "raw"))
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert torch.equal(getattr(original, name), getattr(digits, name)), name
