"""What is to be submitted for a plan: first stages that runs share, then the runs, in arrays that the cluster takes."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hldm.config.schema import RunConfig
from hldm.config.slurm import Slurm
from hldm.errors import UserError
from hldm.run.identity import FIRST_STAGE_WEIGHTS, first_stage_folder
from hldm.slurm.cluster import Cluster
from hldm.study.plan import Estimate, Point

MARGIN = 1.5
"""How much longer than its estimate a job may take: nodes differ, and others work on them."""

START = 10.0
"""Minutes on top: a slow file system, a first import, a quarter of an hour's worth of bad luck with the network."""

ROUND = 5
"""Minutes to a multiple of which the time of a job is rounded up."""


@dataclass(frozen=True)
class Work:
    """One directory that a job brings to its end.

    Attributes:
        directory: of the run, or of the first stage.
        config: what it does.
        minutes: how long that takes, about.
        least: minutes of that which cannot be split over several jobs.
    """

    directory: Path
    config: RunConfig
    minutes: float
    least: float


@dataclass(frozen=True)
class Array:
    """Jobs that one command of sbatch submits.

    Attributes:
        part: "first_stage" or "run".
        works: what they do, a job each.
        waits: whether first stages of this submission have to be trained before.
        minutes: that each job may take.
        pieces: how many jobs one after the other the longest of them takes.
        parallel: how many run at a time.
    """

    part: str
    works: tuple[Work, ...]
    waits: bool
    minutes: int
    pieces: int
    parallel: int


def missing_first_stages(plan: Iterable[Point]) -> dict[Path, Path | None]:
    """Run that is to be done → the folder of its first stage, None where that is there already, or was given."""
    return {point.run.path: missing_first_stage(point.config) for point in plan if point.is_to_run}


def shared(stages: Mapping[Path, Path | None]) -> dict[Path, int]:
    """First stages that are not there and that several runs need → how many."""
    return {folder: runs for folder, runs in Counter(stages.values()).items() if folder is not None and runs > 1}


def missing_first_stage(config: RunConfig) -> Path | None:
    """Folder of the first stage that a run trains or shares; None where it is trained, or was given."""
    if config.first_stage is not None:
        return None
    folder = first_stage_folder(config)
    return None if (folder / FIRST_STAGE_WEIGHTS).is_file() else folder


def arrange(
    plan: Sequence[Point],
    stages: Mapping[Path, Path | None],
    at_work: Collection[Path],
    estimate: Estimate,
    cluster: Cluster,
) -> list[Array]:
    """The arrays that do what is missing of a plan, in the order in which they are to be submitted.

    Args:
        stages: `missing_first_stages` of the plan.
        at_work: first stages that a job trains already, or is going to.

    Raises:
        UserError: the partition allows less time than what cannot be split takes.
    """
    slurm = plan[0].config.hardware.slurm
    assert slurm is not None
    awaited = {*shared(stages), *at_work}
    to_train: dict[Path, Work] = {}
    runs: dict[bool, list[Work]] = {False: [], True: []}
    for point in plan:
        if not point.is_to_run:
            continue
        folder, minutes = stages[point.run.path], dict(estimate.stages(point.config))
        waits = folder in awaited
        if folder is not None and waits and folder not in at_work:
            to_train.setdefault(folder, Work(folder, point.config, minutes["first_stage"], 0.0))
        if waits or folder is None:
            minutes["first_stage"] = 0.0
        runs[waits].append(Work(point.run.path, point.config, sum(minutes.values()), minutes["evaluation"]))
    arrays = _chunks("first_stage", [*to_train.values()], slurm, cluster, waits=False)
    for waits, works in runs.items():
        arrays += _chunks("run", works, slurm, cluster, waits=waits)
    return arrays


def _chunks(part: str, works: list[Work], slurm: Slurm, cluster: Cluster, *, waits: bool) -> list[Array]:
    """Arrays of at most so many jobs as the cluster allows, which share what may run at a time."""
    if not works:
        return []
    minutes, pieces = time_limit(part, works, slurm, cluster.minutes)
    size = cluster.array_size
    chunks = [tuple(works[start : start + size]) for start in range(0, len(works), size)]
    parallel = max(1, slurm.array_parallelism // len(chunks))
    return [Array(part, chunk, waits, minutes, pieces, parallel) for chunk in chunks]


def time_limit(part: str, works: Sequence[Work], slurm: Slurm, longest: int | None) -> tuple[int, int]:
    """(minutes that a job of these may take, how many jobs one after the other the longest of them takes).

    Raises:
        UserError: the partition allows less than that, or than what cannot be split.
    """
    ending = slurm.signal_delay_s / 60  # the time in which a job saves
    wanted = ROUND * math.ceil((MARGIN * max(work.minutes for work in works) + START + ending) / ROUND)
    where = f"partition {slurm.partition}" if slurm.partition else "the cluster's own partition"
    if slurm.timeout_min != "auto":
        if longest is not None and slurm.timeout_min > longest:
            raise UserError(
                f"hardware.slurm.timeout_min={slurm.timeout_min} is more than the {longest} minutes that {where} "
                f"allows. Type hardware.slurm.timeout_min={longest}, or leave it away: a run that takes longer goes on "
                "in another job."
            )
        minutes = slurm.timeout_min
    else:
        minutes = wanted if longest is None else min(wanted, longest)
    least = math.ceil(max(work.least for work in works) + ending + 1)
    if minutes < least:
        what = "metrics" if part == "run" else "start and end"
        limit = f"{where} allows" if minutes == longest else f"hardware.slurm.timeout_min={minutes} gives"
        raise UserError(
            f"A job of about {least} minutes is needed for the {what} of a run, which cannot be split, and {limit} "
            f"{minutes}. Choose another partition or a longer time, or fewer samples, as in metrics.samples=1000."
        )
    useful = max(1.0, minutes - ending - 1)
    return minutes, max(1, math.ceil(max(work.minutes for work in works) / useful))


def in_words(array: Array) -> str:
    """What an array does, for people."""
    count = len(array.works)
    what = {"first_stage": "shared first stage", "run": "run"}[array.part]
    jobs = f"{count} {what}{'s' if count > 1 else ''}"
    at_once = f", {array.parallel} at a time" if array.parallel < count else ""
    pieces = f", in about {array.pieces} jobs one after the other" if array.pieces > 1 else ""
    after = ", after the first stages" if array.waits else ""
    return f"{jobs}{at_once}{after}: at most {array.minutes} minutes each{pieces}"


def hours(arrays: Iterable[Array]) -> float:
    """Hours of all jobs together, about."""
    return sum(work.minutes for array in arrays for work in array.works) / 60


def states_in_words(states: Iterable[str]) -> str:
    """How many of each, as "3 finished, 2 running"."""
    return ", ".join(f"{count} {state}" for state, count in Counter(states).most_common())
