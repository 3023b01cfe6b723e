"""A grid of runs from its points to its comparison. The launchers in hydra_plugins/ call this."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from hldm.config.arguments import as_typed
from hldm.config.base import Shared
from hldm.config.options import Options
from hldm.config.schema import RunConfig, WandbTracker
from hldm.console import terminal
from hldm.errors import UserError
from hldm.machine import Allotment, allot, check_machine
from hldm.resources import cores, memory
from hldm.run import requirements
from hldm.run.ranks import place
from hldm.study.compare import print_comparison
from hldm.study.counted import print_counted
from hldm.study.execute import execute, mend
from hldm.study.memory import refuse_more_than, usual
from hldm.study.plan import Point, make_plan, print_plan
from hldm.tracking import check_tracking

NOTHING_STARTED = "plan=true: nothing was started."


def checked(
    overrides: Sequence[Sequence[str]], compose: Callable[[list[str]], RunConfig], options: Options
) -> list[tuple[tuple[str, ...], RunConfig]]:
    """The points of a grid → (what differs between them, configuration), each of them checked.

    Raises:
        UserError: some points cannot be right; it names all that is wrong, and nothing of the grid starts.
    """
    points = [list(point) for point in overrides]
    configs: list[RunConfig] = []
    wrong: list[str] = []
    shared = Shared()
    for point in points:
        try:
            configs.append(shared(compose(point)))
        except UserError as error:
            wrong += error.problems
    if wrong := [*wrong, *requirements.of_all(configs, options)]:
        raise UserError.of(wrong)
    if any(config.hardware != configs[0].hardware for config in configs):
        raise UserError("A grid runs on one kind of hardware: choose one hardware option for the whole command.")
    return list(zip(names(points), configs, strict=True))


def names(points: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """What differs between the points of a grid, as a user types it."""
    common = set.intersection(*map(set, points)) if len(points) > 1 else set()
    return [as_typed(point, common) for point in points]


def sweep(
    points: list[tuple[tuple[str, ...], RunConfig]], *, plan_only: bool = False, compares: bool = True
) -> tuple[list[Point], UserError | None]:
    """Do what is missing of a checked grid on this machine, then compare all of it.

    Args:
        points: what names each point, and its configuration.
        plan_only: say what would be done, and do nothing.
        compares: compare all of it in the end, which a search does not do with each of its parts.

    Returns:
        The plan, and an error to raise in the end where a run failed or is another process's: the launcher has to give
        the results of the others first.
    """
    if not place().is_first:
        print("One process makes the grid, and this is another one of the same step: it has nothing to do.")
        raise SystemExit(0)
    console = terminal()
    plan = make_plan(points)
    to_run = [point for point in plan if point.is_to_run]
    allotment = machine(plan, len(to_run))
    print_plan(plan, allotment.slots, str(allotment), console)
    print_counted(plan, console)
    if plan_only:
        console.print(NOTHING_STARTED)
        return plan, None
    mend(plan)
    warn_of_tracker(to_run, console)
    # a run that another process works on is waited for, where it takes a slot of this machine
    at_work = [point for point in plan if point.original is None and point.state == "running"]
    failures = execute([*at_work, *to_run], allotment, console)
    if compares:
        print_comparison(plan, console)
    return plan, what_is_missing(plan, failures)


def warn_of_tracker(to_run: list[Point], console: Console) -> None:
    """Say once what every one of these runs would meet: a tracker that cannot be used never ends a run."""
    trackers = {point.config.tracking for point in to_run}
    for tracking in trackers:
        if isinstance(tracking, WandbTracker) and (
            trouble := check_tracking(tracking.project, tracking.entity, tracking.mode)
        ):
            console.print(trouble, soft_wrap=True)


def machine(plan: list[Point], runs: int) -> Allotment:
    """What this machine gives to so many runs; outputs that are only read need not be writable."""
    config = plan[0].config
    if not runs:
        return allot(config.hardware, 1)
    to_run = [point.config for point in plan if point.is_to_run]
    done = [point for point in plan if point.state == "finished"]
    each = usual(to_run, (peak for point in done if isinstance(peak := point.run.status.get("peak_memory_mib"), int)))
    hardware = config.hardware
    if hardware.threads == "auto" and len(known := {point.made_with.get("threads") for point in done}) == 1:
        # last bits depend on the number of threads: runs of one study have the same as far as that is possible
        [threads] = known
        if isinstance(threads, int) and threads * hardware.ranks <= cores():
            hardware = hardware.model_copy(update={"threads": threads})
    allotment = check_machine(config.study_folder, hardware, runs, each)
    total = None if allotment.gpus else memory()
    for point in plan:
        if point.original is None and point.state != "finished":
            refuse_more_than(total, point.config)
    return allotment


def what_is_missing(plan: list[Point], failures: Mapping[Path, str] | None = None) -> UserError | None:
    """The error that says which runs did not finish; None where all did.

    Args:
        failures: run directory → why it failed just now; its files may not say so, on a full disk.
    """
    known = failures or {}
    missing = [point for point in plan if point.original is None and point.run.state != "finished"]
    if not missing:
        return None
    stories = [
        f"{p.run.path.name}: {known.get(p.run.path) or p.run.status.get('error') or p.run.state}" for p in missing
    ]
    distinct = sum(point.original is None for point in plan)
    return UserError(
        f"{len(missing)} of {distinct} runs of study {missing[0].config.study} did not finish. {'; '.join(stories)}. "
        "The same command tries them again, and only them."
    )
