"""No tracker: `metrics.jsonl` only, which every run writes anyway."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from hldm.tracking.tracker import FirstStageRun, Tracker


@final
class NoTracker(Tracker):
    """A tracker that does nothing."""

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
        pass

    def log(self, step: int, metrics: Mapping[str, float], stage: str) -> None:
        pass

    def image(self, name: str, path: Path) -> None:
        pass

    def file(self, path: Path) -> None:
        pass

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        pass

    def first_stage(self, stage: FirstStageRun) -> None:
        pass

    def preempted(self) -> None:
        pass

    def summary(self, metrics: Mapping[str, Any]) -> None:
        pass

    def finish(self, exit_code: int) -> None:
        pass
