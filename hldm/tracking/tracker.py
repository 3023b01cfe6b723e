"""What a run asks of an experiment tracker, and the labels by which runs are compared."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class FirstStageRun:
    """A first stage that is trained, which many runs may stand on.

    Attributes:
        directory: where its metrics.jsonl lies; its name is the first stage's.
        digest: sha256 of its weights.
        config: the settings that made it, as plain dicts, lists, strings and numbers.
        labels: what `run_labels` returned.
        provenance: see `Tracker.start`; of the run that shows it first.
        group: the study of that run.
    """

    directory: Path
    digest: str
    config: Mapping[str, Any]
    labels: Mapping[str, str | float]
    provenance: Mapping[str, Any]
    group: str


class Tracker(ABC):
    """A place that shows runs beside each other. A run never ends because its tracker has trouble.

    Calls come in this order: `start`, any of the others, then `finish` on every path. No call raises.
    Each stage ("first_stage", "diffusion") has its own step axis. `metrics.jsonl` is the truth and is written by
    `JsonLines`, whatever the tracker.
    """

    @abstractmethod
    def start(
        self,
        directory: Path,
        run_id: str,
        config: Mapping[str, Any],
        labels: Mapping[str, str | float],
        provenance: Mapping[str, Any],
        group: str,
        job_type: str,
    ) -> None:
        """Open the run in `directory`, or go on with the one that was begun there.

        Called before `JsonLines.rewind`: the tracker gets what it lacks of `metrics.jsonl`, and what a resumed run does
        again is not tracked a second time.

        Args:
            directory: the run directory, where the tracker may keep files of its own.
            run_id: name of the run, unique within its study.
            config: the resolved configuration as plain dicts, lists, strings and numbers.
            labels: what `run_labels` returned.
            provenance: where the run comes from: version and commit of hldm, whether files were changed since, and the
                command line.
            group: the study.
            job_type: what the run does, e.g. "train".
        """

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, float], stage: str) -> None:
        """Show the numbers at one step of one stage. Steps of a stage grow."""

    @abstractmethod
    def image(self, name: str, path: Path) -> None:
        """Show a final picture from its file."""

    @abstractmethod
    def file(self, path: Path) -> None:
        """Keep a file of the run directory beside the run, under its own name."""

    @abstractmethod
    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Show a table. Its values are numbers, texts and pictures as arrays: uint8 (H, W) or (H, W, 3)."""

    @abstractmethod
    def first_stage(self, stage: FirstStageRun) -> None:
        """Show the first stage that the run stands on as a run of its own, where it is not shown yet, and join both."""

    @abstractmethod
    def preempted(self) -> None:
        """Say that the run is being stopped to go on later, so that it does not show as one that broke off."""

    @abstractmethod
    def summary(self, metrics: Mapping[str, Any]) -> None:
        """Show what stands for the whole run. Keys say which checkpoint they are of: "final/fid", "best/loss"."""

    @abstractmethod
    def finish(self, exit_code: int) -> None:
        """Close the run: 0 for one that ended well, anything else for one that failed."""


def run_labels(geometry: str, curvature: str | float, seed: int) -> dict[str, str | float]:
    """Geometry, curvature and seed as flat values, so that a dashboard can group runs by them.

    Args:
        geometry: name of the latents' geometry.
        curvature: c ≥ 0, 0 where nothing of the run is curved, or words such as "learnable" where it is no number. The
            caller takes it from the same facts as the run's identity: a run with flat latents may have a curvature
            elsewhere.
        seed: the run's seed.
    """
    return {"geometry": geometry, "curvature": curvature, "seed": seed}
