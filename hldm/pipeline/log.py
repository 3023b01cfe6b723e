"""Where a run's numbers go while it works: metrics.jsonl always, the tracker as configured."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hldm import __version__
from hldm.pipeline.build import instantiate
from hldm.study.identity import is_flat, is_learnable
from hldm.study.run_directory import RunDirectory
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

    def summary(self, metrics: Mapping[str, float]) -> None:
        self.tracker.summary({f"final/{name}": value for name, value in metrics.items()})


@contextmanager
def run_log(directory: RunDirectory, config: Mapping[str, Any]) -> Iterator[RunLog]:
    """The log of a run, closed on every path: a run that failed shows as failed on the dashboard too."""
    tracker: Tracker = instantiate(config["tracking"])
    exit_code = 1
    try:
        c = 0.0 if is_flat(config) else "learnable" if is_learnable(config) else config["curvature"]["value"]
        labels = run_labels(config["geometry"]["name"], c, config["seed"])
        provenance = {"hldm": __version__}
        name = directory.path.name
        tracker.start(directory.path, name, config, labels, provenance, group=config["study"], job_type="train")
        yield RunLog(directory.path, tracker)
        exit_code = 0
    finally:
        tracker.finish(exit_code)
