"""Settings of the sampler as curves over validation images, from which a run takes its own best to the test images.

A setting that was chosen on one geometry favours it: at guidance 2 a ball may be ahead where flat space is at 1.5. So
every run draws samples at each value of a grid, all from the same noise, and holds them against validation images. What
is best is each extractor's to say, by the FID that it is reported with: decision 16 has why not by KID.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hldm.conditioning import ClassConditioning, TextConditioning
from hldm.config.fits_samples import MIN_SAMPLES
from hldm.config.schema import RunConfig
from hldm.data import Dataset, Split
from hldm.metrics import FeatureExtractor, image_metrics, labels_like
from hldm.metrics.images import Classes
from hldm.model import LatentDiffusion, LatentModel
from hldm.pipeline.build import build, references

UNGUIDED = "unguided"
"""Ending of metrics without guidance."""

BEST = {"guidance": "best", "steps": "best_steps", "method": "best_method"}
"""Curve → ending of metrics at the value that was best on it."""

DECIDES = "fid"
"""The metric whose least value is best."""


@dataclass(frozen=True)
class Setting:
    """How samples are drawn. None: as the run has it, so that what is drawn in one way is one setting."""

    guidance: float | None = None
    steps: int | None = None
    method: str | None = None

    @classmethod
    def of(cls, config: RunConfig, curve: str, value: Any) -> "Setting":
        """The setting in which one value is another one than the run's own."""
        own = {
            "guidance": getattr(config.conditioning, "guidance_scale", None),
            "steps": getattr(config.diffusion.sampler, "steps", None),
            "method": getattr(config.diffusion.sampler, "method", None),
        }
        return cls() if value == own[curve] else cls(**{curve: value})

    @property
    def words(self) -> str:
        """Such as "guidance 1.5"."""
        return ", ".join(f"{name} {value}" for name, value in vars(self).items() if value is not None)


@contextmanager
def drawn_with(setting: Setting, model: LatentModel, config: RunConfig) -> Iterator[None]:
    """The model draws samples in this way while the block lasts."""
    if setting == Setting():
        yield
        return
    assert isinstance(model, LatentDiffusion)
    conditioning, sampler = model.conditioning, model.sampler
    if setting.guidance is not None:
        assert isinstance(conditioning, ClassConditioning | TextConditioning)
        scale, conditioning.guidance_scale = conditioning.guidance_scale, setting.guidance
    other = {name: value for name in ("steps", "method") if (value := getattr(setting, name)) is not None}
    if other:
        assert config.diffusion.sampler is not None
        model.sampler = build(config.diffusion.sampler.model_copy(update=other))
    try:
        yield
    finally:
        model.sampler = sampler
        if setting.guidance is not None:
            assert isinstance(conditioning, ClassConditioning | TextConditioning)
            conditioning.guidance_scale = scale


def draw_curves(
    sample: Callable[[Setting, Tensor], Tensor],
    dataset: Dataset,
    config: RunConfig,
    extractors: Mapping[str, FeatureExtractor],
    classifier: nn.Module | None,
) -> dict[str, Any]:
    """The curves that the run has a use for, from the validation images alone.

    Args:
        sample: (setting, labels) → uint8 images, from the same noise in every call.
        extractors: how the names of an extractor's metrics end → the extractor.

    Returns:
        Curve → split, samples, images, points, and `best` with each extractor's ending: the value of its point with the
        least FID. A point has its `value` and the metrics of `image_metrics`, those of noise apart.
    """
    reference, n = dataset.validation.whole(), config.metrics.validation_samples
    if len(reference) < MIN_SAMPLES:
        return {}
    labels = labels_like(dataset.validation.labels, n)
    scored: dict[Setting, dict[str, float]] = {}
    curves: dict[str, Any] = {}
    for curve, values in config.curves.items():
        points = []
        for value in values:
            setting = Setting.of(config, curve, value)
            if setting not in scored:
                classes = (labels, dataset.validation.labels) if config.conditioning.takes_labels else None
                scored[setting] = _scores(sample(setting, labels), classes, reference, extractors, classifier, config)
            points.append({"value": value, **scored[setting]})
        best = {
            f"best{ending}": min(points, key=lambda point: point[f"{DECIDES}{ending}"])["value"]
            for ending in extractors
        }
        about = {"split": "validation", "samples": n, "images": len(reference)}
        curves[curve] = {**about, "points": points, **best}
    return curves


def _scores(
    samples: Tensor,
    classes: Classes | None,
    reference: Tensor | Split,
    extractors: Mapping[str, FeatureExtractor],
    classifier: nn.Module | None,
    config: RunConfig,
) -> dict[str, float]:
    found: dict[str, float] = {}
    for ending, extractor in extractors.items():
        judged = (classes[0], classifier) if not ending and classes else (None, None)
        metrics = image_metrics(
            samples,
            judged[0],
            reference,
            extractor,
            judged[1],
            classes=classes,
            batch_size=config.metrics.sampling_batch_size,
            seed=config.seed,
            cache=references(config),
        )
        found |= {f"{name}{ending}": value for name, value in metrics.items() if not name.endswith("_sd")}
    return found


def places(
    curves: Mapping[str, Any], config: RunConfig, extractors: Mapping[str, FeatureExtractor]
) -> dict[str, dict[str, Setting]]:
    """Where samples are held against the test images: how names of metrics end → each extractor's setting.

    As the run has it; without guidance; and at the best value of every curve, which each extractor has its own of.
    """
    found = {"": {ending: Setting() for ending in extractors}}
    if "guidance" in curves:
        found[f"_{UNGUIDED}"] = {ending: Setting.of(config, "guidance", 1.0) for ending in extractors}
    for curve, drawn in curves.items():
        chosen = {ending: Setting.of(config, curve, drawn[f"best{ending}"]) for ending in extractors}
        found[f"_{BEST[curve]}"] = chosen
    return found


def best_values(curves: Mapping[str, Any]) -> dict[str, float]:
    """best_guidance, best_guidance_<extractor>, best_steps, …: those that are numbers, for the metrics."""
    return {
        f"best_{curve}{name.removeprefix('best')}": float(value)
        for curve, drawn in curves.items()
        for name, value in drawn.items()
        if name.startswith("best") and not isinstance(value, str)
    }
