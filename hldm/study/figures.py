"""Figures of a comparison for a paper: `write_figures` puts them into <study>/figures as PDF and PNG.

Nothing is computed here: means, intervals and curves are those of the `Comparison`.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from hldm.drawing import GREY, band, caption, legend, look, new_figure, plain, save, styled
from hldm.study.cells import Cell
from hldm.study.comparison import CellFigures, Comparison
from hldm.study.curve_figures import curves_figure, metrics_of
from hldm.study.measures import Figure
from hldm.study.panels import (
    ACROSS,
    CUT,
    FOOT,
    PANEL,
    axis_label,
    beside_each_other,
    columns_of,
    extent_of_cells,
    panel_title,
)
from hldm.study.series import Series, all_series, varies
from hldm.study.tiles import LATENTS, SAMPLES, places, write_sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawn

MOST_TICKS = 8

MOST_CELLS = 60
"""Lines of a figure in which each cell has one."""


def write_figures(
    comparison: Comparison,
    cells: Sequence[Cell],
    study: Path,
    folder: Path | None = None,
    kinds: Sequence[str] = ("pdf", "png"),
) -> list[Path]:
    """Write every figure that the comparison has the data for.

    Args:
        cells: what `comparison` is of, in the same order.
        study: folder of the runs.
        folder: where the figures go; None: to the folder figures/ beside the runs.
        kinds: pdf, png, svg.

    Returns:
        the files: `<metric>_against_curvature` (or `<metric>` where curvature does not vary), `precision_recall`,
        `<setting>_<metric>` for curves such as guidance, `samples`, `latents`.
    """
    series, folder = all_series(comparison, cells), folder or study / "figures"
    files: list[Path] = []
    for metric in dict.fromkeys(one.metric for one in comparison.figures):
        panels = [one for one in comparison.figures if one.metric == metric and _known(one, comparison)]
        if panels and varies(series):
            files += save(
                along_curvature(series, panels, comparison.leading), folder / f"{metric}_against_curvature", kinds
            )
        elif panels:
            files += save(by_cell(comparison.cells, panels, comparison.leading), folder / metric, kinds)
    if pairs := _precision_and_recall(comparison):
        files += save(precision_recall(series, pairs, comparison.leading), folder / "precision_recall", kinds)
    for setting in dict.fromkeys(curve.setting for curve in comparison.curves):
        for one in metrics_of(setting, comparison):
            files += save(curves_figure(comparison, cells, setting, one), folder / f"{setting}_{one.name}", kinds)
    for file in (SAMPLES, LATENTS):
        files += write_sheet(places(comparison, cells, study, file), folder / Path(file).stem, kinds)
    return files


def _known(one: Figure, comparison: Comparison) -> bool:
    return any(one.name in cell.intervals for cell in comparison.cells)


# ------------------------------------------------------------------------------------------------------------- figures


@styled()
def along_curvature(series: Sequence[Series], panels: Sequence[Figure], leading: str = "") -> "Drawn":
    """A measure against curvature: a line with its band for each geometry, flat space as a level with its band."""
    drawn, every = beside_each_other(len(panels), xscale="log", xlabel="curvature c")
    cells = [at.figures for of in series for at in of.curved if at.c] + [of.flat for of in series if of.flat]
    is_cut = False
    for axes, one in zip(every, panels, strict=True):
        scale = one.measure.scale
        for i, of in enumerate(series):
            if of.flat is not None and (level := of.flat.intervals.get(one.name)):
                name = of.name if not of.curved else f"{of.name}, flat"
                axes.axhline(scale * level.mean, color=look(i)["color"], linestyle="dashed", label=name)
                if level.margin is not None:
                    ends = [scale * (level.mean + sign * level.margin) for sign in (-1, 1)]
                    axes.axhspan(*ends, color=look(i)["color"], alpha=0.12, linewidth=0)
            fixed = [(at.c, at.figures.intervals[one.name]) for at in _at(of, one.name, learned=False)]
            if fixed:
                xs, means, margins = columns_of(fixed, scale)
                band(axes, xs, means, margins, label=of.name, **look(i))
            _seeds(axes, of, one, look(i)["color"])
            for at in _at(of, one.name, learned=True):
                there = at.figures.intervals[one.name]
                error = None if there.margin is None else scale * there.margin
                axes.errorbar(
                    [at.c], [scale * there.mean], error, fmt=look(i)["marker"], color=look(i)["color"], mfc="white",
                    label=f"{of.name}, c learned",
                )  # fmt: skip
        for score in (real := _real(one, cells)):
            axes.axhline(scale * score, color=GREY, linestyle="dotted", linewidth=1.0, label="real images")
        *ends, is_cut_here = extent_of_cells(one, cells, real)
        is_cut |= is_cut_here
        axes.set(ylabel=axis_label(one), title=panel_title(one, leading), ylim=ends)
        plain(axes, x=True, at=_ticks(series))
    legend(drawn)
    caption(drawn, FOOT + CUT * is_cut)
    return drawn


def _ticks(series: Sequence[Series]) -> list[float]:
    """The curvatures that were chosen, where they are few and far enough apart to stand beside each other."""
    chosen = sorted({at.c for of in series for at in of.curved if at.c and not at.is_learned})
    apart = [math.log(b / a) for a, b in pairwise(chosen)]
    return chosen if apart and min(apart) > sum(apart) / MOST_TICKS else []


def _at(of: Series, name: str, *, learned: bool) -> list[Any]:
    return [at for at in of.curved if at.is_learned == learned and at.c and name in at.figures.intervals]


def _seeds(axes: "Axes", of: Series, one: Figure, colour: str) -> None:
    """A small dot for every run."""
    dots = [
        (at.c, one.measure.scale * value)
        for at in of.curved
        if at.c
        for value in at.figures.values.get(one.name, {}).values()
    ]
    if dots:
        axes.scatter([c for c, _ in dots], [value for _, value in dots], s=4, color=colour, alpha=0.5, linewidths=0)


def _real(one: Figure, cells: Sequence[CellFigures]) -> list[float]:
    """What real images score in place of samples; nothing where that is not known."""
    name = f"{one.metric}_{one.extractor}" if one.extractor else one.metric
    known = [cell.real[name] for cell in cells if name in cell.real]
    return [fmean(known)] if known else []


@styled()
def by_cell(cells: Sequence[CellFigures], panels: Sequence[Figure], leading: str = "") -> "Drawn":
    """A measure of every cell, a line each, where curvature does not vary; small dots are runs."""
    shown = [cell for cell in cells if any(one.name in cell.intervals for one in panels)][:MOST_CELLS]
    across = min(ACROSS, len(panels))
    rows = math.ceil(len(panels) / across)
    drawn = new_figure(30 + PANEL[0] * across, (5.0 * len(shown) + 22) * rows + 6)
    is_cut = False
    for i, one in enumerate(panels):
        axes = drawn.add_subplot(rows, across, i + 1, xlabel=axis_label(one), title=panel_title(one, leading))
        axes.set_yticks(range(len(shown)), [cell.name for cell in shown] if i % across == 0 else [""] * len(shown))
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.grid(axis="y", color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
        for y, cell in enumerate(shown):
            colour = "black" if cell.baseline is None else look(0)["color"]
            if there := cell.intervals.get(one.name):
                scale = one.measure.scale
                error = None if there.margin is None else scale * there.margin
                axes.errorbar([scale * there.mean], [y], xerr=error, fmt="o", color=colour, capsize=2)
                values = [scale * value for value in cell.values.get(one.name, {}).values()]
                axes.scatter(values, [y] * len(values), s=4, color=colour, alpha=0.5, linewidths=0)
        *ends, is_cut_here = extent_of_cells(one, shown)
        is_cut |= is_cut_here
        axes.set_xlim(*ends)
    more = len(cells) - len(shown)
    caption(drawn, FOOT + CUT * is_cut + (f"; {more} more cells have no line" if more else ""))
    return drawn


def _precision_and_recall(comparison: Comparison) -> list[tuple[Figure, Figure]]:
    """Precision with the recall of the same extractor at the same guidance."""
    of = {(one.metric, one.extractor, one.place): one for one in comparison.figures if _known(one, comparison)}
    return [
        (one, of["recall", extractor, place])
        for (metric, extractor, place), one in of.items()
        if metric == "precision" and ("recall", extractor, place) in of
    ]


@styled()
def precision_recall(series: Sequence[Series], pairs: Sequence[tuple[Figure, Figure]], leading: str = "") -> "Drawn":
    """Precision against recall, a panel per extractor: a cross of intervals for each cell, with its c beside it."""
    drawn, every = beside_each_other(len(pairs))
    is_cut = False
    for axes, (precision, recall) in zip(every, pairs, strict=True):
        shown: list[CellFigures] = []
        for i, of in enumerate(series):
            there = ([(of.flat, "")] if of.flat else []) + [(at.figures, f"{at.c:.3g}") for at in of.curved if at.c]
            known = [(cell, c) for cell, c in there if {recall.name, precision.name} <= cell.intervals.keys()]
            for cell, c in known:
                x, y = cell.intervals[recall.name], cell.intervals[precision.name]
                _runs(axes, cell, recall, precision, look(i)["color"])
                axes.errorbar(
                    [x.mean], [y.mean], y.margin, x.margin, fmt=look(i)["marker"], color=look(i)["color"],
                    elinewidth=0.8, label=of.name,
                )  # fmt: skip
                if c and len(known) > 1:
                    axes.annotate(
                        c, (x.mean, y.mean), (3, 3), textcoords="offset points", fontsize=6, color=look(i)["color"]
                    )
            shown += [cell for cell, _ in known]
        *across, is_cut_across = extent_of_cells(recall, shown)
        *along, is_cut_along = extent_of_cells(precision, shown)
        is_cut |= is_cut_across or is_cut_along
        axes.set(xlabel=axis_label(recall), ylabel=axis_label(precision), title=panel_title(precision, leading))
        axes.set(xlim=across, ylim=along)
        axes.locator_params(nbins=5)
    legend(drawn)
    caption(drawn, f"{FOOT}{CUT * is_cut}; numbers: curvature c")
    return drawn


def _runs(axes: "Axes", cell: CellFigures, across: Figure, along: Figure, colour: str) -> None:
    """A small dot for every run that has both."""
    xs, ys = cell.values.get(across.name, {}), cell.values.get(along.name, {})
    seeds = [seed for seed in xs if seed in ys]
    axes.scatter([xs[s] for s in seeds], [ys[s] for s in seeds], s=4, color=colour, alpha=0.5, linewidths=0)
