"""A run directory → its results, resumed from wherever it was stopped."""

import math
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hldm.config.schema import NoTracker, RunConfig
from hldm.console import terminal
from hldm.data import Dataset
from hldm.errors import UserError
from hldm.files import remove_left_behind, write_atomically
from hldm.geometry import Curvature
from hldm.model import LatentDiffusion
from hldm.pipeline.build import (
    build_dataset,
    build_diffusion,
    build_model,
    choose_device,
    load_model,
    optimization,
    prepare_training,
)
from hldm.pipeline.evaluate import draw_pictures, evaluate_run
from hldm.pipeline.first_stage import carried_latent_scale, show_first_stage, train_first_stage
from hldm.pipeline.latent_cache import refuse_small_disk, training_latents
from hldm.pipeline.log import RunLog, StageLog, run_log
from hldm.pipeline.speed import speed_of
from hldm.pipeline.stopwatch import Stopwatch
from hldm.pipeline.validation import looks_at_diffusion
from hldm.run.directory import MODEL, RunDirectory
from hldm.run.identity import first_stage_folder, training_identity
from hldm.run.provenance import code, differs, provenance
from hldm.run.summary import print_metrics
from hldm.spaces import curvature_of
from hldm.tracking import JsonLines
from hldm.training import DiffusionStage, images_used, ranks, save_weights, stream, train
from hldm.training.checkpoint import damage, forget_states, remove_damaged

SCALE_IMAGES = 5000
"""About how many images of the second stage's first batches the latents' scale and pairing are measured on."""


def run(path: Path) -> dict[str, Any]:
    """Bring the run at `path` to its end and return its results.

    The directory holds config.yaml. What it already has is not done again: a trained first stage, a resume state, the
    final weights.

    Raises:
        UserError: another process works on the run, or one of its files is damaged.
        Stopped: the process was asked to stop, see `hldm.run.stop`; the next call goes on.
    """
    with ranks.group(), ExitStack() as held:
        directory = RunDirectory(path)
        # reading needs no write
        if (results := ranks.together(lambda: directory.finished)) is not None:
            return results
        ranks.together(lambda: held.enter_context(directory.lock()))
        # by another process meanwhile
        if (results := ranks.together(lambda: directory.finished)) is not None:
            return results
        return _run(directory if ranks.is_first() else beside(directory), path / MODEL)


def beside(directory: RunDirectory) -> RunDirectory:
    """A directory in which a rank other than the first writes what nobody reads, with the same configuration."""
    config = directory.config.model_copy(update={"tracking": NoTracker()})
    return RunDirectory.create(ranks.scratch() / directory.path.name, config)


def _run(directory: RunDirectory, weights: Path) -> dict[str, Any]:
    """Bring a run to its end, of which all ranks find the weights in one file."""
    config, path = directory.config, directory.path
    with directory.work(), run_log(directory, config) as log:
        device = choose_device(config.hardware)
        dataset = build_dataset(config)
        trained = training_identity(config).digest
        began = directory.status.get("code") or code()
        directory.update_status(training=trained, code=began)
        if sentence := differs(began):
            print(f"    this run was {sentence}", flush=True)
        remove_left_behind(path)
        remove_left_behind(path / "checkpoints")
        remove_damaged(path / MODEL)
        outputs = Path(config.paths.outputs)
        if not ranks.together(lambda: weights.is_file() or take_weights(directory, outputs, trained, log)):
            curvature = curvature_of(config.curvature)
            model = build_model(config, dataset, curvature).to(device)
            prepare_training(model, config)
            refuse_small_disk(model, dataset, config)
            with timed(directory, "first_stage"):
                train_first_stage(model, dataset, config, log)
            if isinstance(model, LatentDiffusion):
                model = on_learned_balls(model, dataset, config, curvature)
                with timed(directory, "diffusion"):
                    train_diffusion(model, dataset, config, path, log)
            ranks.together(lambda: save_weights(weights, model))
        forget_states(diffusion_state(path))
        ranks.check()
        if not ranks.is_first():
            copy_file(weights, path / MODEL)
        with timed(directory, "evaluation"):
            # from the file, as evaluate.py does it, so that both give the same numbers to the last bit
            model = load_model(config, dataset, path, device)
            with (stopwatch := Stopwatch()).part("pictures"):
                drawn = draw_pictures(model, dataset, config, path)
            results = evaluate_run(model, dataset, config, directory, stopwatch=stopwatch, pictures=path)
            directory.write_results(results)
        directory.update_status(evaluation_seconds=stopwatch.seconds)
        if stopwatch.words:
            print(f"    evaluation: {stopwatch.words}", flush=True)
        print_metrics(results["metrics"], terminal(), path / "results.json", is_short=True)
        for name in ("samples", "reconstructions", "latents", "neighbours"):
            if (picture := path / f"{name}.png").is_file():
                log.image(name, picture)
        if (latents := path / "latents.json").is_file():
            log.file(latents)
        if drawn is not None:
            log.samples(*drawn, config)
        log.curves(results["curves"])
        log.summary(results)
        # kilobytes on Linux, bytes on macOS
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        directory.update_status(peak_memory_mib=peak // 2**20, weights_bytes=(path / MODEL).stat().st_size)
    return results


def run_first_stage(path: Path) -> None:
    """Train the first stage that several runs share, as work of its own, so that none of them waits for another.

    Args:
        path: <outputs>/first_stages/<identity>, with the config.yaml of one of these runs.

    Raises:
        UserError: another process works on it.
    """
    with ranks.group():
        directory = RunDirectory(path)
        config = directory.config
        if first_stage_folder(config) != path:
            raise UserError(f"{path} is not the folder of this first stage, which is {first_stage_folder(config)}.")
        with ExitStack() as held:
            ranks.together(lambda: held.enter_context(directory.lock()))
            _run_first_stage(directory if ranks.is_first() else beside(directory), config)


def _run_first_stage(directory: RunDirectory, config: RunConfig) -> None:
    with directory.work():
        device = choose_device(config.hardware)
        dataset = build_dataset(config)
        model = build_model(config, dataset, curvature_of(config.curvature)).to(device)
        prepare_training(model, config)
        refuse_small_disk(model, dataset, config)
        with timed(directory, "first_stage"):
            train_first_stage(model, dataset, config, StageLog(directory), is_held=True)
        directory.write_results({"metrics": {}, "provenance": provenance(directory.status.get("command"))})


def take_weights(directory: RunDirectory, outputs: Path, trained: str, log: RunLog) -> bool:
    """Whether another run here was trained in the same way: its weights and curves are this run's then.

    So a run whose metrics, sampler or guidance were corrected is evaluated, not trained again. Version and commit of
    the code that trained it are in the other run's results.
    """
    twin = next((run for run in directory.others(outputs) if run.status.get("training") == trained), None)
    if twin is None or not (twin.path / MODEL).is_file():
        return False
    if reason := damage(twin.path / MODEL):
        print(f"    trained already as {twin.path.name}, but its weights are damaged ({reason})", flush=True)
        return False
    print(f"    trained already as {twin.path.name}: its weights are evaluated", flush=True)
    log.replay(JsonLines(twin.path / "metrics.jsonl").records())
    copy_file(twin.path / MODEL, directory.path / MODEL)
    show_first_stage(directory.config, log)
    return True


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    write_atomically(target, lambda file: shutil.copyfile(source, file))


def on_learned_balls(
    model: LatentDiffusion, dataset: Dataset, config: RunConfig, curvature: Curvature
) -> LatentDiffusion:
    """The model with its second stage built anew where embeddings lie on balls whose curvature has been learned."""
    if not (config.curvature.is_learnable and config.is_conditioned_on_balls):
        return model
    rebuilt = build_diffusion(config, dataset, model.autoencoder, curvature).to(model.device)
    ranks.share_rows(rebuilt.denoiser)
    prepare_training(rebuilt, config)
    return rebuilt


def train_diffusion(model: LatentDiffusion, dataset: Dataset, config: RunConfig, path: Path, log: RunLog) -> None:
    """Train denoiser and conditioning on the frozen autoencoder's latents."""
    training, seed, device = config.training, config.seed, model.device
    settings = training.diffusion
    assert settings is not None  # the check refuses a process without one
    model.autoencoder.eval().requires_grad_(False)
    model.denoiser.start()
    if not settings.steps:  # a published denoiser stays as it is, and the check asks for a scale
        model.fit_latents(torch.empty(0), scale=carried_latent_scale(config))
        return
    steps, batch_size, total = settings.steps, settings.batch_size, len(dataset.train)
    latents = training_latents(model, dataset, config, log)
    batches = min(steps, math.ceil(SCALE_IMAGES / batch_size))
    first = latents.rows(images_used(seed, DiffusionStage.name, batches, batch_size, total))
    noise = torch.randn(first.loc.shape, generator=stream(seed, "latent_scale", device=device), device=device)
    model.fit_latents(model.autoencoder.draw(first, noise), noise, carried_latent_scale(config))
    labels = dataset.train.labels.to(device)
    stage = DiffusionStage(model, latents, labels, seed=seed, batch_size=batch_size)
    looks, speed = None, speed_of(stage.name, model, config)
    if training.validate_every is not None:
        looks = looks_at_diffusion(stage, dataset, config, path, lambda picture: log.image("progress", picture))
        ranks.together(partial(looks.begin, diffusion_state(path), keeps_best=training.keep == "best"))
    averaged = train(
        stage,
        look=looks,
        **optimization(training, settings),
        ema_decay=settings.ema_decay,
        state_path=diffusion_state(path),
        on_start=lambda step: log.resume_at(stage.name, step),
        log=lambda step, figures: log.log(stage.name, step, log.with_speed(stage.name, speed, figures)),
        on_step=lambda step: log.progress(stage.name, step, steps),
        on_save=log.lines.sync,
    )
    stage.model.load_state_dict(averaged.state_dict())
    if looks is not None and training.keep == "best":
        ranks.together(looks.take_best)
        ranks.align(model)


def diffusion_state(path: Path) -> Path:
    """Where the resume state of a run's second stage is kept until its weights are written."""
    return path / "checkpoints" / "diffusion.resume.pt"


@contextmanager
def timed(directory: RunDirectory, name: str) -> Iterator[None]:
    """Add the seconds that the block takes to `seconds` in status.json; pieces of a resumed run add up."""
    start = time.monotonic()
    try:
        yield
    finally:
        seconds = dict(directory.status.get("seconds") or {})
        seconds[name] = round(seconds.get(name, 0.0) + time.monotonic() - start, 1)
        directory.update_status(seconds=seconds)
