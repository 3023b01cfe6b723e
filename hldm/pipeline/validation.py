"""What is looked at while a stage is trained: its loss on validation images, a picture, and the best weights so far.

<run>/progress/diffusion-000500.png     what was drawn after 500 steps, from the same noise each time
<run>/checkpoints/best.safetensors      the weights with the lowest loss on validation images, and best.json on them

A look changes nothing of the training: its noise has streams of its own, and the modules are left as they were.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn

from hldm.autoencoder import TrainableAutoencoder
from hldm.config.schema import RunConfig
from hldm.data import Dataset
from hldm.errors import UserError
from hldm.files import write_text_atomically
from hldm.images import to_uint8, to_unit
from hldm.model import LatentModel
from hldm.pipeline.pictures import save_grid
from hldm.training import DiffusionStage, encode, load_weights, save_weights, stream
from hldm.training.checkpoint import damage, forget_states

IMAGES = 512
"""Validation images that a look takes, at most."""

COLUMNS = 10
"""Of its picture, at most."""

LOSS = "validation_loss"


class Looks:
    """Looks at a stage every `training.validate_every` steps.

    Args:
        name: of the stage.
        losses: the mean loss of each batch of validation images, with the weights as they are; the noise is always the
            same.
        draw: a picture of what the weights as they are make: (images, columns); None where there are no pictures.
        weights: what is saved where it is the best.
        folder: of the pictures; best: of the best weights.
        show: given a picture.
    """

    def __init__(
        self,
        name: str,
        losses: Callable[[], Iterator[Tensor]],
        draw: Callable[[], tuple[Tensor, int]] | None,
        weights: nn.Module,
        *,
        folder: Path,
        best: Path,
        show: Callable[[Path], object],
    ) -> None:
        self.name, self.losses, self.draw, self.weights = name, losses, draw, weights
        self.folder, self.best, self.show = folder, best, show
        self.note = best.with_suffix(".json")
        self.least: float | None = None

    def begin(self, states: Path, *, keeps_best: bool) -> None:
        """Go on from the best weights that are there; damaged ones are said and removed.

        Args:
            states: resume state of the stage.
            keeps_best: the stage ends with the best weights. Where they are damaged it begins again, as it would not
                come by them once more.
        """
        if not (self.best.is_file() and self.note.is_file()):
            return
        try:
            least = float(json.loads(self.note.read_text())[LOSS])
            reason = damage(self.best)
        except (ValueError, TypeError, KeyError, OverflowError):
            reason = f"{self.note.name} cannot be read"
        if reason is None:
            self.least = least
            return
        then = "the stage begins again" if keeps_best else "are left out"
        print(f"    the best weights in {self.best} are damaged ({reason}), and {then}", flush=True)
        self.note.unlink()
        self.best.unlink()
        if keeps_best:
            forget_states(states)

    @torch.no_grad()
    def __call__(self, done: int) -> dict[str, float]:
        """Look after so many steps: what is logged."""
        figures = {}
        if losses := [float(loss) for loss in self.losses()]:
            figures[LOSS] = fmean(losses)
            if self.least is None or figures[LOSS] < self.least:
                save_weights(self.best, self.weights)
                write_text_atomically(self.note, json.dumps({"step": done, LOSS: figures[LOSS]}))
                self.least = figures[LOSS]
        if self.draw is not None:
            images, columns = self.draw()
            path = self.folder / f"{self.name}-{done:06d}.png"
            save_grid(path, images, columns=columns)
            self.show(path)
        return figures

    def take_best(self) -> None:
        """Load the best weights in place of the last ones."""
        load_weights(self.best, self.weights, remedy="Repeat the command, which trains the stage again.")


def looks_at_diffusion(
    stage: DiffusionStage, dataset: Dataset, config: RunConfig, path: Path, show: Callable[[Path], object]
) -> Looks:
    """Looks at a second stage: its loss on the latents of validation images, and samples.

    Raises:
        UserError: the best weights are asked for, and there is nothing to choose them on.
    """
    model, size, seed = stage.diffusion, stage.batch_size, config.seed
    images = validation_images(dataset, config)
    encoded = encode(model, images) if len(images) else None
    labels = dataset.validation.labels[: len(images)].to(model.device)

    def losses() -> Iterator[Tensor]:
        for first in range(0, len(images), size):
            rows = torch.arange(first, min(first + size, len(images)), device=model.device)
            assert encoded is not None
            yield stage.loss_of(encoded.rows(rows), labels[rows], stream(seed, "validation", first, model.device))

    def draw() -> tuple[Tensor, int]:
        columns = min(dataset.classes, COLUMNS) if dataset.classes > 1 else COLUMNS // 2
        asked = torch.linspace(0, dataset.classes - 1, columns).round().long().repeat(-(-20 // columns))
        return model.sample(asked.to(model.device), stream(seed, "progress", 0, model.device)), columns

    best = path / "checkpoints" / "best.safetensors"
    drawn = draw if dataset.has_pictures else None
    return Looks(stage.name, losses, drawn, model, folder=path / "progress", best=best, show=show)


def looks_at_first_stage(
    model: LatentModel, dataset: Dataset, config: RunConfig, path: Path, show: Callable[[Path], object]
) -> Looks:
    """Looks at a first stage: its loss on validation images, and some of them above what becomes of them.

    Raises:
        UserError: as in `looks_at_diffusion`.
    """
    autoencoder, size = model.autoencoder, config.training.first_stage.batch_size
    assert isinstance(autoencoder, TrainableAutoencoder)
    images = validation_images(dataset, config)

    def losses() -> Iterator[Tensor]:
        for first, part in zip(range(0, len(images), size), images.split(size), strict=True):
            noise = stream(config.seed, "validation", first, model.device)
            yield autoencoder.losses(to_unit(part.to(model.device)), noise).loss

    def draw() -> tuple[Tensor, int]:
        shown = (images if len(images) else dataset.train.first(COLUMNS))[:COLUMNS]
        rebuilt = autoencoder.to_images(autoencoder.encode(to_unit(shown.to(model.device))).loc)
        return torch.cat([shown.cpu(), to_uint8(rebuilt).cpu()]), len(shown)

    drawn = draw if dataset.has_pictures else None
    return Looks(
        "first_stage", losses, drawn, autoencoder, folder=path / "progress", best=path / "best.safetensors", show=show
    )


def validation_images(dataset: Dataset, config: RunConfig) -> Tensor:
    """Those that a look takes, (N, *image shape); none where there are none."""
    if not len(dataset.validation):
        if config.training.keep == "best":
            raise UserError(
                "training.keep=best chooses weights on validation images, and there are none. Type training.keep=last, "
                "or set images aside, as dataset.validation_images=5000 does."
            )
        return torch.empty(0, *dataset.image_shape)
    return dataset.validation.first(IMAGES)
