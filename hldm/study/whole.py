"""A study with all that is said of it: its runs, their cells, the comparison and how fair it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hldm.study.cells import Cell, cells, own_settings, settings_of
from hldm.study.comparison import Comparison, compare
from hldm.study.fairness import Check, checklist
from hldm.study.rows import Row


@dataclass(frozen=True)
class Study:
    """What tables, files and pages are made from.

    Attributes:
        folder: where the runs lie, and where files about all of them go.
        rows: its points, with those that are an earlier point's run.
        cells: of these runs.
        comparison: of the cells.
        checks: how fair it is.
        damaged: sentences on runs whose files cannot be read.
    """

    folder: Path
    rows: Sequence[Row]
    cells: Sequence[Cell]
    comparison: Comparison
    checks: Sequence[Check]
    damaged: Sequence[str] = ()

    @classmethod
    def of(cls, folder: Path, rows: Sequence[Row], damaged: Sequence[str] = ()) -> "Study":
        """Compare these."""
        known = {row.point.run.path: row.run for row in rows}
        found = cells([row.point for row in rows], lambda point: known[point.run.path])
        return cls(folder, rows, found, compare(found), checklist(found), damaged)

    @cached_property
    def runs(self) -> Sequence[Row]:
        """A row for each run."""
        return [row for row in self.rows if not row.is_alias]

    @cached_property
    def has_seeds(self) -> bool:
        """Whether a cell has several."""
        return any(len(cell.runs) + len(cell.unfinished) > 1 for cell in self.cells)

    @cached_property
    def cell_of(self) -> Mapping[str, str]:
        """Name of a run → name of its cell; a run that another one stands for has none."""
        named = zip(self.cells, self.comparison.cells, strict=True)
        return {run: summary.name for cell, summary in named for run in cell.run_names.values()}

    @cached_property
    def own(self) -> Sequence[Mapping[str, str]]:
        """For each of `runs` the settings that others do not share."""
        return own_settings([row.point.config for row in self.runs])

    @cached_property
    def differing(self) -> Sequence[str]:
        """The settings in which runs differ."""
        return list(dict.fromkeys(key for own in self.own for key in own))

    @cached_property
    def common(self) -> Mapping[str, str]:
        """Setting → value, of those in which no run differs; not the seed."""
        return {key: value for key, value in settings_of(self.runs[0].point.config).items() if key not in self.own[0]}

    @cached_property
    def metrics(self) -> Sequence[str]:
        """Every metric that a run has."""
        return list(dict.fromkeys(name for row in self.runs for name in row.metrics))
