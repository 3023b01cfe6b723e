"""The cells of a grid: runs that differ in their seed alone, and the figures that each of them has."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from hldm.config.schema import RunConfig
from hldm.study.plan import Point


@dataclass(frozen=True)
class Cell:
    """Runs of a grid that differ in their seed alone.

    Attributes:
        settings: setting → value, of the overrides that the runs share.
        config: the configuration of the first of them.
        first: the first cell of the grid, which the others are compared with; None for that one itself.
        runs: seed → figures, of the runs that have figures.
    """

    settings: Mapping[str, str]
    config: RunConfig
    first: Optional["Cell"] = None
    runs: dict[int, Mapping[str, Any]] = field(default_factory=dict)

    def figures(self, name: str, scale: float = 1.0) -> dict[int, float]:
        """Seed → figure of that name, of the runs that have it."""
        return {seed: scale * run[name] for seed, run in self.runs.items() if run.get(name) is not None}


def cells(plan: Iterable[Point], figures: Callable[[Point], Mapping[str, Any] | None]) -> list[Cell]:
    """The cells of a grid in the order of its points; a point that is an earlier point's run has no cell of its own.

    Args:
        plan: the points of the grid.
        figures: what is known of a point's run, None where nothing is.
    """
    found: dict[tuple[str, ...], Cell] = {}
    for point in plan:
        if point.original is not None:
            continue
        shared = tuple(part for part in point.overrides if not part.startswith("seed="))
        if shared not in found:
            settings = dict(part.split("=", 1) for part in shared)
            found[shared] = Cell(settings, point.config, next(iter(found.values()), None))
        if known := figures(point):
            found[shared].runs[point.config.seed] = known
    return list(found.values())
