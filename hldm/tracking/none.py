"""No tracker: `metrics.jsonl` only, which every run writes anyway."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from hldm.tracking.tracker import Tracker


@final
class NoTracker(Tracker):
    """Does nothing."""

    def start(
        self,
        directory: Path,
        run_id: str,
        config: Mapping[str, Any],
        group: str,
        job_type: str,
        tags: Sequence[str] = (),
    ) -> None:
        pass

    def log(self, step: int, metrics: Mapping[str, float], stage: str) -> None:
        pass

    def image(self, name: str, path: Path, step: int | None) -> None:
        pass

    def summary(self, metrics: Mapping[str, Any]) -> None:
        pass

    def finish(self, exit_code: int) -> None:
        pass
