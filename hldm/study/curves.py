"""Curves of cells along a sampler setting, such as guidance: means over seeds, and differences from the baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hldm.run.directory import is_number
from hldm.study.cells import Cell, Finished
from hldm.study.comparable import Terms, data_difference, usual, words
from hldm.study.statistics import Interval, paired_difference


@dataclass(frozen=True)
class CurvePoint:
    """A value of a sampler setting on validation: metric → mean of a cell, and its difference from the baseline."""

    value: float | str
    means: Mapping[str, Interval]
    differences: Mapping[str, Interval]


@dataclass(frozen=True)
class Curve:
    """What a cell's metrics are along a sampler setting, where each run chose its best.

    Attributes:
        cell: its name.
        setting: as in "guidance".
        split, samples: what it was measured on: never the test images.
        best: extractor ("" for the leading one) → seed → the value that it chose.
        points: in the order of the values tried.
    """

    cell: str
    setting: str
    split: str
    samples: int | None
    best: Mapping[str, Mapping[int, float | str]]
    points: Sequence[CurvePoint]


def settings_of_curves(cell: Cell) -> list[str]:
    """The settings that the runs of a cell have curves of."""
    return list(dict.fromkeys(name for run in cell.runs.values() for name in run.curves))


def _values_along(setting: str, runs: Mapping[int, Finished]) -> dict[int, dict[float | str, dict[str, float]]]:
    """Seed → value of the setting → metric → number."""

    def numbers(point: Mapping[str, Any]) -> dict[str, float]:
        return {name: number for name, number in point.items() if is_number(number) and name != "value"}

    return {
        seed: {point["value"]: numbers(point) for point in run.curves[setting]["points"]} for seed, run in runs.items()
    }


def curve(setting: str, name: str, cell: Cell, base: Cell | None) -> Curve:
    """Means over seeds at every value, of the runs that were measured as most were: samples, split, extractors."""
    leading = usual(found for run in cell.runs.values() if (found := _curve_terms(run, setting)))
    alike = {seed: run for seed, run in cell.runs.items() if _curve_terms(run, setting) == leading}
    ours, theirs = _values_along(setting, alike), {}
    if base is not None:
        pairs = {seed: base.runs[seed] for seed, run in alike.items() if _has_pair(seed, run, base)}
        same = {seed: run for seed, run in pairs.items() if _curve_terms(run, setting) == leading}
        theirs = _values_along(setting, same)
    points = []
    for value in dict.fromkeys(value for values in ours.values() for value in values):
        metrics = dict.fromkeys(metric for values in ours.values() for metric in values.get(value, {}))
        means, differences = {}, {}
        for metric in metrics:
            here, there = _along(ours, value, metric), _along(theirs, value, metric)
            if interval := Interval.of(here.values()):
                means[metric] = interval
            if apart := paired_difference(here, there):
                differences[metric] = apart
        points.append(CurvePoint(value, means, differences))
    first = next(iter(alike.values())).curves[setting]
    best: dict[str, dict[int, float | str]] = {}
    for seed, run in alike.items():
        for key, value in run.curves[setting].items():
            if key == "best" or key.startswith("best_"):
                best.setdefault(key[len("best_") :], {})[seed] = value
    return Curve(name, setting, str(first.get("split", "?")), first.get("samples"), best, points)


def _has_pair(seed: int, run: Finished, base: Cell) -> bool:
    return seed in base.runs and data_difference(base.runs[seed], run) is None


def _along(
    values: Mapping[int, Mapping[float | str, Mapping[str, float]]], at: float | str, metric: str
) -> dict[int, float]:
    return {seed: of_seed[at][metric] for seed, of_seed in values.items() if metric in of_seed.get(at, {})}


def _curve_terms(run: Finished, setting: str) -> Terms | None:
    """What the curve of a run rests on; None where it has none."""
    if (found := run.curves.get(setting)) is None:
        return None
    measured = {name: run.provenance.get(name) for name in ("extractors", "classifier", "rule")}
    return (
        ("split", str(found.get("split"))),
        ("n", str(found.get("samples"))),
        *((what, words(value)) for what, value in measured.items()),
    )


def at_the_end(one: Curve) -> str | None:
    """A sentence where runs chose an end of the scales that were tried, beyond which a better one may lie.

    Guidance 1 is none, and no such end.
    """
    values = [point.value for point in one.points]
    if one.setting != "guidance" or len(values) < 2:
        return None
    for end, which in ((values[-1], "last"), (values[0], "first")):
        seeds = sorted({seed for chosen in one.best.values() for seed, value in chosen.items() if value == end})
        if seeds and end != 1:
            return (
                f"{one.cell}: {seeds_in_words(seeds)} chose guidance {end}, the {which} that was tried, and a "
                "better one may lie beyond it: metrics.guidance_scales=[…] with more."
            )
    return None


def seeds_in_words(seeds: Sequence[int]) -> str:
    """As in "seeds 0, 3"."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
