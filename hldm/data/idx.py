"""Data sets in the idx format of http://yann.lecun.com/exdb/mnist: big-endian sizes, then the bytes."""

import gzip
import hashlib
import zlib
from pathlib import Path

import torch
from torch import Tensor

from hldm.config.dataset import MNIST
from hldm.data.dataset import Dataset, InMemorySplit
from hldm.errors import UserError

MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""md5 of each unpacked file: how it is packed does not matter."""


def mnist(settings: MNIST) -> Dataset:
    """The 70,000 handwritten digits of LeCun, Cortes and Burges, 1 × 28 × 28.

    The test split is the published test set; the validation split is the end of the published training set.

    Args:
        settings: the folder with the four idx files, packed (.gz) or not, None for the ones that come with the package;
            and how many images are set apart for validation.

    Raises:
        UserError: a file is missing, cannot be read or is not the published one.
    """
    folder = settings.folder
    root = Path(folder).expanduser() if folder is not None else Path(__file__).parent / "mnist_idx"
    train_images, train_labels, test_images, test_labels = (
        _parse_idx(_read(root, name, md5)) for name, md5 in MNIST_MD5.items()
    )
    images, labels = train_images.unsqueeze(1), train_labels.long()
    kept = len(images) - settings.validation_images
    return Dataset(
        name="mnist",
        image_shape=(1, 28, 28),
        class_names=tuple("0123456789"),
        train=InMemorySplit(images[:kept], labels[:kept]),
        validation=InMemorySplit(images[kept:], labels[kept:]),
        test=InMemorySplit(test_images.unsqueeze(1), test_labels.long()),
        class_words=("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    )


def _read(root: Path, name: str, md5: str) -> bytes:
    """The unpacked content of an idx file, checked."""
    remedy = "Leave out dataset.folder to use the bundled digits, or name a folder with the four original files."
    path = root / name
    if not path.is_file():
        path = root / f"{name}.gz"
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except FileNotFoundError:
        raise UserError(f"MNIST needs {name} or {name}.gz in {root}, which holds neither. {remedy}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}. {remedy}") from None
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise UserError(f"{path} is not the published MNIST file: its md5 is {found}, it should be {md5}. {remedy}")
    return content


def _parse_idx(content: bytes) -> Tensor:
    """uint8 tensor of the shape that the header states: two zeros, type 8 (uint8), number of axes, the axes."""
    axes = content[3]
    assert content[:3] == b"\x00\x00\x08"
    shape = [int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(axes)]
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * axes).view(shape)
