"""Which figures of runs are compared, what they are called, and which way is better: one table.

A name in results.json is metric, extractor, place: `fid` (leading extractor, guidance as the run has it),
`fid_unlabelled` (another extractor), `fid_unguided`, `fid_unlabelled_best`.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

PLACES = {
    "unguided": "no guidance",
    "best": "best guidance",
    "best_steps": "best steps",
    "best_method": "best solver",
    "drawn": "from draws",
}
"""End of a name → how the images were drawn, in words; what is best is each run's own choice on validation."""

CURVES = {"best": "guidance", "best_steps": "steps", "best_method": "method"}
"""Place → the curve on which its value was chosen."""


@dataclass(frozen=True)
class Measure:
    """A metric as comparisons see it.

    Attributes:
        heading: what it is called.
        group: what it is about; comparisons are corrected for their number within a group.
        rests_on: which entries of a run's provenance decide whether two figures compare, see `comparable`.
        better: "" where neither way is.
        digits: decimals of a mean.
        effect: an effect that would matter, in units of the metric, or relative to the baseline's mean; a convention,
            for the words on how many seeds would show it.
        is_relative: which of the two.
        scale: that it is shown with: 100 for a share in per cent.
        least, most: what it can be, in units of the metric.
    """

    heading: str
    group: Literal["samples", "likelihood", "first stage"]
    rests_on: Literal["samples", "labels", "rebuilt", "images", "bound", "likelihood"]
    better: Literal["lower", "higher", ""]
    digits: int = 3
    effect: float = 0.1
    is_relative: bool = True
    scale: float = 1.0
    least: float = -math.inf
    most: float = math.inf

    @property
    def bounds(self) -> tuple[float, float]:
        """What it can be, as it is shown."""
        return self.scale * self.least, self.scale * self.most

    @property
    def arrow(self) -> str:
        """↓ or ↑, which way is better; "" where neither is."""
        return {"lower": "↓", "higher": "↑", "": ""}[self.better]


SHARE = {"least": 0.0, "most": 1.0}

MEASURES = {
    "fid": Measure("FID", "samples", "samples", "lower", least=0.0),
    "kid": Measure("KID", "samples", "samples", "lower", 4, 0.002, False),
    "precision": Measure("precision", "samples", "samples", "higher", 3, 0.01, False, **SHARE),
    "recall": Measure("recall", "samples", "samples", "higher", 3, 0.01, False, **SHARE),
    "label_accuracy": Measure("label accuracy, %", "samples", "labels", "higher", 1, 0.01, False, 100, **SHARE),
    "inception_score": Measure("IS", "samples", "samples", "higher", 2, 0.01, least=1.0),
    "density": Measure("density, 1 is best", "samples", "samples", "", 3, 0.01, False, least=0.0),
    "coverage": Measure("coverage", "samples", "samples", "higher", 3, 0.01, False, **SHARE),
    "elbo_flow": Measure("bound with diffusion, nats", "likelihood", "bound", "higher", 1, 1.0, False),
    "elbo_flow_rate": Measure("rate with diffusion, nats", "likelihood", "bound", "", 1, 1.0, False),
    "nll": Measure("−log p(x), nats", "likelihood", "likelihood", "lower", 2, 1.0, False),
    "reconstruction_fid": Measure("FID of reconstructions", "first stage", "rebuilt", "lower", least=0.0),
    "reconstruction_mse": Measure("reconstruction error", "first stage", "images", "lower", 4, least=0.0),
    "reconstruction_psnr": Measure("PSNR, dB", "first stage", "images", "higher", 2, 0.5, False),
    "reconstruction_ssim": Measure("SSIM", "first stage", "images", "higher", 3, 0.01, False, most=1.0),
    "elbo": Measure("bound with own prior, nats", "first stage", "images", "higher", 1, 1.0, False),
    # neither way is better: a lower rate with the same error is, and a higher one may buy a smaller error
    "elbo_kl": Measure("rate (KL), nats", "first stage", "images", "", 1, 1.0, False, least=0.0),
}
"""Metric → how it is compared, in the order of tables."""

HEADLINES = frozenset({
    "fid", "kid", "precision", "recall", "label_accuracy", "elbo_flow", "elbo_flow_rate", "nll", "reconstruction_fid",
    "reconstruction_mse", "elbo", "elbo_kl",
})  # fmt: skip
"""Metrics that a comparison gives a verdict on unless it is told others: fewer comparisons, more power."""


@dataclass(frozen=True)
class Figure:
    """A name in results.json, taken apart.

    Attributes:
        name: as it stands there.
        metric: of `MEASURES`.
        extractor: its short name, "" for the leading one.
        place: of `PLACES`, "" for the guidance that the run has.
    """

    name: str
    metric: str
    extractor: str = ""
    place: str = ""

    @property
    def measure(self) -> Measure:
        """How it is compared."""
        return MEASURES[self.metric]

    @property
    def heading(self) -> str:
        """As in "FID (unlabelled), best guidance"."""
        by = f" ({self.extractor})" if self.extractor else ""
        return f"{self.measure.heading}{by}" + (f", {PLACES[self.place]}" if self.place else "")

    @property
    def is_headline(self) -> bool:
        """FID counts at every guidance; the others where the run stands."""
        places = ("", "unguided", "best") if self.metric == "fid" else ("",)
        return self.metric in HEADLINES and self.place in places


def figure(name: str, extractors: Collection[str] = ()) -> Figure | None:
    """The figure of that name; None where it is none of `MEASURES`.

    Args:
        extractors: short names of those that do not lead.
    """
    rest, place = name, ""
    for end in PLACES:
        if name.endswith(f"_{end}"):
            rest, place = name.removesuffix(f"_{end}"), end
    for extractor in ("", *extractors):
        metric = rest.removesuffix(f"_{extractor}") if extractor else rest
        if metric in MEASURES and (metric != rest or not extractor):
            return Figure(name, metric, extractor, place)
    return None


def figures(names: Iterable[str], extractors: Collection[str] = ()) -> list[Figure]:
    """The figures among these names: by metric, then extractor, then place (none, best, as the run has it)."""
    found = {figure(name, extractors) for name in names} - {None}
    places, metrics, by = [*PLACES, ""], list(MEASURES), ["", *extractors]
    return sorted(
        (one for one in found if one),
        key=lambda one: (metrics.index(one.metric), by.index(one.extractor), places.index(one.place)),
    )
