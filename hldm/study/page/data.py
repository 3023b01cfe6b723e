"""What the page shows, as plain data: numbers that are rounded to what is drawn, and words that are shown as they are.

Every mean, interval, difference and sentence comes from the comparison; nothing is computed a second time here or in
the browser.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from hldm import __version__
from hldm.run.summary import GROUPS
from hldm.study.cells import Cell
from hldm.study.comparable import words
from hldm.study.comparison import CellFigures, Comparison, Difference
from hldm.study.curves import Curve
from hldm.study.measures import MEASURES, Figure, figure
from hldm.study.page.disks import disks
from hldm.study.page.series import training
from hldm.study.page.thumbnails import thumbnails
from hldm.study.rows import Row, curvature_words
from hldm.study.statistics import Interval
from hldm.study.tables import interval_text
from hldm.study.verdict import direction, footnotes, is_shown, numbers, overview, verdict
from hldm.study.whole import Study

NULLS = ("_null", "_gaussian", "_shuffled")
"""How metrics end that say what there is without a hierarchy."""

NOT_SAID = frozenset({"parameters", "data_order", "weights", "command", "data"})
"""Entries of provenance that are a run's own, or that the list of checks has."""


def page_data(study: Study) -> dict[str, Any]:
    """All of it."""
    comparison = study.comparison
    index = {cell.name: i for i, cell in enumerate(comparison.cells)}
    along = _figures_of_curves(comparison)
    return {
        "study": study.folder.name,
        "made": datetime.now().astimezone().isoformat(timespec="minutes"),
        "hldm": __version__,
        "figures": [_figure(one) for one in comparison.figures],
        "hierarchy": [one for one in hierarchy_metrics() if one["name"] in study.metrics],
        "cells": [
            _cell(comparison, cell, summary) for cell, summary in zip(study.cells, comparison.cells, strict=True)
        ],
        "metrics": study.metrics,
        "settings": study.differing,
        "runs": [_run(study, row, own, index) for row, own in zip(study.runs, study.own, strict=True)],
        "checks": [{"what": one.what, "holds": one.holds, "facts": one.facts} for one in study.checks],
        "exclusions": comparison.exclusions,
        "cautions": comparison.cautions,
        "footnotes": footnotes(comparison),
        "damaged": study.damaged,
        "curveHeadings": {name: f"{one.heading} {one.measure.arrow}".rstrip() for name, one in along.items()},
        "curveBounds": {name: _bounds(one) for name, one in along.items()},
        "curves": [_curve(curve, index, along) for curve in comparison.curves],
        "training": training([row.point.run.path for row in study.runs]),
        "grids": thumbnails(_by_cell(study), "samples.png"),
        "disks": disks([row.point.run.path for row in study.runs]),
        "common": study.common,
        "provenance": provenance(study.runs),
    }


def rounded(value: float | None, digits: int = 6) -> float | None:
    """A number with so many digits that count; None for none, and for what JSON has no number for."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def _figure(one: Figure) -> dict[str, Any]:
    measure = one.measure
    return {
        "name": one.name, "heading": one.heading, "arrow": measure.arrow, "group": measure.group,
        "scale": measure.scale, "metric": one.metric, "bounds": _bounds(one),
    }  # fmt: skip


def _bounds(one: Figure) -> list[float | None]:
    """What it can be, as it is shown; None for no end."""
    return [rounded(end) for end in one.measure.bounds]


def hierarchy_metrics() -> list[dict[str, Any]]:
    """The metrics of hierarchy, each with what no hierarchy gives, as the summary of a run has them."""
    return [
        {"name": name, "heading": line.heading, "controls": [list(c) for c in line.controls if c[1].endswith(NULLS)]}
        for name, line in GROUPS["hierarchy"].items()
    ]


def _interval(interval: Interval | None, digits: int, scale: float) -> list[Any] | None:
    """[mean, margin, n, in words], scaled as it is shown."""
    if interval is None:
        return None
    margin = interval.margin if interval.margin is None else interval.margin * scale
    return [rounded(interval.mean * scale), rounded(margin), interval.n, interval_text(interval, digits, scale)]


def _cell(comparison: Comparison, cell: Cell, summary: CellFigures) -> dict[str, Any]:
    config = cell.config
    geometry, curvature = config.geometry.name, config.curvature_words
    start = f"{geometry} c={curvature}"
    differences = {one.figure: one for one in comparison.differences if one.cell == summary.name}
    known = {one.name: one for one in comparison.figures}
    wanted = {key for one in hierarchy_metrics() for key in (one["name"], *(control for _, control in one["controls"]))}
    others = {name: Interval.of(cell.figures(name).values()) for name in sorted(wanted)}
    return {
        "name": summary.name,
        "geometry": geometry,
        "curvature": curvature,
        "more": summary.name.removeprefix(start).removeprefix(geometry).strip(),
        "baseline": summary.baseline,
        "seeds": sorted(summary.seeds),
        "unfinished": dict(summary.unfinished),
        "means": {
            one.name: _interval(interval, one.measure.digits, one.measure.scale)
            for one in comparison.figures
            if (interval := summary.intervals.get(one.name))
        },
        "differences": {name: _difference(known[name], one) for name, one in differences.items()},
        "real": {
            name: rounded(value * MEASURES[name].scale) for name, value in summary.real.items() if name in MEASURES
        },
        "hierarchy": {name: _interval(interval, 3, 1.0) for name, interval in others.items() if interval},
        "overview": overview(comparison, summary.name),
        "verdict": verdict(comparison, summary.name)[1:],
    }


def _difference(one: Figure, difference: Difference) -> list[Any]:
    """[difference, margin, is shown, direction, in words, adjusted p], scaled as it is shown."""
    scale, interval = one.measure.scale, difference.interval
    margin = None if interval.margin is None else interval.margin * scale
    way = direction(one, difference) if is_shown(difference) else ""
    text, adjusted = numbers(one, difference)[0], rounded(difference.adjusted, 3)
    return [rounded(interval.mean * scale), rounded(margin), is_shown(difference), way, text, adjusted]


def _run(study: Study, row: Row, own: Mapping[str, str], index: Mapping[str, int]) -> dict[str, Any]:
    name, config, status = row.point.run.path.name, row.point.config, row.status
    made = row.run.provenance if row.run else {}
    seconds = row.run.seconds if row.run else status.get("seconds")
    return {
        "name": name,
        "cell": index.get(study.cell_of.get(name, "")),
        "seed": config.seed,
        "state": row.state,
        "error": row.error,
        "geometry": config.geometry.name,
        "curvature": curvature_words(row),
        "minutes": rounded(row.minutes, 4) if isinstance(row.minutes, int | float) else None,
        "seconds": {k: rounded(v, 4) for k, v in seconds.items()} if isinstance(seconds, Mapping) else {},
        "about": {key: str(value) for key, value in _about(status, made).items() if value},
        "own": [own.get(key) for key in study.differing],
        "values": [rounded(row.metrics.get(key)) for key in study.metrics] if row.run else [],
    }  # fmt: skip


def _about(status: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Any]:
    """What is a run's own in status and provenance."""
    there = {key: status.get(key) for key in ("host", "started", "ended")}
    parameters = words(made["parameters"]) if made.get("parameters") else None
    return {**there, "command": made.get("command") or status.get("command"), "parameters": parameters}


def _curve(curve: Curve, index: Mapping[str, int], along: Mapping[str, Figure]) -> dict[str, Any]:
    metrics = dict.fromkeys(metric for point in curve.points for metric in point.means)
    return {
        "cell": index[curve.cell],
        "setting": curve.setting,
        "split": curve.split,
        "samples": curve.samples,
        "best": {name: sorted(map(str, of_seed.values())) for name, of_seed in curve.best.items()},
        "values": [point.value for point in curve.points],
        "means": {
            metric: [
                _pair(point.means.get(metric), along[metric].measure.scale if metric in along else 1.0)
                for point in curve.points
            ]
            for metric in metrics
        },
    }  # fmt: skip


def _figures_of_curves(comparison: Comparison) -> dict[str, Figure]:
    """Metric of a curve → its figure; those that are none keep their names and units."""
    extractors = {one.extractor for one in comparison.figures}
    names = {metric for curve in comparison.curves for point in curve.points for metric in point.means}
    return {name: one for name in sorted(names) if (one := figure(name, extractors))}


def _pair(interval: Interval | None, scale: float) -> list[float | None] | None:
    if interval is None:
        return None
    return [rounded(scale * interval.mean, 5), rounded(interval.margin and scale * interval.margin, 3)]


def _by_cell(study: Study) -> list[tuple[int, Any]]:
    """(place of the run, its folder), the first seed of every cell before the second ones."""
    seen: Counter[str | None] = Counter()
    order = []
    for i, row in enumerate(study.runs):
        cell = study.cell_of.get(row.point.run.path.name)
        order.append((seen[cell], i, row.point.run.path))
        seen[cell] += 1
    return [(i, path) for _, i, path in sorted(order, key=lambda one: one[:2])]


def provenance(runs: Iterable[Row]) -> list[list[Any]]:
    """[entry, [[value, runs that have it], …]] of what results say of where they come from."""
    entries: dict[str, Counter[str]] = {}
    for row in runs:
        for key, value in (row.run.provenance if row.run else {}).items():
            if key in NOT_SAID:
                continue
            for name, part in _parts(key, value):
                entries.setdefault(name, Counter())[words(part)] += 1
    return [[name, [list(pair) for pair in counts.most_common(4)]] for name, counts in entries.items()]


def _parts(key: str, value: Any) -> Sequence[tuple[str, Any]]:
    """An entry, or each of its own where it is a section or a list of them."""
    if isinstance(value, Mapping):
        return [(f"{key}.{name}", part) for name, part in value.items()]
    if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        return [pair for i, part in enumerate(value, 1) for pair in _parts(f"{key} {i}", part)]
    return [(key, value)]
