"""A small run as a worker in a forked process, which can be disturbed where a test says: torch is imported once.

The run goes through both stages and an evaluation, on points of a tree, in a second or two.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from hldm.commands import worker
from hldm.config.compose import compose
from hldm.run import stop
from hldm.run.directory import RunDirectory
from hldm.run.identity import run_identity
from hldm.run.provenance import code

SETTINGS = [
    "experiment=pvae_tree", "diffusion=flow", "denoiser=mlp", "conditioning=class", "training=standard",
    "geometry=poincare", "tracking=none", "hardware=cpu", "hardware.threads=1", "dataset.depth=3",
    "autoencoder.hidden=8", "denoiser.width=16", "denoiser.blocks=1",
    "training.first_stage.steps=30", "training.diffusion.steps=30", "training.checkpoint_every=7",
    "training.first_stage.batch_size=16", "training.diffusion.batch_size=16", "training.log_every=3",
    "metrics.first_stage_images=30", "metrics.hierarchy.points=20", "metrics.hierarchy.draws=0",
    "metrics.hierarchy.test_points=20", "metrics.hierarchy.pair_points=20", "metrics.likelihood.images=4",
    "metrics.likelihood.importance_samples=20", "metrics.likelihood.checked_images=2",
    "metrics.likelihood.spacing=0.5",
]  # fmt: skip

Disturb = Callable[[], object]
"""What is done in the process before the run begins."""


def prepare(outputs: Path, *overrides: str) -> RunDirectory:
    """A run that is about to start, in outputs of its own."""
    config = compose([*SETTINGS, f"paths.outputs={outputs}", *overrides])
    return RunDirectory.create(outputs / config.study / run_identity(config).name, config)


def start(directory: RunDirectory, disturb: Disturb = lambda: None) -> int:
    """The process number of a worker. What it says is in `said`."""
    import_module("hldm.pipeline")  # before the fork, as is what git says, which somebody may be at work with
    code()
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        sys.stdout = sys.stderr = (directory.path / "said.txt").open("w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), 2)
        evaluate: Any = import_module("hldm.pipeline.evaluate")
        evaluate.write_latents = lambda path, *_, **__: (path / "latents.json").write_text(
            "{}"
        )  # matplotlib takes long
        for number in stop.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        disturb()
        status = worker.main([str(directory.path)])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def end(pid: int) -> int:
    """The exit status of a worker, −n where signal n killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def work(directory: RunDirectory, disturb: Disturb = lambda: None) -> int:
    """Start a worker and wait for its exit status."""
    return end(start(directory, disturb))


def said(directory: RunDirectory) -> str:
    """What the last worker printed, as one line."""
    return " ".join((directory.path / "said.txt").read_text(encoding="utf-8").split())


def result(directory: RunDirectory) -> dict[str, bytes]:
    """File → content, of everything that is the same whenever and however often a run was begun."""
    outputs = directory.path.parent.parent
    files = [*directory.path.rglob("*"), *(outputs / "first_stages").rglob("*")]
    kept = (file for file in files if file.is_file() and not {".lock", ".lease"} & set(file.parts))
    changing = ("status.json", "config.yaml", "said.txt", "log.txt")  # times, the folder of outputs
    return {str(file.relative_to(outputs)): file.read_bytes() for file in kept if file.name not in changing}


class Events:
    """Counts what a run does to its files, its steps and the parts of its evaluation; at one of them it is disturbed.

    Args:
        at: the number of the event, from 0; None: they are counted only.
        then: what happens there.
        count: file that the count is written to at the end; None: nowhere.
    """

    def __init__(self, at: int | None, then: Disturb, count: Path | None = None) -> None:
        self.at, self.then, self.count, self.seen = at, then, count, 0

    def __call__(self) -> None:
        """Count from here on."""
        for owner, name in (
            (os, "fsync"),
            (Path, "replace"),
            (Path, "unlink"),
            (Path, "open"),
            (import_module("hldm.training.stages").FirstStage, "loss"),
            (import_module("hldm.training.stages").DiffusionStage, "loss"),
            (stop, "check"),
        ):
            setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if self.seen == self.at:
                self.seen += 1
                self.then()
            self.seen += 1
            result = call(*arguments, **options)
            if self.count is not None:
                os.truncate(self.count, self.seen)  # the size is the count: no event of its own
            return result

        return counted


def kill() -> None:
    """As the system does where memory runs out, or a node dies."""
    os.kill(os.getpid(), signal.SIGKILL)


def at_step(stage: str, step: int, then: Disturb) -> None:
    """Something happens in a step of a stage, counted from 0."""
    owner = getattr(import_module("hldm.training.stages"), stage)
    before = owner.loss

    def loss(self: Any, k: int) -> Any:
        if k == step:
            then()
        return before(self, k)

    owner.loss = loss


def at_evaluation(then: Disturb) -> None:
    """Something happens while the first stage is judged."""
    evaluate: Any = import_module("hldm.pipeline.evaluate")
    before = evaluate.first_stage_metrics

    def measured(*arguments: Any) -> Any:
        then()
        return before(*arguments)

    evaluate.first_stage_metrics = measured
