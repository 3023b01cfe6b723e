"""What runs take, counted for a plan: configurations as JSON on stdin → counts as JSON on stdout.

`python -m hldm.pipeline.counts` is a process of its own, since a plan is made without torch. Networks are built with
random weights, and sent through without numbers; nothing is trained. Images are looked at for their shape alone, and
files of data are not even opened where settings and names tell it.
"""

import json
import sys
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from hldm.config.dataset import Dataset as Section
from hldm.config.options import load_extensions
from hldm.config.schema import RunConfig
from hldm.console import run
from hldm.data import Dataset, Split
from hldm.data.streamed import MirroredSplit
from hldm.pipeline.build import build_dataset, build_model
from hldm.training.counts import count
from hldm.training.latents import form_of

CLASSES = 10
"""That files are taken to have before they are opened; more of them cost a row of an embedding each."""


class Blank(Split):
    """As many black images as a data set will have.

    Args:
        images: N; shape: of an image, (C, H, W).
    """

    def __init__(self, images: int, shape: tuple[int, ...]) -> None:
        self.labels, self.shape = torch.zeros(images, dtype=torch.long), shape

    def read(self, indices: Tensor) -> Tensor:
        return torch.zeros(len(indices), *self.shape, dtype=torch.uint8)


def stand_in(section: Section) -> Dataset:
    """A data set of the size that files will have, which are not opened: that may take hours, or fetch them first."""
    assert section.image_side is not None
    assert section.image_channels is not None
    assert section.training_images is not None
    shape = (section.image_channels, section.image_side, section.image_side)
    train, none = Blank(section.training_images, shape), Blank(0, shape)
    has_flips = getattr(section, "flips", False)  # of most that read files, but a section of one's own may lack them
    names = tuple(f"class {number}" for number in range(CLASSES))
    return Dataset("files", shape, names, MirroredSplit(train) if has_flips else train, none, none)


def counted(config: RunConfig) -> dict[str, Any]:
    """`hldm.training.counts.Counts` of a run, with "images", of training, and "latent_bytes", of all their latents."""
    section = config.dataset
    dataset = stand_in(section) if section.reads_files and section.is_sized else build_dataset(config)
    model = build_model(config, dataset).eval()
    form = form_of(model, dataset.train, config.training.latent_precision)
    return {**asdict(count(model)), "images": form.rows, "latent_bytes": form.bytes}


def main() -> None:
    """Answer."""
    load_extensions()
    configs = [RunConfig.model_validate(data) for data in json.load(sys.stdin)]
    print(json.dumps([counted(config) for config in configs]))


if __name__ == "__main__":
    sys.exit(run(main))
