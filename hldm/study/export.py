"""A comparison for other programs: a line for each run, a line for each cell and figure, and tables for a paper."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from hldm.study.comparison import CellFigures, Comparison, Difference
from hldm.study.measures import PLACES, Figure
from hldm.study.rows import curvature_words
from hldm.study.tables import figure_text
from hldm.study.verdict import is_shown
from hldm.study.whole import Study


def runs_csv(study: Study) -> str:
    """A line for each run: what it is, its state, the settings in which runs differ, and every metric."""
    metrics = study.metrics
    fixed = ["run", "cell", "seed", "state", "error", "geometry", "curvature", "minutes"]
    # a setting and a metric may have one name
    table: list[list[Any]] = [[*fixed, *(f"config.{key}" for key in study.differing), *metrics]]
    for row, own in zip(study.runs, study.own, strict=True):
        config, name = row.point.config, row.point.run.path.name
        about: list[Any] = [name, study.cell_of.get(name), config.seed, row.state, row.error]
        about += [config.geometry.name, curvature_words(row), row.minutes]
        table.append([*about, *(own.get(key) for key in study.differing), *(row.metrics.get(key) for key in metrics)])
    return _csv(table)


def cells_csv(comparison: Comparison) -> str:
    """A line for each cell and figure: its mean over seeds, and its difference from the baseline with what it says."""
    heading = (
        "cell,figure,what,seeds,mean,margin,sd,real_images,baseline,baseline_mean,difference,difference_margin,"
        "paired_seeds,p,p_holm,comparisons,shown"
    )
    table: list[list[Any]] = [heading.split(",")]
    differences = {(one.cell, one.figure): one for one in comparison.differences}
    for cell in comparison.cells:
        for one in comparison.figures:
            if (mean := cell.intervals.get(one.name)) is None:
                continue
            line = [
                cell.name,
                one.name,
                one.heading,
                mean.n,
                mean.mean,
                mean.margin,
                mean.sd,
                cell.real.get(one.metric),
            ]
            table.append([*line, *_difference(differences.get((cell.name, one.name)))])
    return _csv(table)


def _difference(one: Difference | None) -> list[Any]:
    if one is None:
        return [None] * 9
    interval = one.interval
    apart = [one.baseline, one.baseline_mean, interval.mean, interval.margin, interval.n]
    return [*apart, one.p, one.adjusted, one.comparisons, "yes" if is_shown(one) else "no"]


def _csv(table: Iterable[Iterable[Any]]) -> str:
    """Numbers with all their digits; what is not known is empty. A text that a spreadsheet would compute is quoted."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for line in table:
        writer.writerow(["'" + v if isinstance(v, str) and v.startswith(("=", "+", "@")) else v for v in line])
    return text.getvalue()


# --------------------------------------------------------------------------------------------------------------- LaTeX


def latex(comparison: Comparison) -> str:
    """A table for each group of figures, for a document with the package booktabs: means over seeds ± 95 % interval."""
    groups = dict.fromkeys(one.measure.group for one in comparison.figures)
    head = "% \\usepackage{booktabs}. Means over seeds with 95 % intervals; * differs from its baseline (Holm, 5 %).\n"
    return head + "\n".join(
        _latex_table(comparison, [one for one in comparison.figures if one.measure.group == group]) for group in groups
    )


def _latex_table(comparison: Comparison, figures: Sequence[Figure]) -> str:
    lines = [f"\\begin{{tabular}}{{lr{'r' * len(figures)}}}", "\\toprule"]
    lines += [" & ".join(column) + r" \\" for column in _headings(figures)]
    lines.append("\\midrule")
    shown = {(one.cell, one.figure) for one in comparison.differences if is_shown(one)}
    for cell in comparison.cells:
        values = [_latex_figure(one, cell) + ("$^*$" if (cell.name, one.name) in shown else "") for one in figures]
        lines.append(" & ".join([escaped(cell.name), str(len(cell.seeds)), *values]) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _headings(figures: Sequence[Figure]) -> list[list[str]]:
    """Two lines: what it is with its arrow, and how it was measured."""
    arrows = {"↓": r" $\downarrow$", "↑": r" $\uparrow$", "": ""}
    first, second = ["cell", "seeds"], ["", ""]
    for one in figures:
        name, _, unit = one.measure.heading.partition(", ")
        first.append(escaped(name) + arrows[one.measure.arrow])
        second.append(escaped(", ".join(filter(None, (one.extractor, PLACES.get(one.place, ""), unit)))))
    return [first, second] if any(second) else [first]


def _latex_figure(one: Figure, cell: CellFigures) -> str:
    if one.name not in cell.intervals:
        return "--"
    return "$" + figure_text(one, cell).replace("±", r"\pm") + "$"


_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "√": r"$\surd$", "δ": r"$\delta$",
}  # fmt: skip


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_SPECIAL.get(character, character) for character in text)
