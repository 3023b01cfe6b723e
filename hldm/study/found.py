"""What a search is going to do and what it has found, for a terminal and as search.json of its study."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import QuotedString
from rich.console import Console
from rich.table import Table

from hldm.config.arguments import as_typed
from hldm.config.overrides import parsed
from hldm.config.schema import RunConfig
from hldm.config.search import Search
from hldm.run.directory import write_json
from hldm.study.objective import ON_TEST, Objective
from hldm.study.space import Space
from hldm.study.trials import Trials

FILE = "search.json"

SEEDS_AFTER = 3
"""Seeds of the command that a search ends with: others than it has searched with, to which chance was kind."""


def announce(
    labels: Sequence[str], space: Space, objectives: Sequence[Objective], search: Search, console: Console
) -> None:
    """The space, the figure and the budget, before anything is done."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("setting", "searched from"):
        table.add_column(heading, overflow="fold")
    for setting in space.settings:
        [name] = as_typed([f"{setting.key}="])
        table.add_row(name.rstrip("="), setting.words)
    console.print(table)
    many = f"{len(labels)} searches ({'; '.join(labels)}), each of " if len(labels) > 1 else ""
    seeds = f"seed{'s' * (len(space.seeds) > 1)} " + ",".join(seed.partition("=")[2] for seed in space.seeds)
    runs = len(labels) * search.trials * len(space.seeds)
    figures = dict.fromkeys(objective.words for objective in objectives)
    console.print(
        f"{many}{search.trials} trials by {search.sampler}, {search.at_once} at once, {seeds}: "
        f"at most {runs} runs. Judged by {'; '.join(figures)}.",
        soft_wrap=True,
    )
    if search.split == "test":
        console.print(ON_TEST, soft_wrap=True)
    console.print("Ctrl-C stops; the same command goes on from there, and with more search.trials it goes further.")


def after(one: Trials) -> str | None:
    """The command that measures what a search has found on test images, with seeds that it has not searched with."""
    if (best := one.best) is None:
        return None
    kept = [_unquoted(text) for text in one.fixed if text.partition("=")[0].split(".")[0] != "search"]
    used = [int(seed.partition("=")[2]) for seed in one.space.seeds]
    seeds = ",".join(str(max(used) + 1 + number) for number in range(max(SEEDS_AFTER, len(used))))
    arguments = [*as_typed([*kept, *best.overrides(one.space.settings)]), f"seed={seeds}"]
    return shlex.join(["python", "train.py", "-m", *arguments])


def _unquoted(text: str) -> str:
    """An override with the text of a word as it was typed: quotes of its own are for Hydra."""
    override = parsed(text)
    value = override._value
    return f"{override.get_key_element()}={value.text}" if isinstance(value, QuotedString) else text


def write(searches: Sequence[Trials], folder: Path) -> None:
    """search.json: all trials of the searches of a command, and what was best."""
    write_json(folder / FILE, {"searches": [_content(one) for one in searches]})


def _content(one: Trials) -> dict[str, Any]:
    trials = [
        {
            "trial": trial.number + 1,
            "state": trial.state,
            one.objective.metric: trial.value,
            "settings": list(as_typed(trial.overrides(one.space.settings))),
        }
        for trial in one.all()
    ]
    best = one.best
    return {
        "search": one.label,
        "metric": one.objective.metric,
        "direction": one.objective.direction,
        "images": one.objective.images,
        "seeds": [int(seed.partition("=")[2]) for seed in one.space.seeds],
        "space": {setting.key: setting.words for setting in one.space.settings},
        "best": best and best.number + 1,
        "command": after(one),
        "trials": trials,
    }


def report(searches: Sequence[Trials], config: RunConfig, console: Console) -> None:
    """The best trial of each search, and the command that measures it."""
    objective, search = searches[0].objective, config.search
    assert search is not None
    is_one = len(searches) == 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in (*(() if is_one else ("search",)), "trials", "failed", "best", objective.metric, "settings"):
        table.add_column(heading, overflow="fold", justify="left" if heading in ("search", "settings") else "right")
    for one in searches:
        trials, best = one.all(), one.best
        failed = str(sum(trial.state == "failed" for trial in trials))
        found = (
            [str(best.number + 1), f"{best.value:.4g}", " ".join(as_typed(best.overrides(one.space.settings)))]
            if best
            else ["", "", ""]
        )
        table.add_row(*([] if is_one else [one.label]), str(len(trials)), failed, *found)
    console.print()
    console.print(table)
    console.print(
        f"{objective.metric} is the mean over seeds, of {objective.images}. The best of many trials was lucky too: "
        "measure it with seeds of its own, on test images.",
        soft_wrap=True,
    )
    for command in filter(None, map(after, searches)):
        console.print(f"  {command}", soft_wrap=True)
    if objective.curve == "":
        console.print(ON_TEST, soft_wrap=True)
    console.print(f"All trials: {config.study_folder / FILE}", soft_wrap=True)
