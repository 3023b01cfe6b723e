"""A grid of runs from its plan to its comparison. The launchers in hydra_plugins/ call this."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from hldm.errors import UserError
from hldm.study.check import check, check_machine
from hldm.study.comparison import print_comparison, terminal
from hldm.study.config import get, plain
from hldm.study.execute import execute
from hldm.study.plan import Point, make_plan, print_plan


def checked_grid(
    overrides: Sequence[Sequence[str]], composed: Sequence[DictConfig]
) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """Hydra's compositions of a grid → (what differs between its points, configuration), each of them checked.

    Raises:
        UserError: for the first point that cannot be right, so that nothing of the grid starts.
    """
    common = set.intersection(*map(set, overrides)) if len(overrides) > 1 else set()
    grid = []
    for point, config in zip(overrides, composed, strict=True):
        own = plain(config)
        check(own, config.hydra.runtime.choices)
        names = tuple(_as_typed(part) for part in point if part not in common)
        grid.append((names, own))
    return grid


def _as_typed(override: str) -> str:
    """A number sets `curvature.value`, and a + sign only says that a group is not among the defaults."""
    return override.removeprefix("+").replace("curvature.value=", "curvature=", 1)


def sweep(points: list[tuple[tuple[str, ...], dict[str, Any]]]) -> tuple[list[Point], UserError | None]:
    """Do what is missing of a checked grid, then compare all of it.

    Args:
        points: what names each point, and its configuration.

    Returns:
        The plan, and an error to raise in the end where a run failed or is another process's.
    """
    hardware = [config["hardware"] for _, config in points]
    if any(other != hardware[0] for other in hardware):
        raise UserError("A grid runs on one kind of hardware: choose one hardware option for the whole command.")
    console = terminal()
    plan = make_plan(points)
    to_run = [point for point in plan if point.is_to_run]
    allotment = check_machine(plan[0].config, max(1, len(to_run)))
    print_plan(plan, allotment.slots, str(allotment), console)
    execute(to_run, allotment, console)
    print_comparison(plan, console)
    return plan, _what_is_missing(plan)


def _what_is_missing(plan: list[Point]) -> UserError | None:
    missing = [point for point in plan if point.original is None and point.run.state != "finished"]
    if not missing:
        return None
    stories = [f"{p.run.path.name}: {p.run.status.get('error') or p.run.state}" for p in missing]
    distinct = sum(point.original is None for point in plan)
    study = get(missing[0].config, "study")
    return UserError(
        f"{len(missing)} of {distinct} runs of study {study} did not finish. {'; '.join(stories)}. "
        "The same command tries them again, and only them."
    )
