"""How fast a stage is trained: images per second, and the share of the GPU's peak that the model's own work takes."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from hldm.config.gpus import GPUS, gpu_called
from hldm.config.schema import RunConfig
from hldm.model import LatentModel
from hldm.training import ranks
from hldm.training.counts import count

FIGURES = frozenset({"steps_per_second", "images_per_second", "mfu"})
"""What depends on the machine."""


@dataclass(frozen=True)
class Speed:
    """Steps per second as other figures.

    Attributes:
        batch_size: images of a step.
        flops: of one image, forwards and backwards; None where they were not counted.
        gpu: the model of the GPU, of `hldm.config.gpus`; None where it is not known.
        precision: number format of products.
    """

    batch_size: int
    flops: int | None = None
    gpu: str | None = None
    precision: str = "float32"

    def figures(self, steps_per_second: float) -> dict[str, float]:
        """images_per_second, and mfu where it can be known.

        mfu is model FLOPs utilisation (Chowdhery et al. 2022, appendix B): what is computed a second time, to save
        memory, does not count.
        """
        found = {"images_per_second": steps_per_second * self.batch_size}
        if self.flops is not None and self.gpu is not None:
            peak = GPUS[self.gpu].peak(self.precision) * ranks.size()
            found["mfu"] = found["images_per_second"] * self.flops / peak
        return found

    def with_speed(self, figures: Mapping[str, float]) -> dict[str, float]:
        """What is logged, with how fast it was."""
        return {**figures, **self.figures(figures["steps_per_second"])}

    def note(self, figures: Mapping[str, float]) -> dict[str, object]:
        """What status.json says, by which later plans know this GPU."""
        return {
            "gpu": self.gpu,
            "precision": self.precision,
            "flops": self.flops,
            **self.figures(figures["steps_per_second"]),
        }


def speed_of(stage: str, model: LatentModel, config: RunConfig) -> Speed:
    """The speed of a stage on the model's device; its work is counted where the peak of the device is known."""
    settings = getattr(config.training, stage)
    gpu = None
    if model.device.type == "cuda":
        found = torch.cuda.get_device_properties(model.device)
        gpu = gpu_called(found.name, found.total_memory / 1e9)
    taken = None if gpu is None else getattr(count(model), stage)
    return Speed(settings.batch_size, None if taken is None else taken.flops, gpu, config.training.precision)
