"""A data set of noise in memory."""

import torch
from torch import Tensor

from hldm.data import Dataset, InMemorySplit


def in_memory(images: Tensor, labels: Tensor, classes: int = 10) -> Dataset:
    """A data set whose training and test images are the same, without any for validation."""
    split = InMemorySplit(images, labels)
    names = tuple(str(label) for label in range(classes))
    empty = InMemorySplit(images[:0], labels[:0])
    return Dataset("noise", tuple(images.shape[1:]), names, train=split, validation=empty, test=split)


def noise_digits(n: int) -> Dataset:
    """n uint8 images of 1 × 28 × 28 with labels 0, 1, …, 9, 0, …"""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return in_memory(images, torch.arange(n) % 10)
