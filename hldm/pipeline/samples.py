"""Samples of a trained model, and what they score against the test images beside real and rebuilt images."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import torch
from rich.progress import Progress, track
from torch import Tensor, nn

from hldm.conditioning import Subjects
from hldm.config.metrics import Metrics
from hldm.config.schema import RunConfig
from hldm.data import Dataset, Split
from hldm.errors import UserError
from hldm.images import to_uint8
from hldm.metrics import (
    FeatureExtractor,
    class_distances,
    draw_like,
    feature_metrics,
    frechet_distance,
    label_accuracy,
    labels_like,
    outputs,
    real_floor,
    sample_spread,
    share_spread,
)
from hldm.metrics.shares import KID_RULE, RULE
from hldm.model import LatentModel
from hldm.pipeline.build import build, references
from hldm.pipeline.copies import copy_metrics
from hldm.pipeline.curves import Setting, best_values, draw_curves, drawn_with, places
from hldm.pipeline.stopwatch import Stopwatch
from hldm.run import stop
from hldm.training import encode, ranks, stream

SHARES = ("label_accuracy", "precision")
"""Metrics that are the share of samples of which something is true."""


class Results(NamedTuple):
    """What a part of the evaluation adds to results.json."""

    metrics: dict[str, float]
    per_sampling_seed: dict[str, dict[str, float]]
    curves: dict[str, Any]
    provenance: dict[str, Any]


class Drawn(NamedTuple):
    """Samples and the latents that they were decoded from."""

    v: Tensor
    """(N, *latent shape) normal coordinates, on the model's device."""

    images: Tensor
    """uint8 (N, C, H, W), or float32 (N, D), on the CPU."""


def draw(
    model: LatentModel, subjects: Subjects, *, seed: int, batch_size: int, noise: str = "sampling", how: str = ""
) -> Drawn:
    """One sample per label or prompt. The noise depends on seed and batch only.

    Args:
        noise: name of the random stream.
        how: what the progress bar says of it.
    """
    subjects = subjects.to(model.device) if isinstance(subjects, Tensor) else subjects
    latents, images = [], []
    for i in track(range(0, len(subjects), batch_size), description=f"    sampling{how}", transient=False):
        stop.check()
        latents.append(model.sample_latents(subjects[i : i + batch_size], stream(seed, noise, i, model.device)))
        images.append(model.images(latents[-1]).cpu())
    return Drawn(torch.cat(latents), torch.cat(images))


def sample_images(
    model: LatentModel, subjects: Subjects, *, seed: int, batch_size: int, noise: str = "sampling", how: str = ""
) -> Tensor:
    """The images of `draw`, (N, C, H, W) on the CPU."""
    return draw(model, subjects, seed=seed, batch_size=batch_size, noise=noise, how=how).images


def samples_taken_for(
    label: int, n: int, model: LatentModel, classifier: nn.Module, *, seed: int, batch_size: int
) -> tuple[Drawn, int]:
    """Samples of a model that knows no labels: the first n that the classifier takes for `label`, and how many it took.

    Returns:
        n samples, and the number of images that were looked at.

    Raises:
        UserError: fewer than one sample in a thousand is taken for it.
    """
    kept: list[Drawn] = []
    found, looked_at = 0, 0
    nothing = torch.zeros(batch_size, dtype=torch.long, device=model.device)  # what such a model is asked for
    with Progress() as progress:
        task = progress.add_task("    sampling", total=n)
        while found < n:
            if looked_at >= 1000 * (n + 1):
                raise UserError(f"Of {looked_at} samples, {found} look like class {label}. Ask for another class.")
            v = model.sample_latents(nothing, stream(seed, "sampling", looked_at, model.device))
            images = model.images(v).cpu()
            _, logits = outputs(classifier, images, batch_size)
            rows = (logits.argmax(1) == label).cpu()
            kept.append(Drawn(v[rows.to(v.device)], images[rows]))
            found, looked_at = found + len(kept[-1].images), looked_at + batch_size
            progress.update(task, completed=min(found, n))
    latents, pictures = zip(*kept, strict=True)
    return Drawn(torch.cat(latents)[:n], torch.cat(pictures)[:n]), looked_at


def balanced_labels(n: int, classes: int) -> Tensor:
    """0, 1, …, classes − 1, 0, 1, …: shape (n,)."""
    return torch.arange(n) % classes


def build_extractors(settings: Metrics, device: torch.device) -> dict[str, FeatureExtractor]:
    """How the names of an extractor's metrics end → the extractor. Those of the leading one have plain names."""
    endings = ["", *(f"_{section.name}" for section in settings.extractors[1:])]
    return {ending: build(section).to(device) for ending, section in zip(endings, settings.extractors, strict=True)}


def evaluate_samples(
    model: LatentModel,
    dataset: Dataset,
    classifier: Any,
    config: RunConfig,
    seeds: list[int],
    stopwatch: Stopwatch,
    picture: Path | None = None,
) -> Results:
    """Curves over validation images, then samples against the test images, one evaluation per sampling seed, beside
    what real and rebuilt images score. All of them show classes as often as their reference does.

    Args:
        picture: where samples are drawn above the training images that they are nearest to.
    """
    settings, batch_size = config.metrics, config.metrics.sampling_batch_size
    extractors = build_extractors(settings, model.device)

    def sample(setting: Setting, labels: Tensor, seed: int = config.seed, noise: str = "validation") -> Tensor:
        how = f", {setting.words}" if setting.words else ""
        with drawn_with(setting, model, config):
            return sample_images(model, labels, seed=seed, batch_size=batch_size, noise=noise, how=how)

    with stopwatch.part("curves"):
        curves = draw_curves(sample, dataset, config, extractors, classifier)
    reference = dataset.reference.whole()
    labels = labels_like(dataset.reference.labels, settings.samples)
    wanted = places(curves, config, extractors)
    per_seed: dict[str, dict[str, float]] = {}
    copies: dict[str, float] = {}
    with stopwatch.part("samples"):
        for seed in seeds:
            scored = {}
            # what several places share is drawn once; the run's own way last, whose evaluations provenance counts
            different = dict.fromkeys(setting for chosen in wanted.values() for setting in chosen.values())
            for setting in sorted(different, key=lambda setting: setting == Setting()):
                samples = sample(setting, labels, seed, "sampling")
                if settings.memorisation and setting == Setting() and not copies:
                    leading, folder = extractors[""], references(config)
                    copies = copy_metrics(
                        samples,
                        dataset,
                        leading,
                        batch_size=batch_size,
                        seed=config.seed,
                        cache=folder,
                        picture=picture,
                    )
                for ending, extractor in extractors.items():
                    if setting in (chosen[ending] for chosen in wanted.values()):
                        asked = labels if model.uses_labels else None
                        scored[setting, ending] = scores(
                            samples, asked, dataset, reference, extractor, classifier, config, is_leading=not ending
                        )
            per_seed[str(seed)] = {
                _full_name(name, ending, place): value
                for place, chosen in wanted.items()
                for ending, setting in chosen.items()
                for name, value in scored[setting, ending].items()
            }
    metrics = {name: fmean(run[name] for run in per_seed.values()) for name in per_seed[str(seeds[0])]}
    if len(seeds) > 1:
        drawn = [name for name in metrics if "_sd" not in name]
        metrics |= {f"{name}_seed_sd": stdev(run[name] for run in per_seed.values()) for name in drawn}
    metrics |= best_values(curves) | copies
    with stopwatch.part("floor"):
        metrics |= floor(model, dataset, classifier, labels, reference, extractors, config)
    made_with: dict[str, Any] = {
        "samples": settings.samples,
        "sampling_seeds": seeds,
        "sampling_batch_size": batch_size,
        "network_evaluations": model.evaluations,
        "reference": dataset.reference_words,
        "rule": RULE,
        "kid": KID_RULE,
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
    return Results(metrics, per_seed, curves, made_with)


def _full_name(name: str, ending: str, place: str) -> str:
    """Metric, extractor, place, and at the very end what it is the noise of."""
    metric, noise, _ = name.partition("_bootstrap_sd")
    return f"{metric}{ending}{place}{noise}"


def scores(
    samples: Tensor,
    labels: Tensor | None,
    dataset: Dataset,
    reference: Tensor | Split,
    extractor: FeatureExtractor,
    classifier: nn.Module | None,
    config: RunConfig,
    *,
    is_leading: bool,
) -> dict[str, float]:
    """`image_metrics` with `<name>_bootstrap_sd`, how far they would move with other samples.

    By the leading extractor, and where samples were asked for with `labels`, also label accuracy and FID of classes.
    """
    batch_size, seed = config.metrics.sampling_batch_size, config.seed
    features, logits = ranks.divided(lambda own: outputs(extractor, own, batch_size), samples)
    expected = extractor.reference(reference, batch_size, references(config))
    classes = None if labels is None else (labels, dataset.reference.labels)
    found = feature_metrics(features, logits, expected, classes=classes, seed=seed)
    if is_leading and labels is not None and classifier is not None:
        found["label_accuracy"] = label_accuracy(classifier, samples, labels, batch_size)
    if is_leading and labels is not None and config.metrics.per_class:
        found |= class_distances(features, labels, expected.features, dataset.reference.labels, dataset.class_names)
    spread = sample_spread(features, logits, expected.features, seed=seed, classes=labels)
    spread |= {name: share_spread(found[name], len(samples)) for name in SHARES if name in found}
    return found | {f"{name}_bootstrap_sd": value for name, value in spread.items() if name in found}


def floor(
    model: LatentModel,
    dataset: Dataset,
    classifier: nn.Module | None,
    labels: Tensor,
    reference: Tensor | Split,
    extractors: Mapping[str, FeatureExtractor],
    config: RunConfig,
) -> dict[str, float]:
    """What real training images score in place of samples, and what the first stage leaves of these images.

    Returns:
        floor_<name> for every metric of samples; floor_label_accuracy is that of the test images, which the classifier
            has not seen either.
        reconstruction_fid: of the same images decoded from their posteriors' means. reconstruction_fid_drawn: from
            draws, which is what diffusion learns to make: no sample can be expected to do better.
    """
    batch_size, seed = config.metrics.sampling_batch_size, config.seed
    train = dataset.train.plain
    # where each caption is there once no class can be drawn as often as it should be
    rows = dataset.for_floor
    wanted, there = (labels, train.labels[rows]) if dataset.classes_repeat else (labels * 0, rows * 0)
    chosen = rows[draw_like(wanted, there, seed)]
    real = train.read(chosen)
    classes = (train.labels[chosen], dataset.reference.labels) if dataset.classes_repeat else None
    encoded = encode(model, real, batch_size=batch_size)
    drawn = model.autoencoder.draw(encoded, stream(seed, "reconstructions", 0, model.device))
    rebuilt = {"": decoded(model, encoded.loc, batch_size), "_drawn": decoded(model, drawn, batch_size)}
    found: dict[str, float] = {}
    for ending, extractor in extractors.items():
        scored = real_floor(
            real, reference, extractor, classes=classes, batch_size=batch_size, seed=seed, cache=references(config)
        )
        found |= {f"{name}{ending}": value for name, value in scored.items()}
        expected = extractor.reference_features(reference, batch_size)
        for how, images in rebuilt.items():
            features, _ = outputs(extractor, images, batch_size)
            found[f"reconstruction_fid{ending}{how}"] = frechet_distance(features, expected)
    if classifier is not None:
        found["floor_label_accuracy"] = label_accuracy(classifier, reference, dataset.reference.labels, batch_size)
    return found


@torch.no_grad()
def decoded(model: LatentModel, v: Tensor, batch_size: int = 500) -> Tensor:
    """uint8 images of latents v (N, *latent shape), on the CPU."""
    return torch.cat([to_uint8(model.autoencoder.to_images(part)).cpu() for part in v.split(batch_size)])
