"""What the data set is."""

import time

import torch
from torch import Tensor

from hldm.data import Dataset, InMemorySplit, Split
from paced.sections import Paced

POINTS = 400


class PacedSplit(Split):
    """A split in memory that takes a pause before each reading. The job's processor is free meanwhile."""

    def __init__(self, images: Tensor, labels: Tensor, pause: float) -> None:
        self.images, self.labels, self.pause = images, labels, pause

    def read(self, indices: Tensor) -> Tensor:
        time.sleep(self.pause)
        return self.images[indices]


def paced(settings: Paced) -> Dataset:
    """Points of noisy circles; the class is the circle."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(settings.rings).repeat_interleave(POINTS)
    labels = labels[torch.randperm(len(labels), generator=generator)]
    angle = 2 * torch.pi * torch.rand(len(labels), generator=generator)
    radius = labels + 1 + 0.1 * torch.randn(len(labels), generator=generator)
    rows = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    n = len(rows) * 4 // 5
    return Dataset(
        name="paced",
        image_shape=(2,),
        class_names=tuple(str(ring) for ring in range(settings.rings)),
        train=PacedSplit(rows[:n], labels[:n], settings.pause),
        validation=InMemorySplit(rows[:0], labels[:0]),
        test=InMemorySplit(rows[n:], labels[n:]),
    )
