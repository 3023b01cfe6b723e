"""The runs of a comparison with what their files say, each read once: from a plan, or from run directories alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hldm.config.base import Shared
from hldm.config.options import LEAVES_RESULT
from hldm.errors import UserError
from hldm.run.directory import RunDirectory, Snapshot
from hldm.run.identity import Identity
from hldm.study.cells import Finished, as_typed, own_settings, settings_of, telling_settings
from hldm.study.plan import Point
from hldm.study.typed import with_options

IN_COLUMNS = ("geometry", "curvature", "seed")


@dataclass(frozen=True)
class Row:
    """A point with what its run's files say.

    Attributes:
        point: of the grid.
        state: of its run now.
        run: what a comparison knows of it, None where it has not finished.
        status: what status.json says.
    """

    point: Point
    state: str
    run: Finished | None
    status: Mapping[str, Any]

    @property
    def metrics(self) -> Mapping[str, float]:
        """None where the run has not finished."""
        return self.run.metrics if self.run else {}

    @property
    def minutes(self) -> object:
        """How long it has taken."""
        return self.status.get("minutes")

    @property
    def error(self) -> str:
        """Why it failed; "" where nothing is known of that."""
        return str(self.status.get("error") or "")

    @property
    def is_alias(self) -> bool:
        """Whether an earlier point is the same run."""
        return self.point.original is not None


def rows_of_plan(plan: Iterable[Point]) -> list[Row]:
    """What became of the points of a plan, which may have been made before their runs were."""
    found: dict[Path, Row] = {}
    rows = []
    for point in plan:
        if (first := found.get(point.run.path)) is None:
            first = found[point.run.path] = _row(point, point.run.snapshot())
        rows.append(replace(first, point=replace(point, state=first.state)))
    return rows


def rows_of_runs(runs: Iterable[RunDirectory]) -> tuple[list[Row], list[str]]:
    """What run directories say of themselves, and a sentence on each whose files are damaged.

    A run's overrides are the options and settings in which its configuration differs from those of others.
    """
    there, damaged, shared = [], [], Shared()
    for run in runs:
        try:
            there.append((run, shared(run.config), run.snapshot()))
        except UserError as error:
            damaged.append(f"{run.path.name} is left out: {error}")
    rows = []
    configs = [config for _, config, _ in there]
    apart = telling_settings(with_options(own_settings(configs), map(settings_of, configs)))
    for (run, config, was), own in zip(there, apart, strict=True):
        overrides = (*(f"{key}={value}" for key, value in own.items()), f"seed={config.seed}")
        rows.append(_row(Point(overrides, config, Identity(run.path.name, ""), run, was.state), was))
    return rows, damaged


def _row(point: Point, was: Snapshot) -> Row:
    return Row(replace(point, state=was.state), was.state, Finished.of_snapshot(was), was.status)


def other_settings(point: Point) -> dict[str, str]:
    """Overrides that have no column of their own, setting → value."""
    parts = (override.partition("=") for override in point.overrides)
    shown = (*IN_COLUMNS, *LEAVES_RESULT)
    return {key: as_typed(value) for key, _, value in parts if key.split(".")[0] not in shown}


def more_settings(point: Point, short: Mapping[str, str]) -> str:
    """These overrides in a line, of the settings that have a short name."""
    return " ".join(f"{short[key]}={value}" for key, value in other_settings(point).items() if key in short)


def curvature_words(row: Row) -> str:
    """The curvature of a run: "flat", a number, or what was learned."""
    config = row.point.config
    if config.is_flat or not config.curvature.is_learnable:
        return config.curvature_words
    metrics = row.metrics
    learned = [metrics[name] for name in sorted(metrics) if _is_curvature(name) and metrics[name]]
    if learned:
        return "learned " + ", ".join(f"{c:.3g}" for c in learned)
    return f"learnable from {config.curvature.value:g}"


def _is_curvature(name: str) -> bool:
    """curvature_0, not curvature_0_start."""
    return name.startswith("curvature_") and name.removeprefix("curvature_").isdigit()


def row_names(row: Row) -> Sequence[str]:
    """What the columns of geometry, curvature and seed say."""
    config, original = row.point.config, row.point.original
    same = f" (= {original})" if original else ""
    return [f"{config.geometry.name}{same}", curvature_words(row), str(config.seed)]
