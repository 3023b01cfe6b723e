"""A comparison on Weights & Biases: what `hldm.tracking.workspace` is told of it."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from hldm.config.schema import RunConfig, WandbTracker
from hldm.errors import UserError
from hldm.files import write_text_atomically
from hldm.run.summary import GROUPS
from hldm.study.cells import Cell
from hldm.study.comparison import CellFigures, Comparison
from hldm.study.fairness import Check
from hldm.study.measures import Figure, figure
from hldm.study.tables import figure_text
from hldm.study.verdict import verdict
from hldm.study.whole import Study
from hldm.tracking.board import PICTURES, Board, Grid, Measure
from hldm.tracking.workspace import Links, check_dashboard, publish

FILE = "wandb.json"
"""In a study's folder: which report and workspace are its own. Without it new ones are written."""

MOST_COLUMNS = 8
"""Of the table of cells."""

MATRICES = ("fid", "kid")
"""Figures that have a table geometry × curvature of their own."""

ARROWS = {"lower": " ↓", "higher": " ↑", "": ""}

HIERARCHY = (
    "quartet_p", "tree_correlation", "tree_map", "level1_knn", "delta_rel", "radius_entropy_spearman",
    "radius_depth_spearman",
)  # fmt: skip
"""Metrics of the latents that mean something beside their controls."""


def check(configs: Collection[RunConfig]) -> WandbTracker:
    """The tracker of runs that a dashboard is to be about. Connects to nothing.

    Raises:
        UserError: they are not tracked, of several studies or projects, or a dashboard cannot be written from here.
    """
    trackers = {config.tracking for config in configs}
    tracked = {one for one in trackers if isinstance(one, WandbTracker)}
    if not tracked:
        raise UserError(
            "wandb=true shows what Weights & Biases has of these runs, and none is there: they were run with "
            "tracking=none. The sweep's command with tracking=wandb and another study=… evaluates the trained weights "
            "anew, and tracks them."
        )
    if len(studies := sorted({config.study for config in configs})) > 1:
        raise UserError(
            f"wandb=true shows one study, and these runs are of {len(studies)}: {', '.join(studies)}. Compare one at a "
            "time."
        )
    places = sorted({f"{one.entity or 'the own entity'}/{one.project}" for one in tracked})
    if len(places) > 1:
        raise UserError(
            f"wandb=true writes to one project, and these runs are in {len(places)}: {', '.join(places)}. Compare the "
            "runs of one at a time."
        )
    tracker = next(iter(tracked))
    check_dashboard()
    return tracker


def write_dashboard(shown: Board, tracker: WandbTracker, folder: Path) -> Links:
    """Write report and workspace of a study, in place of those that are its own already, as a file in `folder` says.

    Raises:
        UserError: see `publish`.
    """
    file = folder / FILE
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        ids = {str(name): str(value) for name, value in known.items()}
    except (OSError, ValueError, AttributeError):  # there is none, or it is damaged: new ones are written
        ids = {}

    def keep(own: Mapping[str, str]) -> None:
        write_text_atomically(file, json.dumps(dict(own), indent=2) + "\n")

    return publish(shown, tracker.project, tracker.entity, ids, keep)


def board(study: Study) -> Board:
    """The dashboard of a study, as plain data."""
    found, comparison = study.cells, study.comparison
    names = set(study.metrics)
    extractors = {one.extractor for one in comparison.figures if one.extractor}
    shown = comparison.figures
    values = [
        point.value for one in comparison.curves for point in one.points if isinstance(point.value, str)
    ]  # fmt: skip
    return Board(
        study=found[0].config.study,
        samples=[_measure(one) for one in shown if one.measure.group == "samples"],
        others=[_measure(one) for one in shown if one.measure.group != "samples"],
        hierarchy=[
            Measure(name, line.heading, tuple(key for _, key in line.controls if key in names))
            for name, line in GROUPS["hierarchy"].items()
            if name in HIERARCHY and name in names
        ],
        curves=_curves(comparison, extractors),
        named=frozenset(one.setting for one in comparison.curves if any(point.value in values for point in one.points)),
        pictures=[
            name
            for name in PICTURES
            if any((row.point.run.path / f"{name}.png").is_file() for row in study.runs if row.run)
        ],
        tables=[*_matrices(found, comparison), _cells(comparison), *_fairness(study.checks)],
        sentences=list(_sentences(comparison)),
        has_diffusion=any(cell.config.has_diffusion for cell in found),
    )


def _measure(one: Figure) -> Measure:
    return Measure(one.name, one.heading + ARROWS[one.measure.better])


def _curves(comparison: Comparison, extractors: Iterable[str]) -> dict[str, list[Measure]]:
    """Setting → the figures along it, each once."""
    found: dict[str, dict[str, Measure]] = {}
    for curve in comparison.curves:
        along = found.setdefault(curve.setting, {})
        for name in (name for point in curve.points for name in point.means):
            known = figure(name, list(extractors))
            along.setdefault(name, _measure(known) if known else Measure(name, name))
    return {setting: list(along.values()) for setting, along in found.items() if along}


def _cells(comparison: Comparison) -> Grid:
    shown = comparison.figures[:MOST_COLUMNS]
    heading = ["cell", "seeds", *(one.heading + ARROWS[one.measure.better] for one in shown)]
    rows = [
        [cell.name, str(len(cell.seeds)), *(figure_text(one, cell) for one in shown)] for cell in comparison.cells
    ]  # fmt: skip
    return Grid("Means over seeds ± 95 % interval", [heading, *rows])


def _fairness(checks: Sequence[Check]) -> Iterator[Grid]:
    """What should be the same in all runs, and whether it is; nothing where nothing is compared."""
    words = {True: "yes", False: "no", None: "not known"}
    if checks:
        rows = [["it should be", "is it", "facts"], *([one.what, words[one.holds], one.facts] for one in checks)]
        yield Grid("How fair the comparison is", rows)


def _matrices(found: Sequence[Cell], comparison: Comparison) -> Iterator[Grid]:
    """Geometry × curvature, where cells differ in nothing else and in more than one curvature."""
    places: dict[tuple[str, str], CellFigures] = {}
    for cell, figures in zip(found, comparison.cells, strict=True):
        places[cell.config.geometry.name, cell.config.curvature_words] = figures
    rows, columns = (list(dict.fromkeys(place[i] for place in places)) for i in (0, 1))
    if len(places) < len(found) or len(columns) < 2:
        return
    for one in (one for one in comparison.figures if one.name in MATRICES):
        lines = [
            [row, *(figure_text(one, places[row, column]) if (row, column) in places else "" for column in columns)]
            for row in rows
        ]
        heading = ["", *(f"c = {column}" if column[0].isdigit() else column for column in columns)]
        yield Grid(f"{one.heading}{ARROWS[one.measure.better]}, geometry × curvature", [heading, *lines])


def _sentences(comparison: Comparison) -> Iterator[str]:
    for cell in dict.fromkeys(one.cell for one in comparison.differences):
        title, *sentences = verdict(comparison, cell)
        yield " ".join([title, *sentences])
    yield from comparison.exclusions
    yield from (f"Caution: {sentence}" for sentence in comparison.cautions)
