"""A page of docs/results/: its tables show grids of the study, and its command runs what is missing of them.

A grid is what one types after `python train.py -m`. Its figures are read from the run directories, and kept beside the
page as JSON under the settings of their point, so that another machine runs only what is missing there. What tables say
of them is the comparison that ends every grid (`hldm.study.comparison`): here is only how a page shows it.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hldm import console  # noqa: E402 - the folder above is not on the path of a script
from hldm.config.options import LEAVES_RESULT  # noqa: E402
from hldm.config.schema import RunConfig  # noqa: E402
from hldm.errors import UserError  # noqa: E402
from hldm.files import write_text_atomically  # noqa: E402
from hldm.study import statistics, tables  # noqa: E402
from hldm.study.cells import Cell, Finished, cells  # noqa: E402
from hldm.study.comparison import CellFigures, Comparison, compare  # noqa: E402
from hldm.study.grid import names, sweep  # noqa: E402
from hldm.study.measures import figure  # noqa: E402
from hldm.study.plan import Point, make_plan  # noqa: E402
from hldm.study.points import points_of  # noqa: E402
from hldm.study.statistics import NOTHING  # noqa: E402
from hldm.study.tables import interval_text  # noqa: E402
from hldm.study.verdict import footnotes, is_shown, numbers, verdict  # noqa: E402

ABOUT = (
    "Results of runs under the settings of their point, which `python train.py` takes: metrics, curves, values of "
    "single images (to four digits after the point), and what of provenance says how they were made."
)
"""What the JSON says of itself."""

KEPT = ("samples", "sampling_seeds", "reference", "rule", "extractors", "classifier", "data", "hldm", "commit", "dirty",
        "network_evaluations", "machine", "threads", "versions")  # fmt: skip
"""What is kept of a run's provenance: what decides whether runs compare, and what made them."""

SHOWN = "\\*"
"""Behind a difference that is shown after the correction for their number; Markdown needs the backslash."""

STUDY = "results"
"""Where the runs of all pages lie: what several of them show is run once."""

TO_MAKE = "The runs that say it are still to be made."
"""In place of a table of nothing."""

Record = dict[str, Any]
"""What is kept of one run, as results.json has it, with when and how long."""

Plans = dict[str, list[Point]]
"""Table → the points of its grids."""


@dataclass(frozen=True)
class Row:
    """A cell of a table, with the comparison that it stands in."""

    cell: Cell
    summary: CellFigures
    comparison: Comparison

    @property
    def settings(self) -> Mapping[str, str]:
        """What makes the cell."""
        return self.cell.settings

    @property
    def config(self) -> RunConfig:
        """The configuration of its first run."""
        return self.cell.config

    def figures(self, name: str, scale: float = 1.0) -> dict[int, float]:
        """Seed → figure of that name, of the runs that have it."""
        return self.cell.figures(name, scale)


Column = Callable[[Row], str]
"""What a table shows of a cell."""


class Shown(Protocol):
    """What stands at a mark of the page."""

    grids: Sequence[str]
    """What is typed after `python train.py -m` for each grid."""

    def lines(self, found: Sequence[Cell]) -> Iterator[str]:
        """Its lines in Markdown, from the cells of all of its grids."""


@dataclass(frozen=True)
class Table:
    """A table with a row for every cell of its grids that has figures.

    Attributes:
        grids: what is typed after `python train.py -m` for each grid. They are compared together.
        columns: heading → what stands below it; the number of seeds is added.
    """

    grids: Sequence[str]
    columns: Mapping[str, Column]

    def lines(self, found: Sequence[Cell]) -> Iterator[str]:
        """The lines of the table in Markdown."""
        if not any(cell.runs for cell in found):
            yield TO_MAKE
            return
        comparison = compare(found)
        yield f"| {' | '.join([*self.columns, 'seeds'])} |"
        yield "|" + "---|" * (len(self.columns) + 1)
        for cell, summary in zip(found, comparison.cells, strict=True):
            if cell.runs:
                shown = [column(Row(cell, summary, comparison)) for column in self.columns.values()]
                yield f"| {' | '.join([*shown, str(len(cell.runs))])} |"


@dataclass(frozen=True)
class Verdict:
    """The comparison of the cells of some grids in sentences: what may be compared, and what differences say."""

    grids: Sequence[str]

    def lines(self, found: Sequence[Cell]) -> Iterator[str]:
        """A list for each cell that has a baseline, and what the numbers mean."""
        comparison = compare(found)
        if not comparison.differences and not comparison.exclusions:
            yield TO_MAKE
            return
        for sentence in [*comparison.exclusions, *comparison.cautions]:
            yield f"- {sentence}"
        for name in dict.fromkeys(one.cell for one in comparison.differences):
            title, *sentences = verdict(comparison, name)
            yield from ["", f"**{title}**" if sentences else title, ""]
            yield from (f"- {sentence}" for sentence in sentences)
        yield from ["", *footnotes(comparison)]


@dataclass(frozen=True)
class CurveTable:
    """Metrics along a setting of the sampler on validation images: a row for each value, columns for each cell.

    Attributes:
        grids: as in `Table`.
        setting: the curve, as in "guidance".
        metrics: which of its metrics.
    """

    grids: Sequence[str]
    setting: str
    metrics: Sequence[str]

    def lines(self, found: Sequence[Cell]) -> Iterator[str]:
        """Means over seeds with their intervals and, after a comma, the difference from the baseline."""
        curves = [curve for curve in compare(found).curves if curve.setting == self.setting and curve.points]
        if not curves:
            yield TO_MAKE
            return
        columns = [(curve, metric) for curve in curves for metric in self.metrics]
        shown = {metric: figure(metric, [metric.split("_")[-1]]) for metric in self.metrics}
        headings = [f"{curve.cell}: {one.heading if (one := shown[metric]) else metric}" for curve, metric in columns]
        yield f"| {' | '.join([self.setting, *headings])} |"
        yield "|" + "---|" * (len(columns) + 1)
        for value in dict.fromkeys(point.value for curve in curves for point in curve.points):
            texts = []
            for curve, metric in columns:
                point = next((point for point in curve.points if point.value == value), None)
                one = shown[metric]
                digits, scale = (one.measure.digits, one.measure.scale) if one else (3, 1.0)
                text = interval_text(point.means.get(metric) if point else None, digits, scale)
                if point and (apart := point.differences.get(metric)) and apart.margin is not None:
                    text += f", {interval_text(apart, digits, scale, sign='+')}"
                texts.append(text)
            yield f"| {value} | {' | '.join(texts)} |"
        for curve in curves:
            best = curve.best.get("", {})
            chosen = ", ".join(f"{value} (seed {seed})" for seed, value in best.items())
            yield from [
                "",
                f"{curve.cell}: n = {curve.samples} on {curve.split}; chosen by the leading extractor: {chosen}.",
            ]


def mean(metric: str, digits: int = 2) -> Column:
    """A column with the mean of a metric over seeds."""
    return lambda row: statistics.mean(row.figures(metric).values(), digits)


def spread(metric: str, digits: int = 2, scale: float = 1.0) -> Column:
    """A column with the mean of a metric and, in brackets, its value for each seed."""
    return lambda row: statistics.spread(row.figures(metric, scale).values(), digits)


def compared(metric: str) -> Column:
    """A column with the mean of a figure: of a baseline with its interval, of others with the difference from it.

    Of the others as in "0.306, -0.05 ± 0.06"; * where it is shown after the correction for the number of comparisons.
    """

    def column(row: Row) -> str:
        one = next((one for one in row.comparison.figures if one.name == metric), None)
        if one is None or metric not in row.summary.intervals:
            return NOTHING
        difference = row.comparison.of(row.summary.name, metric)
        value = f"{row.summary.intervals[metric].mean * one.measure.scale:.{one.measure.digits}f}"
        if difference is None:
            return tables.figure_text(one, row.summary) if row.summary.baseline is None else f"{value}, not compared"
        if difference.is_same:
            return f"{value}, the same"
        if difference.interval.margin is None:
            return value
        text, digits = numbers(one, difference)
        value = f"{row.summary.intervals[metric].mean * one.measure.scale:.{digits}f}"
        return f"{value}, {text}" + (SHOWN if is_shown(difference) else "")

    return column


class ResultsPage:
    """One page with its tables, and the runs that these show.

    Args:
        name: of the page docs/results/<name>.md, and of the JSON beside it.
        tables: name → table; a table stands between `<!-- name -->` and `<!-- end -->`.
        draw: makes the page's picture from its plans.
    """

    def __init__(self, name: str, tables: Mapping[str, Shown], draw: Callable[[Plans], None] | None = None) -> None:
        self.name, self.tables, self.draw = name, tables, draw
        self.page = ROOT / "docs" / "results" / f"{name}.md"

    def main(self, arguments: Sequence[str]) -> None:
        """Fill the page from the figures that there are and, without `--tables`, from the runs that are missing.

        Args:
            arguments: `--tables`, and settings that cannot change a result.

        Raises:
            UserError: a setting that can, or a run failed.
        """
        plans = self.plans([argument for argument in arguments if argument != "--tables"])
        self.fill(plans)
        missing = self.missing(plans)
        if missing and "--tables" not in arguments:
            typed = names([point.overrides for point in missing])
            try:
                _, error = sweep([(name, point.config) for name, point in zip(typed, missing, strict=True)])
            finally:  # also after Ctrl-C
                self.fill(plans)
            if error:
                raise error
        runs = {point.run.path for plan in plans.values() for point in plan}
        print(f"{len(runs) - len(self.missing(plans))} of {len(runs)} runs: {self.page}")

    def plans(self, settings: list[str]) -> Plans:
        """The points of all grids of every table of the page, at the place that these settings say."""
        if wrong := [setting for setting in settings if not _is_neutral(setting)]:
            raise UserError(
                f"{wrong[0]} is not a setting of this command: with it runs would not be those of the page. Settings "
                f"of {', '.join(sorted(LEAVES_RESULT))} are, such as hardware=cpu; all others are typed "
                "after python train.py."
            )
        grids = dict.fromkeys(grid for table in self.tables.values() for grid in table.grids)
        points = {grid: points_of([*grid.split(), f"study={STUDY}", *settings]) for grid in grids}
        plans = {together: make_plan([p for grid in together for p in points[grid]]) for together in self._together()}
        return {name: plans[tuple(table.grids)] for name, table in self.tables.items()}

    def _together(self) -> set[tuple[str, ...]]:
        return {tuple(table.grids) for table in self.tables.values()}

    def missing(self, plans: Plans) -> list[Point]:
        """A point for every run without figures, seed by seed, so that every cell has a figure early."""
        known = self.known(plans)
        points = {point.run.path: point for plan in plans.values() for point in plan if point.original is None}
        return sorted((p for path, p in points.items() if path not in known), key=lambda point: point.config.seed)

    @property
    def recorded(self) -> dict[str, Record]:
        """Settings of a point → its figures, as they are kept beside the page."""
        file = self.page.with_suffix(".json")
        return json.loads(file.read_text(encoding="utf-8"))["figures"] if file.is_file() else {}

    def known(self, plans: Plans) -> dict[Path, Finished]:
        """Run → its recorded figures, whichever of the points that are this run they were recorded for.

        Figures of what a point was under other defaults are not its figures.
        """
        recorded = {
            (key, record["run"]): Finished.of(record, record.get("seconds")) for key, record in self.recorded.items()
        }
        points = {(key(point), point.run.path.name): point.run.path for plan in plans.values() for point in plan}
        return {path: recorded[point] for point, path in points.items() if point in recorded}

    def fill(self, plans: Plans) -> None:
        """Record the figures of finished runs, then write the tables of all that is recorded."""
        self.collect(plans)
        known = self.known(plans)
        text = self.page.read_text(encoding="utf-8")
        for name, table in self.tables.items():
            lines = "\n".join(table.lines(cells(plans[name], lambda point: known.get(point.run.path))))
            marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
            text = marked.sub(lambda between, lines=lines: f"{between[1]}{lines}\n{between[2]}", text)
        write_text_atomically(self.page, text)
        if self.draw:
            self.draw(plans)

    def collect(self, plans: Plans) -> None:
        """Record the figures of finished runs that are not recorded yet, or that came out differently."""
        recorded = self.recorded
        for point in (point for plan in plans.values() for point in plan if point.original is None):
            run, before = point.run.snapshot(), recorded.get(key(point), {})
            if run.state == "finished" and before.get("metrics") != run.metrics:
                results = run.results or {}
                recorded[key(point)] = {
                    "run": point.run.path.name,
                    "metrics": run.metrics,
                    **{part: results[part] for part in ("per_sampling_seed", "curves") if results.get(part)},
                    **({"per_image": _rounded(results["per_image"])} if results.get("per_image") else {}),
                    "provenance": {name: run.provenance[name] for name in KEPT if name in run.provenance},
                    "date": date.today().isoformat(),
                    "seconds": run.status.get("seconds", {}),
                }
        # a line for every run
        each = (f"{json.dumps(name)}: {json.dumps(record, ensure_ascii=False)}" for name, record in recorded.items())
        figures = ",\n".join(each)
        text = f'{{"about": {json.dumps(ABOUT, ensure_ascii=False)},\n"figures": {{\n{figures}\n}}}}\n'
        write_text_atomically(self.page.with_suffix(".json"), text)


def _rounded(per_image: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {name: [round(value, 4) for value in values] for name, values in per_image.items()}


def key(point: Point) -> str:
    """The settings that say what a point is, in alphabetical order: `python train.py` runs it with them."""
    return " ".join(sorted(part for part in point.overrides if not _is_neutral(part)))


def _is_neutral(setting: str) -> bool:
    """Whether a setting cannot change a result."""
    return setting.partition("=")[0].partition(".")[0] in LEAVES_RESULT


def start(page: ResultsPage) -> int:
    """Exit status of the page's command."""
    return console.run(lambda: page.main(sys.argv[1:]))
