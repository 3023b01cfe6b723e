"""Where a run's numbers go while it works: metrics.jsonl always, the tracker as configured."""

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hldm.config.schema import RunConfig
from hldm.errors import Stopped
from hldm.pipeline.build import build
from hldm.pipeline.speed import FIGURES, Speed
from hldm.run.directory import RunDirectory, now
from hldm.run.provenance import provenance
from hldm.run.summary import at_best
from hldm.tracking import FirstStageRun, JsonLines, Tracker, run_labels
from hldm.training import FirstStage

FIRST_STAGE = ("seed", "dataset", "geometry", "curvature", "autoencoder", "training")
"""Sections of a configuration that a first stage shows as its own."""

PROGRESS_SECONDS = 5.0
"""Between two notes of how far a run is."""


class RunLog:
    """One call for both places.

    Args:
        directory: the run.
        command: that the run was started by, None where it is not known.
    """

    def __init__(self, directory: RunDirectory, tracker: Tracker, command: str | None = None) -> None:
        self.directory = directory
        self.lines = JsonLines(directory.path / "metrics.jsonl")
        self.tracker = tracker
        self.command = command
        self._shown = -math.inf

    def first_stage(self, folder: Path, weights: Path, config: RunConfig) -> None:
        """Show the trained first stage in `folder` beside the runs that stand on it."""
        shown = {name: value for name, value in config.dump().items() if name in FIRST_STAGE}
        shown["training"] = {key: value for key, value in shown["training"].items() if key != "diffusion"}
        self.tracker.first_stage(
            FirstStageRun(
                folder,
                hashlib.sha256(weights.read_bytes()).hexdigest(),
                shown,
                run_labels(config.geometry.name, curvature_label(config, is_flat=config.has_flat_latents), config.seed),
                provenance(self.command),
                config.study,
            )
        )

    def resume_at(self, stage: str, step: int) -> None:
        """`stage` goes on from `step`: what an earlier piece wrote beyond it will be written again."""
        self.lines.rewind(stage, step)

    def log(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        self.lines.log(step, timeless(figures), stage)
        self.tracker.log(step, figures, stage)

    def with_speed(self, stage: str, speed: Speed, figures: Mapping[str, float]) -> dict[str, float]:
        """What is logged of a stage, with how fast it is, which status.json says too."""
        noted = {**(self.directory.status.get("speed") or {}), stage: speed.note(figures)}
        if speed.gpu is not None:
            with suppress(OSError):  # as in `progress`
                self.directory.update_status(speed=noted)
        return speed.with_speed(figures)

    def replay(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Begin with what was logged elsewhere: the curve of a first stage, or of a whole run that is this one."""
        own = [timeless(record) for record in records]
        self.lines.begin_with(FirstStage.name, own)
        for record in own:
            figures = {name: float(value) for name, value in record.items() if name not in ("stage", "step")}
            self.tracker.log(int(record["step"]), figures, record["stage"])

    def progress(self, stage: str, step: int, steps: int) -> None:
        """Say in status.json how far the run is, every `PROGRESS_SECONDS` at most: others look at it there."""
        if time.monotonic() < self._shown + PROGRESS_SECONDS:
            return
        self._shown = time.monotonic()
        with suppress(OSError):  # a full disk is met by what matters, too
            self.directory.update_status(progress={"stage": stage, "step": step, "steps": steps, "updated": now()})

    def image(self, name: str, path: Path) -> None:
        self.tracker.image(name, path)

    def file(self, path: Path) -> None:
        self.tracker.file(path)

    def samples(self, images: Sequence[Any], labels: Sequence[str], config: RunConfig) -> None:
        """Show samples one by one: a row for each, which beside other runs is the same noise and label.

        Args:
            images: uint8 arrays (H, W) or (H, W, 3).
            labels: what was asked for, in the same order.
        """
        own = run_labels(config.geometry.name, curvature_label(config, is_flat=config.is_flat), config.seed)
        rows = [[*own.values(), number, *row] for number, row in enumerate(zip(labels, images, strict=True))]
        self.tracker.table("samples_table", [*own, "number", "label", "sample"], rows)

    def curves(self, curves: Mapping[str, Any]) -> None:
        """Show each curve over validation images as a stage of its own, whose steps are its points in order."""
        for curve, drawn in curves.items():
            for step, point in enumerate(drawn["points"], start=1):
                figures = {name: value for name, value in point.items() if not isinstance(value, str)}
                self.tracker.log(step, figures, f"{curve}_curve")

    def summary(self, results: Mapping[str, Any]) -> None:
        """What stands for the run: its metrics, and those of validation images, by which sweeps are judged."""
        final = {f"final/{name}": value for name, value in results["metrics"].items()}
        on_validation = {f"validation/{name}": value for name, value in at_best(results.get("curves", {})).items()}
        self.tracker.summary({**final, **on_validation})


def timeless(figures: Mapping[str, Any]) -> dict[str, Any]:
    """What depends on the model alone: a tracker shows how fast steps are, metrics.jsonl does not."""
    return {name: value for name, value in figures.items() if name not in FIGURES}


class StageLog(RunLog):
    """How far a first stage is that is trained for others; what it logs shows with those."""

    def __init__(self, directory: RunDirectory) -> None:
        self.directory = directory
        self._shown = -math.inf

    def first_stage(self, folder: Path, weights: Path, config: RunConfig) -> None:
        """Nothing is shown."""

    def resume_at(self, stage: str, step: int) -> None:
        """Nothing was written."""

    def replay(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Nothing is written."""

    def log(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        """Nothing is written."""

    def image(self, name: str, path: Path) -> None:
        """Nothing is shown."""


def curvature_label(config: RunConfig, *, is_flat: bool) -> float | str:
    """c as dashboards group by it: 0 where `is_flat`, words where it is learned."""
    if is_flat:
        return 0.0
    return config.curvature_words if config.curvature.is_learnable else config.curvature.value


@contextmanager
def run_log(directory: RunDirectory, config: RunConfig) -> Iterator[RunLog]:
    """The log of a run, closed on every path: a run that failed shows as failed on the dashboard too."""
    tracker: Tracker = build(config.tracking)
    command = directory.status.get("command")
    exit_code = 1
    try:
        tracker.start(
            directory.path,
            directory.path.name,
            config.dump(),
            run_labels(config.geometry.name, curvature_label(config, is_flat=config.is_flat), config.seed),
            provenance(command),
            group=config.study,
            job_type="train",
        )
        yield RunLog(directory, tracker, command)
        exit_code = 0
    except Stopped:
        tracker.preempted()
        raise
    finally:
        tracker.finish(exit_code)


def show_again(directory: RunDirectory, config: RunConfig) -> None:
    """Show a finished run as the run that an agent of a sweep has given, with its curves and its figures."""
    results = directory.results
    assert results is not None
    with run_log(directory, config) as log:
        log.curves(results.get("curves", {}))
        log.summary(results)
