"""What a command is going to do, before it does it: which runs, which of them are there already, how long."""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hldm.errors import UserError
from hldm.study.config import get
from hldm.study.identity import Identity, run_identity
from hldm.study.run_directory import RunDirectory


@dataclass(frozen=True)
class Point:
    """One point of a grid, or the only run of a command.

    Several points can be the same run: `original` is then the number of the first of them, counted from 1.
    """

    overrides: tuple[str, ...]
    config: dict[str, Any]
    identity: Identity
    run: RunDirectory
    state: str
    original: int | None = None

    @property
    def is_to_run(self) -> bool:
        """Whether this point is work for this command."""
        return self.original is None and self.state not in ("finished", "running")


def make_plan(points: Iterable[tuple[tuple[str, ...], dict[str, Any]]]) -> list[Point]:
    """(overrides, configuration) of every point → what there is to do."""
    plan: list[Point] = []
    first: dict[Path, int] = {}
    for number, (overrides, config) in enumerate(points, start=1):
        identity = run_identity(config)
        path = Path(config["paths"]["outputs"]) / str(config["study"]) / identity.name
        run = RunDirectory(path)
        plan.append(Point(overrides, config, identity, run, run.state, first.get(path)))
        first.setdefault(path, number)
    return plan


def print_plan(plan: list[Point], slots: int, how: str, console: Console) -> None:
    """A table with a row per point, and how long the work will take.

    Args:
        slots: runs at the same time.
        how: where they run, in words.
    """
    outputs = Path(plan[0].config["paths"]["outputs"])
    estimate = Estimate.from_finished_runs(outputs)
    words = {"new": "new", "broken off": "resume", "failed": "failed before: again", "finished": "finished already"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("#", "grid point", "run", "", "minutes"):
        table.add_column(heading, justify="right" if heading in ("#", "minutes") else "left", overflow="fold")
    minutes = []
    for number, point in enumerate(plan, start=1):
        what = f"same run as {point.original}" if point.original else words.get(point.state, point.state)
        if point.state == "running" and not point.original:
            what = f"at work: {point.run.holder()}"
        cost = ""
        if point.is_to_run:
            minutes.append(estimate.minutes(point.config))
            cost = f"{minutes[-1]:.1f}"
        table.add_row(str(number), " ".join(point.overrides) or "(defaults)", point.identity.name, what, cost)
    console.print(table)
    if minutes:
        count = f"{len(minutes)} run{'s' if len(minutes) > 1 else ''} to do"
        total = makespan(minutes, slots)
        time = f"{total:.0f} minutes" if total >= 2 else f"{60 * total:.0f} seconds"
        console.print(f"{count}, {how}: about {time}, {estimate.basis}.")
        console.print("Ctrl-C stops; the same command goes on from there.")


def makespan(minutes: list[float], slots: int) -> float:
    """When the last of these runs ends, if each takes the first free slot."""
    free = [0.0] * slots
    for cost in minutes:
        heapq.heapreplace(free, free[0] + cost)
    return max(free)


NOMINAL = {"first_stage": 0.25, "diffusion": 0.20, "evaluation": 0.9e-3}
"""Seconds per unit of work of each stage, with the default models on two shared x86 cores (2026-11-24)."""

FIXED = {"first_stage": 3.0, "diffusion": 15.0, "evaluation": 20.0}
"""Seconds of each stage that do not grow with its units: imports, encoding the data, metrics of the test set."""

RECENT = 30
"""Runs that an estimate looks at: reading them all would take long where there are thousands."""


EVALUATIONS_PER_STEP = {"midpoint": 2, "heun": 2, "rk4": 4}
"""Of the samplers that need more than one."""


def units(config: Mapping[str, Any]) -> dict[str, float]:
    """Work per stage: training steps of 128 images, and evaluations of the network for one sample."""
    sampler = get(config, "diffusion.sampler") or {"steps": 0}
    method = str(sampler.get("method"))
    # how many evaluations an adaptive solver needs is not known before: about this many on a smooth field
    evaluations = 20 if method == "adaptive" else sampler.get("steps", 30) * EVALUATIONS_PER_STEP.get(method, 1)
    training = get(config, "training", {})
    images = {
        stage: get(training, f"{stage}.steps", 0) * get(training, f"{stage}.batch_size", 128) / 128
        for stage in ("first_stage", "diffusion")
    }
    if get(config, "first_stage"):
        images["first_stage"] = 0
    if get(config, "autoencoder.hidden"):  # a hidden layer on either side costs a small part of the convolutions
        images["first_stage"] *= 0.04
    samples = get(config, "metrics.samples", 0) * len(get(config, "metrics.sampling_seeds", [0]))
    return {**images, "evaluation": samples * evaluations}


@dataclass(frozen=True)
class Estimate:
    """How much slower than `NOMINAL` each stage is here."""

    factor: Mapping[str, float]
    basis: str

    @classmethod
    def from_finished_runs(cls, outputs: Path) -> "Estimate":
        """Each stage as it went in the run that spent most time in it; nominal where none has finished.

        The longest, as a short run is mostly overhead, and one that found its first stage trained tells nothing of it.
        """
        longest: dict[str, float] = {}
        factor: dict[str, float] = {}
        n_runs = 0
        statuses = sorted(outputs.glob("*/*/status.json"), key=lambda file: file.stat().st_mtime)
        for file in statuses[-RECENT:]:
            run = RunDirectory(file.parent)
            try:
                status, config = run.status, run.config
            except UserError:
                continue  # a damaged run is no reason not to plan another one
            seconds = status.get("seconds")
            if status.get("state") != "finished" or not isinstance(seconds, dict):
                continue
            n_runs += 1
            work = units(config)
            for stage in NOMINAL:
                if seconds.get(stage, 0) > longest.get(stage, 0):
                    longest[stage] = seconds[stage]
                    factor[stage] = seconds[stage] / (FIXED[stage] + NOMINAL[stage] * work[stage])
        if not factor:
            return cls({}, "a nominal figure for two CPU cores, as nothing has finished here yet")
        return cls(factor, f"by the speed of the {n_runs} finished run{'s' if n_runs > 1 else ''} here")

    def minutes(self, config: Mapping[str, Any]) -> float:
        """For the whole run, also where a part of it is there already."""
        work = units(config)
        return sum(self.factor.get(s, 1.0) * (FIXED[s] + NOMINAL[s] * work[s]) for s in NOMINAL) / 60
