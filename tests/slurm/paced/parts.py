"""What data and process are."""

import time
from pathlib import Path

import torch

from hldm.data import Dataset, InMemorySplit
from hldm.diffusion import FlowMatching
from paced.sections import Circles

POINTS = 400


def circles(settings: Circles) -> Dataset:
    """Points of noisy circles; the class is the circle."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(settings.rings).repeat_interleave(POINTS)
    labels = labels[torch.randperm(len(labels), generator=generator)]
    angle = 2 * torch.pi * torch.rand(len(labels), generator=generator)
    radius = labels + 1 + 0.1 * torch.randn(len(labels), generator=generator)
    rows = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    n = len(rows) * 4 // 5
    return Dataset(
        name="circles",
        image_shape=(2,),
        class_names=tuple(str(ring) for ring in range(settings.rings)),
        train=InMemorySplit(rows[:n], labels[:n]),
        validation=InMemorySplit(rows[:0], labels[:0]),
        test=InMemorySplit(rows[n:], labels[n:]),
    )


class PacedFlow(FlowMatching):
    """A processor has nothing to do in the pauses, so that many runs may take them side by side."""

    def __init__(self, *, pause: float, until: str, **settings: str) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]  # the section has checked them
        self.pause = pause
        self.until = Path(until) if until else None

    def loss(self, *arguments, **named):
        end = time.monotonic() + self.pause
        while time.monotonic() < end and not (self.until and self.until.exists()):
            time.sleep(0.05)
        return super().loss(*arguments, **named)
