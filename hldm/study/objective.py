"""What a search judges a trial by: a figure of results.json, of validation images unless another was asked for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hldm.config.schema import RunConfig
from hldm.config.search import Search
from hldm.console import closest
from hldm.errors import UserError
from hldm.run.summary import at_best
from hldm.study.measures import MEASURES, figure

ON_TEST = (
    "Caution: search.split=test chooses settings by test images. What the search finds looks better on them than it "
    "is: quote no figure of its trials as a result."
)


@dataclass(frozen=True)
class Objective:
    """A figure, where it stands, and which way is better.

    Attributes:
        metric: its name.
        direction: which way is better.
        curve: the curve over validation images that it stands on, at the run's own best value; "" for test images.
    """

    metric: str
    direction: Literal["minimize", "maximize"]
    curve: str

    @classmethod
    def of(cls, config: RunConfig) -> "Objective":
        """What the search of this run is about.

        Raises:
            UserError: runs have no such figure, or it is not known which way is better.
        """
        assert config.search is not None
        search, names = config.search, [extractor.name for extractor in config.metrics.extractors[1:]]
        known = figure(search.metric, names)
        curve = ""
        if search.split == "validation":
            curve = _curve(config)
            there = [
                f"{name}{ending}"
                for ending in ("", *(f"_{other}" for other in names))
                for name, measure in MEASURES.items()
                if measure.group == "samples" and not (ending and name == "label_accuracy")
            ]
            if search.metric not in there:
                raise UserError(_unknown(search, there))
        if known is None and search.direction == "auto":
            raise UserError(
                f"search.metric={search.metric} is no figure of which it is known which way is better. If runs have "
                "it, say so: search.direction=minimize or maximize."
            )
        better = {"lower": "minimize", "higher": "maximize"}.get(known.measure.better if known else "", "auto")
        direction = better if search.direction == "auto" else search.direction
        if direction not in ("minimize", "maximize"):
            raise UserError(
                f"search.metric={search.metric}: neither way is better by itself. Type search.direction=minimize or "
                "maximize if one is for you."
            )
        return cls(search.metric, "minimize" if direction == "minimize" else "maximize", curve)

    def value(self, results: Mapping[str, Any]) -> float:
        """The figure of one run.

        Raises:
            UserError: it is not there, or no number.
        """
        figures = at_best(results.get("curves") or {}) if self.curve else results.get("metrics", {})
        found = figures.get(self.metric)
        if found is None:
            raise UserError(f"its results.json has no {self.metric} of {self.images}")
        if not math.isfinite(found):
            raise UserError(f"its {self.metric} is {found}")
        return float(found)

    @property
    def images(self) -> str:
        """Of what the figure is."""
        return "validation images" if self.curve else "test images"

    @property
    def words(self) -> str:
        """In words, such as "fid of validation images at each run's own best guidance, the smaller the better"."""
        place = f" at each run's own best {self.curve}" if self.curve else ""
        size = "smaller" if self.direction == "minimize" else "larger"
        return f"{self.metric} of {self.images}{place}, the {size} the better"

    def is_better(self, value: float, than: float) -> bool:
        """Whether one figure is better than another."""
        return value < than if self.direction == "minimize" else value > than


def _curve(config: RunConfig) -> str:
    """The curve over validation images that figures are taken from."""
    if curves := list(config.curves):
        return curves[0]
    if config.has_guidance and config.metrics.extractors and config.dataset.has_validation is not False:
        remedy = "Type metrics.guidance_scales=[1,1.5,2], or metrics.sampler_steps=[3,6], which draw some."
    elif config.has_diffusion and config.metrics.extractors and config.dataset.has_validation is not False:
        remedy = "Type metrics.sampler_steps=[3,6], which draws some."
    else:
        remedy = (
            "Type search.split=test to search by another figure of results.json, knowing that it is of test images."
        )
    raise UserError(f"These runs draw no samples beside validation images, so there is nothing to search by. {remedy}")


def _unknown(search: Search, there: list[str]) -> str:
    guess = closest(search.metric, there)
    hint = f" Did you mean search.metric={guess}?" if guess else ""
    return (
        f"search.metric={search.metric} is no figure of samples beside validation images.{hint} There are: "
        f"{', '.join(there)}. Other figures of results.json are of test images, which search.split=test allows."
    )
