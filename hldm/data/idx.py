"""Data sets in the idx format of http://yann.lecun.com/exdb/mnist: big-endian sizes, then the bytes."""

from pathlib import Path

import torch
from torch import Tensor

from hldm.config.dataset import MNIST
from hldm.config.idx_files import MNIST_MD5, read_idx
from hldm.data.dataset import Dataset, InMemorySplit


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
    root = Path(folder) if folder is not None else Path(__file__).parent / "mnist_idx"
    train_images, train_labels, test_images, test_labels = (parse_idx(read_idx(root, name)) for name in MNIST_MD5)
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


def parse_idx(content: bytes) -> Tensor:
    """uint8 tensor of the shape that the header states: two zeros, type 8 (uint8), number of axes, the axes."""
    axes = content[3]
    assert content[:3] == b"\x00\x00\x08"
    shape = [int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(axes)]
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * axes).view(shape)
