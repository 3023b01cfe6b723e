"""`search=tpe`: ask Optuna for trials, run each as ordinary runs, tell it what came out, and say what was best.

A trial is one run for each seed, with its identity, directory and shared first stage, started by the launcher that
grids use. Where a process dies, the same command goes on with the trials that are open.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from rich.console import Console

from hldm.config.arguments import as_typed
from hldm.config.options import Options
from hldm.config.schema import RunConfig
from hldm.console import terminal
from hldm.errors import UserError
from hldm.run import lease
from hldm.run.identity import run_identity
from hldm.study.found import announce, report, write
from hldm.study.grid import NOTHING_STARTED, checked
from hldm.study.objective import Objective
from hldm.study.plan import Point
from hldm.study.space import Setting, Space
from hldm.study.trials import FOLDER, Trial, Trials, need_optuna, storage

Compose = Callable[[list[str]], RunConfig]
Launch = Callable[[list[tuple[tuple[str, ...], RunConfig]]], tuple[list[Point], UserError | None]]

WHOLE = " An interval of whole numbers is int(interval(2,8))."


def search(overrides: Sequence[str], compose: Compose, options: Options, launch: Launch, *, plan_only: bool) -> None:
    """Do what is missing of the searches that a command asks for, and say what was found.

    Args:
        overrides: in Hydra's form, with intervals.
        compose: overrides of one run → its configuration.
        options: what there is to choose.
        launch: does what is missing of runs, and returns when they have ended.
        plan_only: say what would be searched, and do nothing.

    Raises:
        UserError: something cannot be right, before any work; or a run was stopped, or no trial of a search succeeded.
    """
    need_optuna()
    space = Space.of(overrides)
    configs = [_looked_at(space, texts, compose, options) for texts in space.searches]
    objectives = [Objective.of(config) for config in configs]
    _refuse_idle(space, compose)
    labels = _labels(space)
    settings = configs[0].search
    assert settings is not None
    console = terminal()
    announce(labels, space, objectives, settings, console)
    if plan_only:
        console.print(NOTHING_STARTED)
        return
    folder = configs[0].study_folder
    with lease.held(folder / FOLDER, say=lambda text: print(f"    {text}", flush=True)):
        journal = storage(folder)
        searches = [
            Trials(
                label, [*space.fixed, *texts], _digest(space, config, objective), journal, settings, objective, space
            )
            for label, texts, config, objective in zip(labels, space.searches, configs, objectives, strict=True)
        ]
        while _batch(searches, compose, options, launch, console):
            write(searches, folder)
        write(searches, folder)
    report(searches, configs[0], console)
    if empty := [one.label or "this search" for one in searches if one.best is None]:
        raise UserError(f"No trial of {' and of '.join(empty)} succeeded. What is printed for each says why.")


def _looked_at(space: Space, texts: Sequence[str], compose: Compose, options: Options) -> RunConfig:
    """A configuration inside the space of one search, after the ends of all intervals have been checked."""
    middle = [f"{setting.key}={setting.middle}" for setting in space.settings]
    probed = [[*middle]]
    for number, setting in enumerate(space.settings):
        for probe in setting.probes:
            probed.append([*middle[:number], f"{setting.key}={probe}", *middle[number + 1 :]])
    points = [[*space.fixed, *texts, *tuned, space.seeds[0]] for tuned in probed]
    try:
        return checked(points, compose, options)[0][1]
    except UserError as error:
        keys = tuple(f"{setting.key}=" for setting in space.settings)
        raise UserError.of(
            f"{problem}{WHOLE}" if problem.startswith(keys) and "whole number" in problem else problem
            for problem in error.problems
        ) from None


def _refuse_idle(space: Space, compose: Compose) -> None:
    """Raise a UserError where a setting that is tuned changes no run of any search: all trials would be one run."""
    searches = [[*space.fixed, *texts, space.seeds[0]] for texts in space.searches]
    idle = [
        setting for setting in space.settings if not any(_matters(setting, space, own, compose) for own in searches)
    ]
    if idle:
        raise UserError.of(
            f"{setting.key} is searched from {setting.words}, and changes nothing here: every value is the same run. "
            f"Leave {setting.key} away, or choose what reads it, as curvature is read with geometry=poincare."
            for setting in idle
        )


def _matters(setting: Setting, space: Space, own: Sequence[str], compose: Compose) -> bool:
    """Whether its ends are two runs, with the other settings inside or one of them at any of its probes."""
    others = [other for other in space.settings if other is not setting]
    middle = {other.key: other.middle for other in others}
    probed = [middle, *({**middle, other.key: probe} for other in others for probe in other.probes)]
    for values in probed:
        around = [*own, *(f"{key}={value}" for key, value in values.items())]
        ends = [[*around, f"{setting.key}={end}"] for end in (setting.probes[0], setting.probes[-1])]
        try:
            low, high = (run_identity(compose(end)).digest for end in ends)
        except UserError:  # these values cannot stand together, which a trial says
            continue
        if low != high:
            return True
    return False


def _labels(space: Space) -> list[str]:
    """What tells each search from the others; "" for the only one."""
    if len(space.searches) == 1:
        return [""]
    common = set.intersection(*map(set, space.searches))
    return [" ".join(as_typed(texts, common)) for texts in space.searches]


def _digest(space: Space, config: RunConfig, objective: Objective) -> str:
    """The name of a search in the journal: equal where trials mean the same, however many there are to be."""
    search = config.search
    assert search is not None
    how = search.model_copy(update={"trials": 1})
    parts = (space.seeds, space.settings, run_identity(config).digest, objective, how)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _batch(searches: Sequence[Trials], compose: Compose, options: Options, launch: Launch, console: Console) -> bool:
    """Run the trials that are open, of all searches, and tell what came out; False where there are none.

    Raises:
        UserError: some were stopped: they stay open.
    """
    todo = [(one, trial) for one in searches for trial in one.next()]
    points: list[tuple[tuple[str, ...], RunConfig]] = []
    where: list[tuple[Trials, Trial, slice]] = []
    for one, trial in todo:
        runs = one.points(trial)
        try:
            configs = [config for _, config in checked(runs, compose, options)]
        except UserError as error:  # settings that cannot stand together
            one.tell(trial, None)
            console.print(f"{one.title(trial)}: failed: {error}", soft_wrap=True)
            continue
        names = [as_typed(run, one.space.fixed) for run in runs]
        where.append((one, trial, slice(len(points), len(points) + len(runs))))
        points += zip(names, configs, strict=True)
    if not where:
        return bool(todo)
    console.print(f"\n{_said(todo)}:", soft_wrap=True)
    plan, _ = launch(points)
    left = [name for one, trial, part in where for name in _conclude(one, trial, plan[part], console)]
    if left:
        raise UserError(
            f"{', '.join(left)} did not end, so the search stays where it is. The same command goes on from there."
        )
    return True


def _said(todo: Sequence[tuple[Trials, Trial]]) -> str:
    numbers = sorted({trial.number + 1 for _, trial in todo})
    what = f"Trial {numbers[0]}" if len(numbers) == 1 else f"Trials {numbers[0]} to {numbers[-1]}"
    return f"{what} of {todo[0][0].search.trials}"


def _conclude(one: Trials, trial: Trial, plan: Sequence[Point], console: Console) -> Iterator[str]:
    """Tell what became of a trial; the names of its runs that have not ended, which leave it open."""
    looks = [(point.run.path.name, point.run.look()) for point in plan]
    if left := [name for name, was in looks if was.state not in ("finished", "failed")]:
        yield from left
        return
    values, wrong = [], []
    for name, was in looks:
        try:
            if was.state == "failed":
                raise UserError(str(was.status.get("error") or "failed"))
            values.append(one.objective.value(was.results or {}))
        except UserError as error:
            wrong.append(f"{name}: {error}")
    if wrong:
        one.tell(trial, None)
        console.print(f"{one.title(trial)}: failed: {'; '.join(wrong)}", soft_wrap=True)
        return
    one.tell(trial, fmean(values))
    best = one.best
    mark = ", the best so far" if best is not None and best.number == trial.number else ""
    console.print(f"{one.title(trial)}: {one.objective.metric} {fmean(values):.4g}{mark}", soft_wrap=True)
