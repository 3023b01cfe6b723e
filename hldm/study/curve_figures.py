"""Figures along a setting of the sampler, such as guidance."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hldm.drawing import GREY, band, caption, in_sequence, legend, look, styled
from hldm.study.cells import Cell
from hldm.study.comparison import Comparison
from hldm.study.curves import Curve
from hldm.study.measures import HEADLINES, Figure, figure
from hldm.study.panels import CUT, FOOT, axis_label, beside_each_other, columns_of, extent_of
from hldm.study.series import series_name
from hldm.study.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawn


def metrics_of(setting: str, comparison: Comparison) -> Iterator[Figure]:
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
        band(axes, *columns_of(sorted(points, key=lambda pair: pair[0]), one.measure.scale), **how)
    else:  # names, such as solvers: a place each
        band(axes, *columns_of([(str(value), there) for value, there in points], one.measure.scale), **how)
    return [there for _, there in points]
