"""What a run asks of an experiment tracker, and the labels by which runs are compared."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Tracker(ABC):
    """A place that shows runs beside each other. A run never ends because its tracker has trouble.

    Calls come in this order: `start`, any of `log`, `image` and `summary`, then `finish` on every path, also where
    `start` failed. Each stage ("first_stage", "diffusion") has its own step axis. `metrics.jsonl` is the truth and is
    written by `JsonLines`, whatever the tracker.
    """

    @abstractmethod
    def start(
        self,
        directory: Path,
        run_id: str,
        config: Mapping[str, Any],
        group: str,
        job_type: str,
        tags: Sequence[str] = (),
    ) -> None:
        """Open the run in `directory`, or go on with the one that was begun there.

        Called before `JsonLines.rewind`: the tracker gets what it lacks of `metrics.jsonl`, and what a resumed run does
        again is not tracked a second time.

        Args:
            directory: the run directory, where the tracker may keep files of its own.
            run_id: name of the run, one within its study.
            config: the resolved configuration as plain dicts, lists, strings and numbers.
            group: the study.
            job_type: what the run does, e.g. "train".
            tags: in addition to those that `labels` gives.
        """

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, float], stage: str) -> None:
        """Numbers at one step of one stage."""

    @abstractmethod
    def image(self, name: str, path: Path, step: int | None) -> None:
        """A picture file. With a step, `name` is "<stage>/<what it shows>"; without one it is a final picture."""

    @abstractmethod
    def summary(self, metrics: Mapping[str, Any]) -> None:
        """What stands for the whole run. Keys say which checkpoint they are of: "final/fid", "best/loss"."""

    @abstractmethod
    def finish(self, exit_code: int) -> None:
        """Close the run: 0 for one that ended well, anything else for one that failed."""


def labels(config: Mapping[str, Any]) -> dict[str, Any]:
    """Geometry, curvature and seed as flat values, so that a dashboard can group by them.

    Returns:
        "geometry": its name. "curvature": c ≥ 0, 0 where the geometry is flat, "learnable" where it is learned. "seed".
        A key that the config lacks is left out.
    """
    flat: dict[str, Any] = {}
    if geometry := config.get("geometry"):
        flat["geometry"] = geometry["name"]
    if curvature := config.get("curvature"):
        learned = str(curvature.get("_target_", "")).endswith("LearnableCurvature")
        flat["curvature"] = "learnable" if learned else curvature["value"]
        if flat.get("geometry") == "euclidean":
            flat["curvature"] = 0.0
    if "seed" in config:
        flat["seed"] = config["seed"]
    return flat
