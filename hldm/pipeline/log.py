"""Where a run's numbers go while it works: metrics.jsonl always, the tracker as configured."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hldm.config.schema import RunConfig
from hldm.pipeline.build import build
from hldm.run.directory import RunDirectory
from hldm.run.provenance import provenance
from hldm.tracking import JsonLines, Tracker, run_labels


class RunLog:
    """One call for both places."""

    def __init__(self, path: Path, tracker: Tracker) -> None:
        self.lines = JsonLines(path / "metrics.jsonl")
        self.tracker = tracker

    def resume_at(self, stage: str, step: int) -> None:
        """`stage` goes on from `step`: what an earlier piece wrote beyond it will be written again."""
        self.lines.rewind(stage, step)

    def log(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        self.lines.log(step, figures, stage)
        self.tracker.log(step, figures, stage)

    def image(self, name: str, path: Path) -> None:
        self.tracker.image(name, path)

    def curves(self, curves: Mapping[str, Any]) -> None:
        """Show each curve over validation images as a stage of its own, whose steps are its points in order."""
        for curve, drawn in curves.items():
            for step, point in enumerate(drawn["points"], start=1):
                figures = {name: value for name, value in point.items() if not isinstance(value, str)}
                self.tracker.log(step, figures, f"{curve}_curve")

    def summary(self, metrics: Mapping[str, float]) -> None:
        self.tracker.summary({f"final/{name}": value for name, value in metrics.items()})


@contextmanager
def run_log(directory: RunDirectory, config: RunConfig) -> Iterator[RunLog]:
    """The log of a run, closed on every path: a run that failed shows as failed on the dashboard too."""
    tracker: Tracker = build(config.tracking)
    is_number = not config.is_flat and not config.curvature.is_learnable
    curvature = config.curvature.value if is_number else 0.0 if config.is_flat else config.curvature_words
    exit_code = 1
    try:
        tracker.start(
            directory.path,
            directory.path.name,
            config.dump(),
            run_labels(config.geometry.name, curvature, config.seed),
            provenance(directory.status.get("command")),
            group=config.study,
            job_type="train",
        )
        yield RunLog(directory.path, tracker)
        exit_code = 0
    finally:
        tracker.finish(exit_code)
