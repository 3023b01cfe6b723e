"""The run that an agent of a W&B sweep has given to this command: the sweep looks for its figure there.

An environment that names a run is otherwise ignored, since a run directory has a W&B run of its own. Only the command
of one run takes the agent's run, on purpose, by `adopt`; the runs of a grid would all write to the same one.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

NAMES = {"run": "RUN_ID", "sweep": "SWEEP_ID", "parameters": "SWEEP_PARAM_PATH"}
"""What an agent tells → the variable WANDB_… of it."""


@dataclass(frozen=True)
class Agent:
    """What an agent has given.

    Attributes:
        run: id of its run.
        sweep: id of the sweep.
        parameters: what the sweep has chosen, which W&B reads from the run's config.
    """

    run: str
    sweep: str
    parameters: dict[str, Any] = field(default_factory=dict)


def adopt() -> Agent | None:
    """Take the run of the agent that has started this process, also for the processes that this one starts."""
    if os.environ.get("WANDB_RUN_ID") and os.environ.get("WANDB_SWEEP_ID"):
        for name, variable in NAMES.items():
            if value := os.environ.get(f"WANDB_{variable}"):
                # a file relative to where the agent was started
                os.environ[_own(name)] = str(Path(value).absolute()) if name == "parameters" else value
    return adopted()


def adopted() -> Agent | None:
    """The agent's run, where this process or the one that started it has taken it."""
    run, sweep = os.environ.get(_own("run")), os.environ.get(_own("sweep"))
    if not run or not sweep:
        return None
    return Agent(run, sweep, _parameters(os.environ.get(_own("parameters"))))


def _own(name: str) -> str:
    return f"HLDM_AGENT_{name.upper()}"


def _parameters(file: str | None) -> dict[str, Any]:
    """What the agent has written down, {setting: {"value": …}}; without it the run has its own config, and works."""
    try:
        content = yaml.safe_load(Path(file or "").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {str(name): entry["value"] for name, entry in entries if isinstance(entry, dict) and "value" in entry}
