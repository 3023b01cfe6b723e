"""Which first stage a run on Weights & Biases stands on, as W&B draws it: run → artifact → run.

The artifact holds no weights, only their digest: every run that uses them makes the same one from what it has, and the
server keeps it once. So nobody has to ask the server for it, and no weights leave the machine.
"""

import json
import threading
from collections.abc import Callable
from typing import Any

_LOOK_SECONDS = 20.0


def output(run: Any, name: str, digest: str) -> None:
    """The run made these weights."""
    run.log_artifact(_artifact(name, digest))


def use(run: Any, name: str, digest: str) -> None:
    """The run stands on these weights. wandb waits for the server's word without end: this does not.

    Raises:
        whatever wandb does.
    """
    _within(_LOOK_SECONDS, lambda: run.use_artifact(_artifact(name, digest)))


def _artifact(name: str, digest: str) -> Any:
    import wandb

    artifact = wandb.Artifact(f"first-stage-{name}", type="first_stage", metadata={"sha256": digest})
    with artifact.new_file("first_stage.json") as file:
        file.write(json.dumps({"first_stage": name, "sha256": digest}) + "\n")
    return artifact


def _within(seconds: float, call: Callable[[], object]) -> None:
    """Make the call, and leave it to itself where it takes longer."""
    errors: list[Exception] = []

    def work() -> None:
        try:
            call()
        except Exception as error:  # raised below, where somebody reads it
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
