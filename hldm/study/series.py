"""The cells of a comparison as series along curvature: one per geometry, and per other setting that varies."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from hldm.study.cells import Cell
from hldm.study.comparison import CellFigures, Comparison


@dataclass(frozen=True)
class At:
    """A cell at its curvature.

    Attributes:
        c: minus the curvature; of a learned one the mean of where it ended, None where that is not known.
        is_learned: whether it was learned.
        figures: its means with intervals.
    """

    c: float | None
    is_learned: bool
    figures: CellFigures


@dataclass
class Series:
    """Cells that differ in their curvature alone.

    Attributes:
        name: as in "poincare" or "poincare steps=100".
        flat: the cell that no curvature acts on, None where there is none.
        curved: the others, by growing c.
    """

    name: str
    flat: CellFigures | None = None
    curved: list[At] = field(default_factory=list)


def series_name(cell: Cell, name: str) -> str:
    """The name of a cell without its curvature."""
    c = cell.config.curvature_words
    return name.replace(f" c={c}" if c[0].isdigit() else f" c {c}", "", 1)


def all_series(comparison: Comparison, cells: Sequence[Cell]) -> list[Series]:
    """In the order of the cells, the flat ones first: what the others are compared with."""
    found: dict[str, Series] = {}
    for cell, of in zip(cells, comparison.cells, strict=True):
        name = series_name(cell, of.name)
        one = found.setdefault(name, Series(name))
        config = cell.config
        if config.is_flat or (config.curvature.is_flat and not config.curvature.is_learnable):
            one.flat = of
        elif config.curvature.is_learnable:
            ends = [run.metrics["curvature_0"] for run in cell.runs.values() if run.metrics.get("curvature_0", 0) > 0]
            one.curved.append(At(fmean(ends) if ends else None, True, of))
        else:
            one.curved.append(At(config.curvature.value, False, of))
    for one in found.values():
        one.curved.sort(key=lambda at: at.c or 0.0)
    return sorted(found.values(), key=lambda one: not (one.flat and not one.curved))


def varies(series: Sequence[Series]) -> bool:
    """Whether there is anything to draw along curvature."""
    return len({at.c for one in series for at in one.curved if at.c and not at.is_learned}) > 1
