"""Training curves for a page: what metrics.jsonl says, thinned to what a screen can show."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hldm.run.directory import is_number

MANY_RUNS = 100
"""Beyond so many, curves have fewer points."""

POINTS, FEW_POINTS = 80, 30
MOST_OF_A_STAGE = 6
"""Metrics of one stage that are drawn, in the order of the log."""

NOT_DRAWN = frozenset({"stage", "step", "steps_per_second"})


def training(runs: Sequence[Path]) -> dict[str, Any]:
    """The curves of some runs.

    Returns:
        steps: lists of steps, which many curves share. curves: for each run "stage metric" → [place of its steps,
        values]; empty for a run without a log. A value is the mean of those that were logged since the one before.
    """
    points = POINTS if len(runs) <= MANY_RUNS else FEW_POINTS
    known: dict[tuple[int, ...], int] = {}
    curves: list[dict[str, list[Any]]] = []
    for run in runs:
        of_run = {}
        for name, (steps, values) in logged(run / "metrics.jsonl").items():
            thin_steps, thin_values = thinned(steps, values, points)
            place = known.setdefault(tuple(thin_steps), len(known))
            of_run[name] = [place, [float(f"{value:.4g}") for value in thin_values]]
        curves.append(of_run)
    return {"steps": [list(steps) for steps in known], "curves": curves}


def logged(file: Path) -> dict[str, tuple[list[int], list[float]]]:
    """ "stage metric" → (steps, values) of a log, which a run may be writing; what is no number is left out."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    try:
        lines = file.read_bytes().splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            record = json.loads(line)
            stage, step = str(record["stage"]), int(record["step"])
        except (ValueError, TypeError, KeyError, OverflowError):  # the last line may be half written
            continue
        for name, value in record.items():
            if name not in NOT_DRAWN and is_number(value):
                steps, values = found.setdefault(f"{stage} {name}", ([], []))
                steps.append(step)
                values.append(value)
    drawn: dict[str, int] = {}
    kept = {}
    for name, (steps, values) in found.items():
        stage = name.split(" ")[0]
        if len(steps) > 1 and drawn.get(stage, 0) < MOST_OF_A_STAGE:
            drawn[stage] = drawn.get(stage, 0) + 1
            kept[name] = (steps, values)
    return kept


def thinned(steps: Sequence[int], values: Sequence[float], points: int) -> tuple[list[int], list[float]]:
    """At most so many points: each is the mean of an equal share of the values, at the last step of the share."""
    n = len(steps)
    if n <= points:
        return list(steps), list(values)
    ends = [round((i + 1) * n / points) for i in range(points)]
    starts = [0, *ends[:-1]]
    means = [math.fsum(values[start:end]) / (end - start) for start, end in zip(starts, ends, strict=True)]
    return [steps[end - 1] for end in ends], means
