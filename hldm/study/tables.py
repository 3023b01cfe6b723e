"""Tables for the terminal, as wide as it is: a line for each cell, or for each run."""

from collections.abc import Collection, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from hldm.study.cells import short_names
from hldm.study.comparison import CellFigures, Comparison
from hldm.study.measures import PLACES, Figure
from hldm.study.rows import IN_COLUMNS, Row, more_settings, other_settings, row_names
from hldm.study.statistics import NOTHING, Interval
from hldm.study.verdict import decimals

COLUMNS = {
    "−log p(x) ↓\nnats": ("nll", "{:.2f}"),
    "FID ↓": ("fid", "{:.3g}"),
    "IS ↑": ("inception_score", "{:.2f}"),
    "KID ↓": ("kid", "{:.2g}"),
    "precision ↑": ("precision", "{:.1%}"),
    "recall ↑": ("recall", "{:.1%}"),
    "label acc ↑": ("label_accuracy", "{:.1%}"),
    "bound ↑\nnats": ("elbo_flow", "{:.1f}"),
    "δ_rel": ("delta_rel", "{:.3f}"),
}
"""Heading → name in results.json and how it is written. One that no run has is left out."""


def print_cells(comparison: Comparison, console: Console) -> None:
    """A line for each cell: means over seeds with their 95 % intervals, as many figures as the terminal is wide."""
    names = [cell.name for cell in comparison.cells]
    columns = [["cell", *names], ["seeds", *map(_seeds, comparison.cells)]]
    figures = [[_heading(one), *(figure_text(one, cell) for cell in comparison.cells)] for one in comparison.figures]
    name_width = min(max(map(cell_len, columns[0])), max(18, console.width // 3))
    shown = _fitting(figures, console.width - _width(columns[1:]) - name_width - 2)
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("cell", overflow="fold", max_width=name_width)
    for heading, *_ in (*columns[1:], *shown):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in list(zip(*columns, *shown, strict=True))[1:]:
        table.add_row(*line)
    console.print(table)
    if left := len(figures) - len(shown):
        console.print(f"Means over seeds ± 95 % interval. {left} more figures are in comparison.json.")
    else:
        console.print("Means over seeds ± 95 % interval.")


def _heading(one: Figure) -> str:
    name, _, unit = one.measure.heading.partition(", ")
    extractor = f"({one.extractor})" if one.extractor else ""
    return "\n".join(filter(None, (f"{name} {one.measure.arrow}".strip(), extractor, PLACES.get(one.place), unit)))


def _seeds(cell: CellFigures) -> str:
    n = len(cell.seeds)
    return f"{n} of {n + len(cell.unfinished)}" if cell.unfinished else str(n)


def figure_text(one: Figure, cell: CellFigures) -> str:
    """The mean of a cell with its interval, as "0.352 ± 0.066"; a dash where it has none."""
    return interval_text(cell.intervals.get(one.name), one.measure.digits, one.measure.scale)


def interval_text(interval: Interval | None, otherwise: int, scale: float = 1.0, sign: str = "") -> str:
    """A mean with its margin, two digits of it.

    Args:
        otherwise: decimals where it has no margin.
        sign: "+" for a difference.
    """
    if interval is None:
        return NOTHING
    if not interval.margin:
        return f"{interval.mean * scale:{sign}z.{otherwise}f}"  # z: no minus before 0.0
    digits = decimals(interval.margin * scale, otherwise)
    return f"{interval.mean * scale:{sign}z.{digits}f} ± {interval.margin * scale:.{digits}f}"


def _width(columns: Sequence[Sequence[str]]) -> int:
    """Of columns beside each other, with the two spaces that a table without edges adds to each."""
    return sum(2 + max(cell_len(line) for text in column for line in text.split("\n")) for column in columns)


def _fitting(columns: Sequence[Sequence[str]], width: int) -> Sequence[Sequence[str]]:
    """The first columns that are together no wider than that, at least one."""
    n = len(columns)
    while n > 1 and _width(columns[:n]) > width:
        n -= 1
    return columns[:n]


def print_runs(rows: Sequence[Row], console: Console) -> None:
    """A line for each point, with as many figures as the terminal is wide."""
    keys = sorted({key for row in rows for key in other_settings(row.point)})
    short = short_names(keys)
    has_more = len(rows) > 1 and bool(keys)
    # where all differ in one other setting alone it is the heading, which leaves its values more room
    only = keys[0] if len(keys) == 1 else None
    also = [other_settings(row.point).get(only, "") if only else more_settings(row.point, short) for row in rows]
    fixed = [
        ["#", *(str(number) for number in range(1, len(rows) + 1))],
        *(
            [heading, *values]
            for heading, values in zip(IN_COLUMNS, zip(*map(row_names, rows), strict=True), strict=True)
        ),
    ]
    more = [[short[only] if only else "also", *also]] if has_more else []
    least_more = min(18, max(map(cell_len, more[0]))) if has_more else 0
    columns = {name: column for name, column in COLUMNS.items() if any(column[0] in row.metrics for row in rows)}
    figures = [list(column) for column in zip(*[_figures(row, columns.values()) for row in rows], strict=True)]
    *measured, minutes = [[name, *values] for name, values in zip((*columns, "minutes"), figures, strict=True)]
    room = console.width - _width([*fixed, minutes]) - (least_more + 2 if has_more else 0)
    shown = [*_fitting(measured, room), minutes]

    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading, *_ in fixed:
        table.add_column(heading, justify="right" if heading in ("#", "seed") else "left", no_wrap=True)
    for heading, *_ in more:
        table.add_column(heading, overflow="fold", min_width=least_more)
    for heading, *_ in shown:
        table.add_column(heading, justify="right", no_wrap=True)
    for row, line in zip(rows, list(zip(*fixed, *more, *shown, strict=True))[1:], strict=True):
        table.add_row(*line, style="red" if row.state == "failed" else None)
    console.print(table)
    if len(shown) <= len(measured):
        console.print(
            f"Not shown for want of width: {', '.join(bare(name) for name, *_ in measured[len(shown) - 1 :])}."
        )


def bare(heading: str) -> str:
    """A heading without its arrow and unit."""
    return heading.split("\n")[0].rstrip(" ↑↓")


def _figures(row: Row, columns: Collection[tuple[str, str]]) -> list[str]:
    """The figures and the minutes; of a run that has none its state."""
    if row.run is None:
        return [row.state, *[""] * len(columns)]
    return [*(written(row.metrics.get(name), form) for name, form in columns), written(row.minutes, "{:.1f}")]


def written(value: Any, form: str) -> str:
    """A number, or a dash."""
    return form.format(value) if isinstance(value, int | float) else NOTHING
