"""Every final number and picture of a run, from its weights alone."""

import hashlib
import math
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import torch
from rich.progress import Progress, track
from torch import Tensor, nn

from hldm.autoencoder import TrainableAutoencoder
from hldm.conditioning import Subjects
from hldm.config.metrics import Metrics
from hldm.config.schema import RunConfig
from hldm.config.training import Stage
from hldm.data import Dataset
from hldm.errors import UserError
from hldm.geometry import LearnableCurvature
from hldm.images import to_uint8, to_unit
from hldm.metrics import (
    FeatureExtractor,
    balanced_draw,
    curvature_reach,
    frechet_distance,
    image_metrics,
    latent_hierarchy,
    outputs,
    predictive_entropy,
    real_floor,
)
from hldm.model import LatentDiffusion, LatentModel
from hldm.pipeline.bound import evidence_bound
from hldm.pipeline.build import build
from hldm.pipeline.pictures import MOST_COLUMNS, save_grid, save_latents
from hldm.run.directory import MODEL, RunDirectory
from hldm.run.provenance import provenance
from hldm.training import batch_indices, encode, stream

VERSIONS = ("torch", "torchvision", "diffusers", "torch-fidelity", "numpy", "scipy")
"""Packages whose version can move a number."""


def sample_images(model: LatentModel, subjects: Subjects, *, seed: int, batch_size: int) -> Tensor:
    """One uint8 image per label or prompt, (N, C, H, W) on the CPU. The noise depends on seed and batch only."""
    subjects = subjects.to(model.device) if isinstance(subjects, Tensor) else subjects
    batches = range(0, len(subjects), batch_size)
    images = [
        model.sample(subjects[i : i + batch_size], stream(seed, "sampling", i, model.device)).cpu()
        for i in track(batches, description="    sampling", transient=False)
    ]
    return torch.cat(images)


def samples_taken_for(
    label: int, n: int, model: LatentModel, classifier: nn.Module, *, seed: int, batch_size: int
) -> tuple[Tensor, int]:
    """Samples of a model that knows no labels: the first n that the classifier takes for `label`, and how many it took.

    Returns:
        uint8 images (n, C, H, W), and the number of images that were looked at.

    Raises:
        UserError: fewer than one sample in a thousand is taken for it.
    """
    kept: list[Tensor] = []
    found, looked_at = 0, 0
    nothing = torch.zeros(batch_size, dtype=torch.long, device=model.device)  # what such a model is asked for
    with Progress() as progress:
        task = progress.add_task("    sampling", total=n)
        while found < n:
            if looked_at >= 1000 * (n + 1):
                raise UserError(f"Of {looked_at} samples, {found} look like class {label}. Ask for another class.")
            images = model.sample(nothing, stream(seed, "sampling", looked_at, model.device)).cpu()
            _, logits = outputs(classifier, images, batch_size)
            kept.append(images[logits.argmax(1) == label])
            found, looked_at = found + len(kept[-1]), looked_at + batch_size
            progress.update(task, completed=min(found, n))
    return torch.cat(kept)[:n], looked_at


def balanced_labels(n: int, classes: int) -> Tensor:
    """0, 1, …, classes − 1, 0, 1, …: shape (n,)."""
    return torch.arange(n) % classes


def evaluate_run(
    model: LatentModel,
    dataset: Dataset,
    config: RunConfig,
    directory: RunDirectory,
    sampling_seeds: list[int] | None = None,
) -> dict[str, Any]:
    """Everything that results.json holds. Bit for bit the same on the same machine, versions, threads and batch size.

    Args:
        sampling_seeds: seeds of the drawn samples; by default those of `metrics`. Metrics of samples are means over
            them; with two or more, `<name>_seed_sd` is their standard deviation.
    """
    settings, seed = config.metrics, config.seed
    classifier = None if settings.classifier is None else build(settings.classifier).to(model.device)
    seeds = sampling_seeds or list(settings.sampling_seeds)
    of_samples = Results({}, {}, {"sampling_seeds": []})
    if settings.extractors:
        of_samples = evaluate_samples(model, dataset, classifier, settings, seeds, seed)
    metrics = of_samples.metrics | first_stage_metrics(model, dataset, classifier, settings, seed)
    if settings.likelihood is not None:
        likelihood = build(settings.likelihood)
        test_images = to_unit(dataset.test.first(likelihood.images).to(model.device))
        metrics |= likelihood(model.autoencoder, test_images, stream(seed, "likelihood", 0, model.device))
    if isinstance(model, LatentDiffusion):
        if isinstance(c := model.denoiser.curvature, LearnableCurvature):
            metrics["denoiser_curvature"] = float(c())
        if settings.likelihood_images:
            metrics |= evidence_bound(model, dataset, settings, seed)
    metrics |= other_metrics(model, dataset, settings, seed)
    return {
        "run": directory.path.name,
        "metrics": metrics,
        "per_sampling_seed": of_samples.per_sampling_seed,
        "provenance": {
            **of_samples.provenance,
            "parameters": parameter_counts(model),
            "data": dataset.fingerprint,
            "data_order": data_order(config, len(dataset.train)),
            "weights": hashlib.sha256((directory.path / MODEL).read_bytes()).hexdigest(),
            "threads": torch.get_num_threads(),
            "machine": machine(model.device),
            "versions": {package: version(package) for package in VERSIONS},
            **provenance(directory.status.get("command")),
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


class Results(NamedTuple):
    """What a part of the evaluation adds to results.json."""

    metrics: dict[str, float]
    per_sampling_seed: dict[str, dict[str, float]]
    provenance: dict[str, Any]


def evaluate_samples(
    model: LatentModel, dataset: Dataset, classifier: Any, settings: Metrics, seeds: list[int], seed: int
) -> Results:
    """Samples against the test images, one evaluation per sampling seed, beside what real images score."""
    extractors = build_extractors(settings, model.device)
    n, batch_size = settings.samples, settings.sampling_batch_size
    labels, reference = balanced_labels(n, dataset.classes), dataset.test.first()
    per_seed = {}
    for sampling_seed in seeds:
        samples = sample_images(model, labels, seed=sampling_seed, batch_size=batch_size)
        conditional = labels if model.uses_labels else None
        per_seed[str(sampling_seed)] = {
            f"{name}{ending}": value
            for ending, extractor in extractors.items()
            for name, value in image_metrics(
                samples,
                None if ending else conditional,
                reference,
                extractor,
                None if ending else classifier,
                batch_size=batch_size,
                seed=seed,
            ).items()
        }
    metrics = {name: fmean(run[name] for run in per_seed.values()) for name in per_seed[str(seeds[0])]}
    if len(seeds) > 1:
        metrics |= {f"{name}_seed_sd": stdev(run[name] for run in per_seed.values()) for name in list(metrics)}
    real = dataset.train.read(balanced_draw(dataset.train.labels, n, seed))
    # what the first stage leaves of the floor's digits: no diffusion in its latents can be expected to do better
    rebuilt = reconstructions(model, real, batch_size)
    for ending, extractor in extractors.items():
        floor = real_floor(real, reference, extractor, seed=seed)
        metrics |= {f"{name}{ending}": value for name, value in floor.items()}
        features, _ = outputs(extractor, rebuilt, batch_size)
        expected = extractor.reference_features(reference, batch_size)
        metrics[f"reconstruction_fid{ending}"] = frechet_distance(features, expected)
    made_with: dict[str, Any] = {
        "samples": n,
        "sampling_seeds": seeds,
        "sampling_batch_size": batch_size,
        "network_evaluations": model.evaluations,
        "reference": f"{dataset.name} test images ({len(dataset.test)})",
        "extractors": [
            {"name": section.name, "sha256": extractor.sha256, "accuracy": extractor.accuracy}
            for section, extractor in zip(settings.extractors, extractors.values(), strict=True)
        ],
    }
    if classifier is not None:
        judge = {"name": classifier.name, "sha256": classifier.sha256, "accuracy": classifier.accuracy}
        made_with["classifier"] = judge
    if model.caption_template is not None:  # labels were asked for, and shown, by captions that training never saw
        made_with["caption_template"] = model.caption_template
    return Results(metrics, per_seed, made_with)


def build_extractors(settings: Metrics, device: torch.device) -> dict[str, FeatureExtractor]:
    """How the names of an extractor's metrics end → the extractor. Those of the leading one have plain names."""
    endings = ["", *(f"_{section.name}" for section in settings.extractors[1:])]
    return {ending: build(section).to(device) for ending, section in zip(endings, settings.extractors, strict=True)}


@torch.no_grad()
def reconstructions(model: LatentModel, images: Tensor, batch_size: int = 500) -> Tensor:
    """uint8 images as the autoencoder gives them back from their encoded locations: same shape, on the CPU."""
    loc = encode(model, images, batch_size=batch_size).loc
    return torch.cat([to_uint8(model.autoencoder.to_images(part)).cpu() for part in loc.split(batch_size)])


@torch.no_grad()
def first_stage_metrics(
    model: LatentModel, dataset: Dataset, classifier: Any, settings: Metrics, seed: int
) -> dict[str, float]:
    """Reconstruction error, what else this kind of autoencoder is judged by, and the hierarchy of the latents."""
    autoencoder, images = model.autoencoder, dataset.test.first(settings.first_stage_images)
    means: dict[str, Tensor] = {}
    mse, locs, draws = 0.0, [], []
    for i in range(0, len(images), 500):
        batch = to_unit(images[i : i + 500].to(model.device))
        encoded = autoencoder.encode(batch)
        loc, weight = encoded.loc, len(batch) / len(images)
        locs.append(loc)
        draws.append(autoencoder.draw(encoded, stream(seed, "draws", i, model.device)))
        if isinstance(autoencoder, TrainableAutoencoder):
            terms = autoencoder.test_terms(batch, encoded, stream(seed, "elbo", i, model.device))
            means = {name: means.get(name, 0.0) + term.double() * weight for name, term in terms.items()}
        mse += float((autoencoder.to_images(loc) - batch).square().mean()) * weight

    against = {} if classifier is None else {"entropy": predictive_entropy(classifier, images)}
    if (depths := dataset.depths) is not None:
        of_images = depths[dataset.test.nodes[: len(images)]]
        if of_images.min() < of_images.max():  # where all images lie at one depth there is nothing to follow
            against["depth"] = of_images
    *maps, (manifold, v) = autoencoder.layout.factors(torch.cat(locs))
    # what diffusion sees: a posterior may be wider than its means are apart
    *map_draws, drawn = autoencoder.layout.factors(torch.cat(draws))
    hierarchy = latent_hierarchy(
        manifold, v, against, seed=seed, points=settings.hierarchy.points, tries=settings.hierarchy.tries
    )
    hierarchy["sqrt_c_rms_drawn"] = curvature_reach(*drawn)["sqrt_c_rms"]
    for of_map, map_drawn in zip(maps, map_draws, strict=True):
        hierarchy |= {f"map_{name}": value for name, value in curvature_reach(*of_map).items()}
        hierarchy["map_sqrt_c_rms_drawn"] = curvature_reach(*map_drawn)["sqrt_c_rms"]
    curvature = {f"curvature_{i}": float(c) for i, c in enumerate(autoencoder.manifold.curvatures())}
    figures = autoencoder.test_figures(means) if isinstance(autoencoder, TrainableAutoencoder) else {}
    return {**figures, "reconstruction_mse": mse, **hierarchy, **curvature}


def draw_pictures(model: LatentModel, dataset: Dataset, config: RunConfig, path: Path) -> None:
    """samples.png (a column per class, of as many as fit), reconstructions.png (originals above); latents.png."""
    if dataset.has_pictures:
        columns = min(dataset.classes, MOST_COLUMNS)
        labels = torch.linspace(0, dataset.classes - 1, columns).round().long().repeat(10)
        samples = model.sample(labels.to(model.device), stream(config.seed, "picture", 0, model.device))
        save_grid(path / "samples.png", samples, columns=columns)

        originals = dataset.test.first(30)
        rebuilt = reconstructions(model, originals)
        rows = [row for i in range(0, len(originals), 10) for row in (originals[i : i + 10], rebuilt[i : i + 10])]
        save_grid(path / "reconstructions.png", torch.cat(rows), columns=10)

    shown = min(2000, config.metrics.first_stage_images)
    images, nodes = dataset.test.first(shown), dataset.test.nodes[:shown]
    if dataset.parents is not None:  # the nodes of a tree are drawn at the means of all their rows
        images, nodes = torch.cat([dataset.train.first(), images]), torch.cat([dataset.train.nodes, nodes])
    colours = nodes
    if (depths := dataset.depths) is not None:
        of_images = depths[nodes]
        colours = of_images if of_images.min() < of_images.max() else dataset.ancestors(1)[nodes]
    loc = encode(model, images).loc
    *_, (manifold, v) = model.autoencoder.layout.factors(loc)
    save_latents(path / "latents.png", manifold, v.cpu(), colours, nodes, dataset.parents)


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
