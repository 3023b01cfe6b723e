"""A run directory → its results, resumed from wherever it was stopped."""

import math
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hldm.data import Dataset
from hldm.model import LatentDiffusion
from hldm.pipeline.build import (
    WEIGHTS,
    build_dataset,
    build_model,
    choose_device,
    compile_training,
    load_model,
    optimization,
)
from hldm.pipeline.evaluate import draw_pictures, evaluate
from hldm.pipeline.first_stage import carried_latent_scale, train_first_stage
from hldm.pipeline.log import RunLog, run_log
from hldm.study.comparison import print_metrics, terminal
from hldm.study.run_directory import RunDirectory
from hldm.training import DiffusionStage, encode, images_used, save_weights, stream, train

SCALE_IMAGES = 5000
"""About how many images of the second stage's first batches the latent scale is measured on."""


def run(path: Path) -> dict[str, Any]:
    """Bring the run at `path` to its end and return its results.

    The directory holds config.yaml. What it already has is not done again: a trained first stage, a resume state, the
    final weights.

    Raises:
        UserError: another process works on the run, or one of its files is damaged.
    """
    directory = RunDirectory(path)
    config = directory.config
    with directory.work(), run_log(directory, config) as log:
        device = choose_device(config)
        dataset = build_dataset(config)
        if not (path / WEIGHTS).is_file():
            model = build_model(config, dataset).to(device)
            if config["hardware"]["compile"]:
                compile_training(model)
            with timed(directory, "first_stage"):
                train_first_stage(model, dataset, config, log)
            if isinstance(model, LatentDiffusion):
                with timed(directory, "diffusion"):
                    train_diffusion(model, dataset, config, path, log)
            save_weights(path / WEIGHTS, model)
            diffusion_state(path).unlink(missing_ok=True)
        with timed(directory, "evaluation"):
            # from the file, as evaluate.py does it, so that both give the same numbers to the last bit
            model = load_model(config, dataset, path, device)
            draw_pictures(model, dataset, config, path)
            results = evaluate(model, dataset, config, path)
            directory.write_results(results)
        print_metrics(results["metrics"], terminal())
        for name in ("samples", "reconstructions", "latents"):
            if (picture := path / f"{name}.png").is_file():
                log.image(name, picture)
        log.summary(results["metrics"])
        # kilobytes on Linux, bytes on macOS
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        directory.update_status(peak_memory_mib=peak // 2**20)
    return results


def train_diffusion(model: LatentDiffusion, dataset: Dataset, config: dict[str, Any], path: Path, log: RunLog) -> None:
    """Train denoiser and conditioning on the frozen autoencoder's latents."""
    training, seed, device = config["training"], config["seed"], model.device
    settings = training["diffusion"]
    model.autoencoder.eval().requires_grad_(False)
    steps, batch_size, total = settings["steps"], settings["batch_size"], len(dataset.train_images)
    encoded = encode(model, dataset.train_images, images_used(seed, DiffusionStage.name, steps, batch_size, total))
    if (scale := carried_latent_scale(config)) is None:
        batches = min(steps, math.ceil(SCALE_IMAGES / batch_size))
        seen = images_used(seed, DiffusionStage.name, batches, batch_size, total)
        noise = stream(seed, "latent_scale", device=device)
        model.fit_latent_scale(model.autoencoder.draw(encoded.rows(seen), noise))
    else:
        model.latent_scale.copy_(scale)
    labels = dataset.train_labels.to(device)
    stage = DiffusionStage(model, encoded, labels, seed=seed, batch_size=batch_size)
    averaged = train(
        stage,
        **optimization(training, stage.name),
        ema_decay=settings["ema_decay"],
        state_path=diffusion_state(path),
        on_start=lambda step: log.resume_at(stage.name, step),
        log=lambda step, figures: log.log(stage.name, step, figures),
    )
    stage.model.load_state_dict(averaged.state_dict())


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
