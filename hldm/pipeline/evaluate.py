"""Every final number and picture of a run, from its weights alone."""

import hashlib
import math
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hldm.autoencoder import TrainableAutoencoder
from hldm.autoencoder.base import Encoded
from hldm.config.metrics import Metrics
from hldm.config.schema import RunConfig
from hldm.config.training import Stage
from hldm.config.weights import check_vgg_weights
from hldm.data import Dataset
from hldm.errors import UserError
from hldm.geometry import LearnableCurvature
from hldm.images import to_uint8, to_unit
from hldm.metrics import (
    predictive_entropy,
    reconstruction_metrics,
)
from hldm.model import LatentDiffusion, LatentModel
from hldm.pipeline.bound import evidence_bound
from hldm.pipeline.build import build
from hldm.pipeline.latent_picture import write_latents
from hldm.pipeline.latents import latent_metrics
from hldm.pipeline.pictures import MOST_COLUMNS, save_grid
from hldm.pipeline.samples import Results, decoded, evaluate_samples
from hldm.pipeline.stopwatch import Stopwatch
from hldm.run.directory import MODEL, RunDirectory
from hldm.run.provenance import begun_with, provenance
from hldm.training import LPIPS, batch_indices, encode, ranks, settled, settling, stream
from hldm.training.latents import images_at_once

VERSIONS = ("torch", "torchvision", "diffusers", "torch-fidelity", "numpy", "scipy")
"""Packages whose version can move a number."""


def evaluate_run(
    model: LatentModel,
    dataset: Dataset,
    config: RunConfig,
    directory: RunDirectory,
    sampling_seeds: list[int] | None = None,
    stopwatch: Stopwatch | None = None,
    pictures: Path | None = None,
) -> dict[str, Any]:
    """Everything that results.json holds. Bit for bit the same on the same machine, versions, threads and batch size.

    Args:
        sampling_seeds: seeds of the drawn samples; by default those of `metrics`. Metrics of samples are means over
            them; with two or more, `<name>_seed_sd` is their standard deviation.
        stopwatch: takes the seconds of each part.
        pictures: folder for the picture that needs the drawn samples, neighbours.png; None: it is not drawn.
    """
    settings, seed = config.metrics, config.seed
    stopwatch = stopwatch or Stopwatch()
    classifier = None if settings.classifier is None else build(settings.classifier).to(model.device)
    seeds = sampling_seeds or list(settings.sampling_seeds)
    of_samples = Results({}, {}, {}, {"sampling_seeds": []})
    if settings.extractors:
        picture = None if pictures is None else pictures / "neighbours.png"
        of_samples = evaluate_samples(model, dataset, classifier, config, seeds, stopwatch, picture)
    with stopwatch.part("first stage"):
        metrics = of_samples.metrics | first_stage_metrics(model, dataset, classifier, settings, seed)
    if settings.likelihood is not None:
        likelihood = build(settings.likelihood)
        test_images = to_unit(dataset.test.first(likelihood.images).to(model.device))
        with stopwatch.part("likelihood"), ranks.whole():
            metrics |= likelihood(model.autoencoder, test_images, stream(seed, "likelihood", 0, model.device))
    per_image: dict[str, list[float]] = {}
    if isinstance(model, LatentDiffusion):
        if isinstance(c := model.denoiser.curvature, LearnableCurvature):
            metrics |= {"denoiser_curvature": float(c()), **settled("denoiser_curvature", c)}
        if config.bound_images:
            with stopwatch.part("bound"), ranks.whole():  # it takes derivatives by what networks are given
                bound = evidence_bound(
                    model, dataset, images=config.bound_images, steps=settings.likelihood_steps, seed=seed
                )
            metrics |= bound.metrics
            per_image |= bound.per_image
    with stopwatch.part("others"):
        metrics |= other_metrics(model, dataset, settings, seed)
    return {
        "run": directory.path.name,
        "metrics": metrics,
        "per_sampling_seed": of_samples.per_sampling_seed,
        "curves": of_samples.curves,
        "per_image": per_image,
        "provenance": {
            **of_samples.provenance,
            "parameters": parameter_counts(model),
            "data": dataset.fingerprint,
            "data_order": data_order(config, len(dataset.train)),
            "weights": hashlib.sha256((directory.path / MODEL).read_bytes()).hexdigest(),
            "threads": torch.get_num_threads(),
            **({"ranks": ranks.size()} if ranks.size() > 1 else {}),
            "machine": machine(model.device),
            "versions": {package: version(package) for package in VERSIONS},
            **provenance(directory.status.get("command")),
            **begun_with(directory.status.get("code") or {}),
        },
    }


def other_metrics(model: LatentModel, dataset: Dataset, settings: Metrics, seed: int) -> dict[str, float]:
    """What the metrics of one's own give, each with a random stream of its own.

    Raises:
        UserError: one gives a number that is not finite, or under a name that there is already.
    """
    found: dict[str, float] = {}
    for section in settings.others:
        measured = build(section)(model, dataset, stream(seed, f"metric/{section.target}", device=model.device))
        for name, value in measured.items():
            if name in found or not math.isfinite(value):
                raise UserError(
                    f"{section.target} gives {name}={value}, and a metric is a finite number with a name of its own."
                )
            found[name] = float(value)
    return found


def parameter_counts(model: LatentModel) -> dict[str, int]:
    """Part → number of its parameters, of the parts that have any."""
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    return {name: count for name, count in counts.items() if count}


@torch.no_grad()
def first_stage_metrics(
    model: LatentModel, dataset: Dataset, classifier: Any, settings: Metrics, seed: int
) -> dict[str, float]:
    """Reconstruction error, what else this kind of autoencoder is judged by, and the hierarchy of the latents."""
    autoencoder, images = model.autoencoder, dataset.test.first(settings.first_stage_images)
    means: dict[str, Tensor] = {}
    mse, locs, scales, draws, rebuilt = 0.0, [], [], [], []
    at_once = images_at_once(autoencoder.image_shape)
    for i in range(0, len(images), at_once):
        batch = to_unit(images[i : i + at_once].to(model.device))
        encoded = autoencoder.encode(batch)
        loc, weight = encoded.loc, len(batch) / len(images)
        locs.append(loc)
        if encoded.scale is not None:
            scales.append(encoded.scale)
        draws.append(autoencoder.draw(encoded, stream(seed, "draws", i, model.device)))
        if isinstance(autoencoder, TrainableAutoencoder):
            terms = autoencoder.test_terms(batch, encoded, stream(seed, "elbo", i, model.device))
            means = {name: means.get(name, 0.0) + term.double() * weight for name, term in terms.items()}
        decoded_batch = autoencoder.to_images(loc)
        mse += float((decoded_batch - batch).square().mean()) * weight
        if dataset.has_pictures:
            rebuilt.append(to_uint8(decoded_batch).cpu())

    against = {} if classifier is None else {"entropy": predictive_entropy(classifier, images)}
    whole = Encoded(torch.cat(locs), torch.cat(scales) if scales else None)
    hierarchy = latent_metrics(autoencoder, dataset, whole, torch.cat(draws), against, settings.hierarchy, seed)
    curvature = {f"curvature_{i}": float(c) for i, c in enumerate(autoencoder.manifold.curvatures())}
    curvature |= settling(autoencoder.manifold)
    figures = autoencoder.test_figures(means) if isinstance(autoencoder, TrainableAutoencoder) else {}
    if rebuilt:
        weights = settings.perceptual_weights
        distance = None if weights is None else LPIPS(check_vgg_weights(weights, metric=True)).to(model.device)
        figures |= reconstruction_metrics(images, torch.cat(rebuilt), distance)
    return {**figures, "reconstruction_mse": mse, **hierarchy, **curvature}


def draw_pictures(
    model: LatentModel, dataset: Dataset, config: RunConfig, path: Path
) -> tuple[list[np.ndarray], list[str]] | None:
    """samples.png (a column per class, of as many as fit), reconstructions.png (below originals); the latents.

    Returns:
        The first two rows of samples.png, uint8 (H, W) or (H, W, 3) each, and the label of each in words, "" where the
        model has none; None where there are no pictures.
    """
    drawn = None
    if dataset.has_pictures:
        columns = min(dataset.classes, MOST_COLUMNS)
        labels = torch.linspace(0, dataset.classes - 1, columns).round().long()
        samples = model.sample(labels.repeat(10).to(model.device), stream(config.seed, "picture", 0, model.device))
        names = [dataset.class_names[label] for label in labels] if model.uses_labels else []
        save_grid(path / "samples.png", samples, columns=columns, column_names=names)
        first = samples[: 2 * columns].cpu().permute(0, 2, 3, 1).squeeze(-1).numpy()
        drawn = list(first), 2 * (names or columns * [""])

        originals = dataset.test.first(30)
        rebuilt = decoded(model, encode(model, originals).loc)
        starts = range(0, len(originals), 10)
        rows = [row for i in starts for row in (originals[i : i + 10], rebuilt[i : i + 10])]
        beside = ["original", "reconstruction"] * len(starts)
        save_grid(path / "reconstructions.png", torch.cat(rows), columns=10, row_names=beside)

    shown = min(2000, config.metrics.first_stage_images)
    images, labels, nodes = dataset.test.first(shown), dataset.test.labels[:shown], dataset.test.nodes[:shown]
    if dataset.parents is not None:  # the nodes of a tree are drawn at the means of all their rows
        images = torch.cat([dataset.train.first(), images])
        labels, nodes = torch.cat([dataset.train.labels, labels]), torch.cat([dataset.train.nodes, nodes])
    *maps, (manifold, v) = model.autoencoder.layout.factors(encode(model, images).loc)
    part = "points beside the maps, " if maps else ""
    title = f"Latents of {dataset.name}, {part}{config.geometry.name}"
    write_latents(path, title, manifold, v, dataset, labels, nodes)
    return drawn


def data_order(config: RunConfig, total: int) -> str:
    """A digest of which images both stages see in which step: equal for runs that saw the same batches."""
    digest = hashlib.sha256()
    stages: dict[str, Stage | None] = {
        "first_stage": config.training.first_stage if config.first_stage is None else None,
        "diffusion": config.training.diffusion if config.has_diffusion else None,
    }
    for name, stage in ((name, stage) for name, stage in stages.items() if stage is not None):
        for step in range(stage.steps):
            digest.update(batch_indices(config.seed, name, step, stage.batch_size, total).numpy().tobytes())
    return digest.hexdigest()


def machine(device: torch.device) -> str:
    """The processor or GPU that computed the numbers."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
