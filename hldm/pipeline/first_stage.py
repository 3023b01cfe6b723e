"""The autoencoder, trained once for all runs that share it.

<outputs>/first_stages/<identity>/   autoencoder.safetensors, metrics.jsonl, and the resume state while it is trained
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from hldm.autoencoder import PublishedAutoencoder, TrainableAutoencoder
from hldm.config import training as sections
from hldm.config.published import is_run
from hldm.config.schema import RunConfig
from hldm.config.weights import check_vgg_weights
from hldm.data import Dataset, Split
from hldm.errors import Stopped
from hldm.files import remove_left_behind
from hldm.images import mean_image
from hldm.model import LatentModel
from hldm.pipeline.build import optimization
from hldm.pipeline.log import RunLog, timeless
from hldm.pipeline.speed import speed_of
from hldm.pipeline.validation import looks_at_first_stage
from hldm.run import stop
from hldm.run.directory import MODEL
from hldm.run.holder import Holder
from hldm.run.identity import FIRST_STAGE_WEIGHTS as WEIGHTS
from hldm.run.identity import first_stage_folder
from hldm.run.lease import LostError, held
from hldm.run.scheduler import is_scheduled
from hldm.tracking import JsonLines
from hldm.training import (
    LPIPS,
    DigitDistance,
    FirstStage,
    RealisticFirstStage,
    load_weights,
    ranks,
    save_weights,
    train,
)
from hldm.training.checkpoint import forget_states, remove_damaged

STATE = "resume.pt"

MEAN_OF = 10_000
"""First images, which are in a random order, whose mean a first stage begins from where images stream from a disk."""


def train_first_stage(
    model: LatentModel, dataset: Dataset, config: RunConfig, log: RunLog, *, is_held: bool = False
) -> None:
    """Train `model.autoencoder`, or take it from a run that has the same first stage.

    Runs that start at the same moment wait for the one that trains it; if that one is killed, the next goes on from
    its resume state. The loss curve appears in the log of every run that uses it.

    Args:
        is_held: whether the caller holds the folder of the first stage already.
    """
    if config.first_stage is not None:
        load_first_stage(Path(config.first_stage), model)
        return
    folder = first_stage_folder(config) if ranks.is_first() else ranks.scratch() / "first_stage"
    folder.mkdir(parents=True, exist_ok=True)
    weights, curve = folder / WEIGHTS, JsonLines(folder / "metrics.jsonl")

    def take() -> bool:
        """The autoencoder, where it is trained already."""
        remove_left_behind(folder)
        remove_damaged(weights)
        if weights.is_file():
            load_weights(weights, model.autoencoder)
            forget_states(folder / STATE)  # where whoever trained it was killed before it could
            log.replay(curve.records())
            log.first_stage(folder, weights, config)
        return weights.is_file()

    with ExitStack() as held_by_us:
        if not is_held:
            ranks.together(lambda: held_by_us.enter_context(waiting_lock(folder)))
        if ranks.together(take):
            ranks.align(model.autoencoder)
            return
        split = dataset.train.to(model.device)
        assert isinstance(model.autoencoder, TrainableAutoencoder)  # the check refuses others
        most = None if isinstance(split.whole(), Tensor) else MEAN_OF
        model.autoencoder.begin(mean_image(split.chunks(most)))
        stage = build_stage(model, split, config)
        state_path = folder / STATE

        def on_start(step: int) -> None:
            curve.rewind(stage.name, step)
            log.replay(curve.records())

        def record(step: int, figures: dict[str, float]) -> None:
            curve.log(step, timeless(figures), stage.name)
            log.log(stage.name, step, log.with_speed(stage.name, speed, figures))

        looks, speed = None, speed_of(stage.name, model, config)
        if config.training.validate_every is not None:
            show = partial(log.image, "progress_of_first_stage")
            looks = looks_at_first_stage(model, dataset, config, folder, show)
            ranks.together(partial(looks.begin, state_path, keeps_best=config.training.keep == "best"))
        train(
            stage,
            look=looks,
            **optimization(config.training, config.training.first_stage),
            ema_decay=None,
            state_path=state_path,
            on_start=on_start,
            log=record,
            on_step=lambda step: log.progress(stage.name, step, config.training.first_stage.steps),
            on_save=curve.sync,
        )
        if looks is not None and config.training.keep == "best":
            ranks.together(looks.take_best)
            ranks.align(model.autoencoder)
        save_weights(weights, model.autoencoder)
        forget_states(state_path)
        log.replay(curve.records())  # before what a run, whose first stage had to be trained again, has of its second
        log.first_stage(folder, weights, config)


def show_first_stage(config: RunConfig, log: RunLog) -> None:
    """Join a run whose weights another one trained with its first stage, where that is still there."""
    folder = first_stage_folder(config)
    if config.first_stage is None and (folder / WEIGHTS).is_file():
        with waiting_lock(folder):
            log.first_stage(folder, folder / WEIGHTS, config)


def build_stage(model: LatentModel, split: Split, config: RunConfig) -> FirstStage:
    """The stage, with what realism adds to its loss where that has a weight."""
    seed, settings = config.seed, config.training.first_stage
    if not settings.perceptual_weight and not settings.adversarial_weight:
        return FirstStage(model, split, seed=seed, batch_size=settings.batch_size)
    distance = build_distance(settings) if settings.perceptual_weight else None
    return RealisticFirstStage(model, split, settings, seed=seed, distance=distance)


def build_distance(settings: sections.FirstStage) -> nn.Module:
    """The perceptual distance that the settings of the first stage ask for."""
    if settings.uses_lpips:
        return LPIPS(check_vgg_weights(settings.perceptual_backbone))
    return DigitDistance()


def load_first_stage(path: Path, model: LatentModel) -> None:
    """Take the autoencoder, and its curvature where that was learned, from `first_stage`.

    Raises:
        UserError: its weights are damaged or of another architecture.
    """
    if not is_run(path):
        assert isinstance(model.autoencoder, PublishedAutoencoder)  # the check refuses others
        model.autoencoder.load(path)
        return
    load_weights(path / MODEL, nn.ModuleDict({"autoencoder": model.autoencoder}), part=True)


def carried_latent_scale(config: RunConfig) -> Tensor | None:
    """The latent scale that is set, or comes with `first_stage`, shape () or (2,); None where it is to be measured."""
    if (scale := config.diffusion.latent_scale) is not None:
        return torch.tensor(scale)
    if config.first_stage is None or not is_run(path := Path(config.first_stage)):
        return None
    with safe_open(path / MODEL, "pt") as file:
        return file.get_tensor("latent_scale") if "latent_scale" in file.keys() else None  # noqa: SIM118


WAIT_IN_A_JOB = 300.0
"""Seconds that a run waits for another one's first stage where a scheduler counts its time: it starts again later."""

SAY_EVERY = 300.0
"""Seconds between two lines of a run that waits."""


@contextmanager
def waiting_lock(folder: Path, what: str = "first stage") -> Iterator[None]:
    """Hold what runs share until the block ends. Says so where it has to wait for another run.

    Raises:
        Stopped: while it waits, this process was asked to, or has waited long in a scheduler's job; or the folder was
            taken over by another one while this one was frozen. Started again, the run takes what there is then.
    """
    next_line = 0.0

    def say(text: str) -> None:
        print(f"    {text}", flush=True)

    def wait(holder: Holder, waited: float) -> None:
        nonlocal next_line
        stop.check()
        if waited >= next_line:
            next_line = waited + SAY_EVERY
            does = "has trained this first stage" if what == "first stage" else "has encoded images"
            say(f"{holder} {does} since {holder.taken}; waiting for it ({folder.name})")
        if is_scheduled() and waited >= WAIT_IN_A_JOB:
            say(f"waited for {waited / 60:.0f} minutes; this job ends here, and goes on when it is started again")
            raise Stopped(f"the {what} is another run's work")

    try:
        with held(folder, say, wait):
            yield
    except LostError as error:
        if error.folder != folder:
            raise
        say(str(error))
        raise Stopped(f"the {what} is another run's work") from error
