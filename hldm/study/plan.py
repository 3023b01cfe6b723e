"""What a command is going to do, before it does it: which runs, which of them are there already, how long."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hldm.config.autoencoder import MLP
from hldm.config.schema import RunConfig
from hldm.errors import UserError
from hldm.run import jobs
from hldm.run.directory import RunDirectory
from hldm.run.identity import Identity, run_identity
from hldm.run.provenance import differs


@dataclass(frozen=True)
class Point:
    """One point of a grid, or the only run of a command.

    Several points can be the same run: `original` is then the number of the first of them, counted from 1.
    """

    overrides: tuple[str, ...]
    config: RunConfig
    identity: Identity
    run: RunDirectory
    state: str
    made_with: Mapping[str, Any] = field(default_factory=dict)
    """Version and commit that the run was begun with."""
    original: int | None = None
    job: str | None = None
    """The job of SLURM that was last given this run, as `12_3`."""
    job_state: str = jobs.GONE
    """What SLURM says of that job."""

    @property
    def is_to_run(self) -> bool:
        """Whether this point is work for this command."""
        return self.original is None and self.state not in ("finished", "running") and not self.is_submitted

    @property
    def is_submitted(self) -> bool:
        """Whether a job of SLURM waits or works for it; where SLURM does not answer, what the run says is believed."""
        if self.state == "finished" or self.job is None:
            return False
        return self.job_state in jobs.ALIVE or (self.job_state == jobs.UNKNOWN and self.state == "submitted")


def make_plan(points: Iterable[tuple[tuple[str, ...], RunConfig]]) -> list[Point]:
    """(overrides, configuration) of every point → what there is to do."""
    plan: list[Point] = []
    first: dict[Path, int] = {}
    for number, (overrides, config) in enumerate(points, start=1):
        identity = run_identity(config)
        path = config.study_folder / identity.name
        run = RunDirectory(path)
        if path in first:
            same = plan[first[path] - 1]
            plan.append(Point(overrides, config, identity, run, same.state, same.made_with, first[path]))
            continue
        first[path] = number
        was = run.look()  # a damaged run is mended, and the others go on
        made_with = {**was.provenance, **(was.status.get("code") or {})}
        plan.append(Point(overrides, config, identity, run, was.state, made_with, job=jobs.job_of(was.status)))
    return _with_jobs(plan)


def _with_jobs(plan: list[Point]) -> list[Point]:
    """The plan with what SLURM says of the jobs of unfinished runs; asked once, and only where there are any."""
    asked = {point.job for point in plan if point.job and point.state != "finished"}
    states = jobs.states([job for job in asked if job])
    return [replace(point, job_state=states.get(point.job or "", jobs.GONE)) for point in plan]


def print_plan(plan: list[Point], slots: int, how: str, console: Console) -> None:
    """A table with a row per point, and how long the work will take.

    Args:
        slots: runs at the same time.
        how: where they run, in words.
    """
    estimate = Estimate.from_finished_runs(Path(plan[0].config.paths.outputs))
    if minutes := print_points(plan, estimate, console):
        to_run = [point.config for point in plan if point.is_to_run]
        count = f"{len(minutes)} run{'s' if len(minutes) > 1 else ''} to do"
        total = makespan(minutes, slots)
        time = f"{total:.0f} minutes" if total >= 2 else f"{60 * total:.0f} seconds"
        console.print(f"{count}, {how}: about {time}, {estimate.basis(to_run)}.")
        console.print("Ctrl-C stops; the same command goes on from there.")


def print_points(plan: list[Point], estimate: "Estimate", console: Console) -> list[float]:
    """The table, and how many runs were made with other code; the minutes of each run that is to be done."""
    words = {
        "new": "new",
        "broken off": "resume",
        "stopped": "resume",
        "failed": "failed before: again",
        "finished": "finished already",
        "submitted": "its job is gone: again",
        "cancelled": "cancelled before: again",
        "damaged": "a file is damaged: mended",
    }
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("#", "grid point", "run", "", "minutes"):
        table.add_column(heading, justify="right" if heading in ("#", "minutes") else "left", overflow="fold")
    minutes = []
    for number, point in enumerate(plan, start=1):
        what = f"same run as {point.original}" if point.original else words.get(point.state, point.state)
        if point.state == "running" and not point.original:
            what = f"at work: {point.run.holder()}"
        if point.is_submitted and not point.original:
            what = f"job {point.job}: {point.job_state.lower()}"
        cost = ""
        if point.is_to_run:
            minutes.append(estimate.minutes(point.config))
            cost = f"{minutes[-1]:.1f}"
        table.add_row(str(number), " ".join(point.overrides) or "(defaults)", point.identity.name, what, cost)
    console.print(table)
    others = Counter(sentence for point in plan if point.original is None and (sentence := differs(point.made_with)))
    for sentence, runs in others.items():
        console.print(f"{runs} run{'s' if runs > 1 else ''} {sentence}. Move one away to make it again.")
    return minutes


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

LEAST = 1.5
"""Stages that took less than so many times the fixed seconds say little of the units: smoke runs, mostly."""


def units(config: RunConfig) -> dict[str, float]:
    """Work per stage: training steps of 128 images, and evaluations of the network for one sample."""
    training, metrics, sampler = config.training, config.metrics, config.diffusion.sampler
    first_stage = 0.0 if config.first_stage else training.first_stage.steps * training.first_stage.batch_size / 128
    if isinstance(config.autoencoder, MLP):  # a hidden layer on either side costs a small part of the convolutions
        first_stage *= 0.04
    second = training.diffusion if config.has_diffusion else None
    samples = _samples(config) if metrics.extractors else 0
    return {
        "first_stage": first_stage,
        "diffusion": second.steps * second.batch_size / 128 if second else 0.0,
        "evaluation": samples * sampler.network_evaluations if sampler else 0.0,
    }


def _samples(config: RunConfig) -> float:
    """How many samples are drawn, in units of guided ones where there is guidance: one without is half the work."""
    metrics, curves = config.metrics, config.curves
    of_curves = sum(map(len, curves.values())) * metrics.validation_samples
    # at most: the best value may be the run's own
    sets = 1 + (0.5 if "guidance" in curves else 0) + len(curves) * len(metrics.extractors)
    return of_curves + metrics.samples * len(metrics.sampling_seeds) * sets


def kind(config: RunConfig) -> tuple[str | None, ...]:
    """What runs whose times compare have in common."""
    process = config.diffusion.process
    return (
        config.autoencoder.target,
        config.denoiser.target,
        process.target if process else None,
        config.hardware.device,
    )


@dataclass(frozen=True)
class Estimate:
    """How much slower than `NOMINAL` each stage is here, for each kind of run."""

    factor: Mapping[tuple[str | None, ...], Mapping[str, float]] = field(default_factory=dict)
    n_runs: int = 0

    @classmethod
    def from_finished_runs(cls, outputs: Path) -> "Estimate":
        """Each stage as it went in the run of its kind that spent most time in it.

        We use the run that spent longest in each stage. Short runs are mostly start-up time, and a run that reused a
        trained first stage has no timing for it.
        """
        longest: dict[tuple[tuple[str | None, ...], str], float] = {}
        factor: dict[tuple[str | None, ...], dict[str, float]] = {}
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
            work = units(config)
            slow = {
                stage: seconds.get(stage, 0.0) for stage in NOMINAL if seconds.get(stage, 0.0) >= LEAST * FIXED[stage]
            }
            n_runs += bool(slow)
            for stage, spent in slow.items():
                if spent > longest.get((kind(config), stage), 0):
                    longest[kind(config), stage] = spent
                    factor.setdefault(kind(config), {})[stage] = spent / (FIXED[stage] + NOMINAL[stage] * work[stage])
        return cls(factor, n_runs)

    def basis(self, configs: Iterable[RunConfig]) -> str:
        """What the minutes of these runs rest on, in words."""
        if not any(kind(config) in self.factor for config in configs):
            return "a nominal figure for two CPU cores, as nothing of this kind has finished here yet"
        return f"by the speed of the {self.n_runs} finished run{'s' if self.n_runs > 1 else ''} here"

    def minutes(self, config: RunConfig) -> float:
        """Minutes of the whole run, also where a part of it is there already."""
        return sum(self.stages(config).values())

    def stages(self, config: RunConfig) -> dict[str, float]:
        """Minutes of each stage, in the order in which they come."""
        work, factor = units(config), self.factor.get(kind(config), {})
        return {stage: factor.get(stage, 1.0) * (FIXED[stage] + NOMINAL[stage] * work[stage]) / 60 for stage in NOMINAL}
