"""Panels of figures: what stands on their axes, and how far these go."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hldm.drawing import extent, new_figure
from hldm.study.comparison import CellFigures
from hldm.study.measures import PLACES, Figure
from hldm.study.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawn

PANEL = (62.0, 50.0)
"""Millimetres of one panel: three stand beside each other on a page."""

ACROSS = 3

FOOT = "means over seeds, bands and bars: 95 % intervals"

CUT = ", cut where they are much wider than what was measured lies apart"


def axis_label(one: Figure) -> str:
    """What is measured, and which way is better."""
    return one.measure.heading + (f" ({one.measure.better} is better)" if one.measure.better else "")


def panel_title(one: Figure, leading: str) -> str:
    """By which extractor, and with which guidance where that is not the run's own."""
    by = one.extractor or (leading if one.measure.rests_on in ("samples", "rebuilt") else "")
    return ", ".join(part for part in (f"features: {by}" if by else "", PLACES.get(one.place, "")) if part)


def beside_each_other(count: int, **how: Any) -> tuple["Drawn", list["Axes"]]:
    """A figure with so many panels, at most `ACROSS` beside each other."""
    across = min(ACROSS, count)
    rows = math.ceil(count / across)
    drawn = new_figure(max(PANEL[0] * across, 90), PANEL[1] * rows + 16)
    every = [drawn.add_subplot(rows, across, i + 1, **how) for i in range(count)]
    return drawn, every


def extent_of(one: Figure, there: Iterable[Interval], others: Iterable[float] = ()) -> tuple[float, float, bool]:
    """See `extent`; of means with their intervals, and of other values in the metric's own units."""
    intervals, scale = list(there), one.measure.scale
    ends = [scale * (i.mean + sign * i.margin) for i in intervals if i.margin is not None for sign in (-1, 1)]
    return extent([scale * v for v in (*(i.mean for i in intervals), *others)], ends, one.measure.bounds)


def extent_of_cells(
    one: Figure, cells: Sequence[CellFigures], others: Iterable[float] = ()
) -> tuple[float, float, bool]:
    """The same of cells and their runs."""
    runs = [value for cell in cells for value in cell.values.get(one.name, {}).values()]
    return extent_of(one, (cell.intervals[one.name] for cell in cells if one.name in cell.intervals), [*runs, *others])


def columns_of(
    points: Sequence[tuple[Any, Interval]], scale: float = 1.0
) -> tuple[list[Any], list[float], list[float | None]]:
    """(x, interval) → xs, means and margins."""
    margins = [None if there.margin is None else scale * there.margin for _, there in points]
    return [x for x, _ in points], [scale * there.mean for _, there in points], margins
