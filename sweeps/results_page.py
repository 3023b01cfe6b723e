"""A page of docs/results/: its tables show grids of the study, and its command runs what is missing of them.

A grid is what one types after `python train.py -m`. Its figures are read from the run directories, and kept beside the
page as JSON under the settings of their point, so that another machine runs only what is missing there.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hldm import console  # noqa: E402 - the folder above is not on the path of a script
from hldm.config.options import LEAVES_RESULT  # noqa: E402
from hldm.errors import UserError  # noqa: E402
from hldm.files import write_text_atomically  # noqa: E402
from hldm.study import statistics  # noqa: E402
from hldm.study.cells import Cell, cells  # noqa: E402
from hldm.study.grid import names, sweep  # noqa: E402
from hldm.study.plan import Point, make_plan  # noqa: E402
from hldm.study.points import points_of  # noqa: E402

ABOUT = (
    "Figures of runs under the settings of their point, which `python train.py` takes. The keys were written anew on "
    "2026-11-26, with all figures as they were; run ids of figures before that day are those of earlier versions."
)
"""What the JSON says of itself."""

KEPT = ("hldm", "commit", "dirty", "network_evaluations", "machine", "threads")
"""What is kept of a run's provenance, beside torch's version."""

Figures = dict[str, Any]
"""Metric → value of one run, with where and when they were made."""

Plans = dict[str, list[Point]]
"""Grid → its points."""

Column = Callable[[Cell], str]
"""What a table shows of a cell."""


@dataclass(frozen=True)
class Table:
    """A table with a row for every cell of its grids that has figures.

    Attributes:
        grids: what is typed after `python train.py -m` for each grid.
        columns: heading → what stands below it; the number of seeds is added.
    """

    grids: Sequence[str]
    columns: Mapping[str, Column]

    def lines(self, found: Mapping[str, list[Cell]]) -> Iterator[str]:
        """The lines of the table in Markdown, from the cells of each grid."""
        yield f"| {' | '.join([*self.columns, 'seeds'])} |"
        yield "|" + "---|" * (len(self.columns) + 1)
        for cell in (cell for grid in self.grids for cell in found[grid] if cell.runs):
            shown = [column(cell) for column in self.columns.values()]
            yield f"| {' | '.join([*shown, str(len(cell.runs))])} |"


def mean(metric: str, digits: int = 2) -> Column:
    """A column with the mean of a metric over seeds."""
    return lambda cell: statistics.mean(cell.figures(metric).values(), digits)


def spread(metric: str, digits: int = 2, scale: float = 1.0) -> Column:
    """A column with the mean of a metric and, in brackets, its value for each seed."""
    return lambda cell: statistics.spread(cell.figures(metric, scale).values(), digits)


def less_first(metric: str, digits: int = 2) -> Column:
    """A column with the difference from the first cell of the grid, paired by seed, and its 95 % interval."""

    def column(cell: Cell) -> str:
        others = cell.first.figures(metric) if cell.first else {}
        interval = statistics.paired_difference(cell.figures(metric), others)
        return interval.text(digits) if interval else statistics.NOTHING

    return column


class ResultsPage:
    """One page with its tables, and the runs that these show.

    Args:
        name: of the page docs/results/<name>.md, of the JSON beside it, and of the study in which its runs lie.
        tables: name → table; a table stands between `<!-- name -->` and `<!-- end -->`.
        draw: makes the page's picture from its plans.
    """

    def __init__(self, name: str, tables: Mapping[str, Table], draw: Callable[[Plans], None] | None = None) -> None:
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
        """The points of every grid of the page, at the place that these settings say."""
        if wrong := [setting for setting in settings if not _is_neutral(setting)]:
            raise UserError(
                f"{wrong[0]} is not a setting of this command: with it runs would not be those of the page. Settings "
                f"of {', '.join(sorted(LEAVES_RESULT))} are, such as hardware=cpu; all others are typed "
                "after python train.py."
            )
        grids = dict.fromkeys(grid for table in self.tables.values() for grid in table.grids)
        return {grid: make_plan(points_of([*grid.split(), f"study={self.name}", *settings])) for grid in grids}

    def missing(self, plans: Plans) -> list[Point]:
        """A point for every run without figures, seed by seed, so that every cell has a figure early."""
        known = self.known(plans)
        points = {point.run.path: point for plan in plans.values() for point in plan if point.original is None}
        return sorted((p for path, p in points.items() if path not in known), key=lambda point: point.config.seed)

    @property
    def recorded(self) -> dict[str, Figures]:
        """Settings of a point → its figures, as they are kept beside the page."""
        file = self.page.with_suffix(".json")
        return json.loads(file.read_text(encoding="utf-8"))["figures"] if file.is_file() else {}

    def known(self, plans: Plans) -> dict[Path, Figures]:
        """Run → its recorded figures, whichever of the points that are this run they were recorded for."""
        recorded = self.recorded
        points = [point for plan in plans.values() for point in plan]
        return {point.run.path: recorded[key(point)] for point in points if key(point) in recorded}

    def fill(self, plans: Plans) -> None:
        """Record the figures of finished runs, then write the tables of all that is recorded."""
        self.collect(plans)
        known = self.known(plans)
        found = {grid: cells(plan, lambda point: known.get(point.run.path)) for grid, plan in plans.items()}
        text = self.page.read_text(encoding="utf-8")
        for name, table in self.tables.items():
            lines = "\n".join(table.lines(found))
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
            if run.state == "finished" and {name: before.get(name) for name in run.metrics} != run.metrics:
                recorded[key(point)] = {
                    **run.metrics,
                    **{name: run.provenance[name] for name in KEPT if name in run.provenance},
                    "torch": run.provenance.get("versions", {}).get("torch"),
                    "date": date.today().isoformat(),
                    "seconds": run.status.get("seconds", {}),
                }
        text = json.dumps({"about": ABOUT, "figures": recorded}, indent=1, ensure_ascii=False) + "\n"
        write_text_atomically(self.page.with_suffix(".json"), text)


def key(point: Point) -> str:
    """The settings that say what a point is, in alphabetical order: `python train.py` runs it with them."""
    return " ".join(sorted(part for part in point.overrides if not _is_neutral(part)))


def _is_neutral(setting: str) -> bool:
    """Whether a setting cannot change a result."""
    return setting.partition("=")[0].partition(".")[0] in LEAVES_RESULT


def start(page: ResultsPage) -> int:
    """Exit status of the page's command."""
    return console.run(lambda: page.main(sys.argv[1:]))
