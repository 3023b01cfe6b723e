"""Figures of a comparison for a paper: `write_figures` puts them into <study>/figures as PDF and PNG.

Nothing is computed here: means, intervals and curves are those of the `Comparison`.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from hldm.drawing import GREY, band, caption, in_sequence, legend, look, new_figure, plain, save, styled
from hldm.study.cells import Cell
from hldm.study.comparison import CellFigures, Comparison
from hldm.study.curves import Curve
from hldm.study.measures import HEADLINES, Figure, figure
from hldm.study.panels import (
    ACROSS,
    CUT,
    FOOT,
    PANEL,
    axis_label,
    beside_each_other,
    extent_of,
    extent_of_cells,
    panel_title,
)
from hldm.study.series import Series, all_series, series_name, varies
from hldm.study.statistics import Interval
from hldm.study.tiles import LATENTS, SAMPLES, places, write_sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawn

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
        for one in _metrics_of(setting, comparison):
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
                xs, means, margins = _columns(fixed, scale)
                band(axes, xs, means, margins, label=of.name, **look(i))
            _seeds(axes, of, one, look(i)["color"])
            for at in _at(of, one.name, learned=True):
                there = at.figures.intervals[one.name]
                error = None if there.margin is None else scale * there.margin
                axes.errorbar(
                    [at.c], [scale * there.mean], error, fmt=look(i)["marker"], color=look(i)["color"], mfc="white",
                    label=f"{of.name}, c learned",
                )  # fmt: skip
        for level in (real := _real(one, cells)):
            axes.axhline(scale * level, color=GREY, linestyle="dotted", linewidth=1.0, label="real images")
        *ends, is_cut_here = extent_of_cells(one, cells, real)
        is_cut |= is_cut_here
        axes.set(ylabel=axis_label(one), title=panel_title(one, leading), ylim=ends)
        plain(axes, x=True)
    legend(drawn)
    caption(drawn, FOOT + CUT * is_cut)
    return drawn


def _at(of: Series, name: str, *, learned: bool) -> list[Any]:
    return [at for at in of.curved if at.is_learned == learned and at.c and name in at.figures.intervals]


def _columns(
    points: Sequence[tuple[Any, Interval]], scale: float = 1.0
) -> tuple[list[Any], list[float], list[float | None]]:
    """(x, interval) → xs, means and margins."""
    margins = [None if there.margin is None else scale * there.margin for _, there in points]
    return [x for x, _ in points], [scale * there.mean for _, there in points], margins


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
        axes.set_xlim(ends)
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
        shown: list[tuple[Interval, Interval]] = []
        for i, of in enumerate(series):
            there = ([(of.flat, "")] if of.flat else []) + [(at.figures, f"{at.c:.3g}") for at in of.curved if at.c]
            known = [
                (cell.intervals[recall.name], cell.intervals[precision.name], c)
                for cell, c in there
                if recall.name in cell.intervals and precision.name in cell.intervals
            ]
            for x, y, c in known:
                shown.append((x, y))
                axes.errorbar(
                    [x.mean], [y.mean], y.margin, x.margin, fmt=look(i)["marker"], color=look(i)["color"],
                    elinewidth=0.8, label=of.name,
                )  # fmt: skip
                if c and len(known) > 1:
                    axes.annotate(
                        c, (x.mean, y.mean), (3, 3), textcoords="offset points", fontsize=6, color=look(i)["color"]
                    )
        *across, is_cut_across = extent_of(recall, (x for x, _ in shown))
        *along, is_cut_along = extent_of(precision, (y for _, y in shown))
        is_cut |= is_cut_across or is_cut_along
        axes.set(xlabel=axis_label(recall), ylabel=axis_label(precision), title=panel_title(precision, leading))
        axes.set(xlim=across, ylim=along)
    legend(drawn)
    caption(drawn, f"{FOOT}{CUT * is_cut}; numbers: curvature c")
    return drawn


# -------------------------------------------------------------------------------------------------------------- curves


def _metrics_of(setting: str, comparison: Comparison) -> Iterator[Figure]:
    """The figures that curves of a setting have."""
    there = [curve for curve in comparison.curves if curve.setting == setting]
    extractors = list(dict.fromkeys(one.extractor for one in comparison.figures if one.extractor))
    names = dict.fromkeys(name for curve in there for point in curve.points for name in point.means)
    for name in names:
        one = figure(name, extractors)
        if one is not None and not one.place and one.metric in HEADLINES:
            yield one


@styled()
def curves_figure(comparison: Comparison, cells: Sequence[Cell], setting: str, one: Figure) -> "Drawn":
    """A measure along a sampler setting: a panel for each geometry, a line for each curvature, flat space in all.

    Where no geometry has two curvatures, all of them are in one panel.
    """
    of_cell = {curve.cell: curve for curve in comparison.curves if curve.setting == setting}
    groups: dict[str, list[tuple[Cell, Curve]]] = {}
    for cell, summary in zip(cells, comparison.cells, strict=True):
        if (curve := of_cell.get(summary.name)) is not None:
            groups.setdefault(series_name(cell, summary.name), []).append((cell, curve))
    flat = [curve for group in groups.values() for cell, curve in group if cell.config.has_flat_latents]
    shown: list[Interval] = []
    if all(len(group) == 1 for group in groups.values()):
        drawn, [axes] = beside_each_other(1, xlabel=setting)
        for i, (name, [(_, curve)]) in enumerate(groups.items()):
            shown += _line(axes, curve, one, label=name, **look(i))
        every = [axes]
    else:
        curved = {name: group for name, group in groups.items() if len(group) > 1 or group[0][1] not in flat}
        drawn, every = beside_each_other(len(curved), xlabel=setting)
        cs = sorted({_order(cell) for group in curved.values() for cell, _ in group})
        colours = dict(zip(cs, in_sequence(len(cs)), strict=True))
        for axes, (name, group) in zip(every, curved.items(), strict=True):
            for curve in flat[:1]:
                shown += _line(axes, curve, one, label=curve.cell, color=GREY, linestyle="dashed")
            for cell, curve in sorted(group, key=lambda pair: _order(pair[0])):
                i = cs.index(_order(cell))
                words = cell.config.curvature_words
                shown += _line(
                    axes, curve, one, label=f"c = {words}" if words[0].isdigit() else f"c {words}",
                    color=colours[cs[i]], marker=look(i)["marker"],
                )  # fmt: skip
            axes.set_title(name, fontweight="bold")
    *ends, is_cut = extent_of(one, shown)
    for axes in every:
        axes.set(ylabel=axis_label(one), ylim=ends)
    legend(drawn)
    split = "; ".join(
        dict.fromkeys(f"{curve.samples} samples against {curve.split} images" for curve in of_cell.values())
    )
    caption(drawn, f"{split}; {FOOT}{CUT * is_cut}")
    return drawn


def _order(cell: Cell) -> tuple[bool, float]:
    """Numbers as they grow, then what is learned."""
    return cell.config.curvature.is_learnable, cell.config.curvature.value


def _line(axes: "Axes", curve: Curve, one: Figure, **how: Any) -> list[Interval]:
    """Returns what it shows."""
    points = [(point.value, point.means[one.name]) for point in curve.points if one.name in point.means]
    if all(isinstance(value, int | float) for value, _ in points):
        band(axes, *_columns(sorted(points, key=lambda pair: pair[0]), one.measure.scale), **how)
    else:  # names, such as solvers: a place each
        band(axes, *_columns([(str(value), there) for value, there in points], one.measure.scale), **how)
    return [there for _, there in points]
