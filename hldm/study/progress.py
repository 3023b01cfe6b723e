"""How far a run is, and how long it still takes."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hldm.config.schema import RunConfig
from hldm.errors import UserError
from hldm.run.directory import RunDirectory, is_number
from hldm.study.plan import Estimate

SETTLED = 2.0
"""Seconds of a stage from which on its own pace counts."""


@dataclass(frozen=True)
class Progress:
    """A stage, and how many of its steps are done. `steps` is 0 where there are none to count."""

    stage: str
    step: int = 0
    steps: int = 0

    @classmethod
    def of(cls, status: Mapping[str, Any]) -> "Progress | None":
        """What status.json says; None where it says nothing."""
        found = status.get("progress")
        if not isinstance(found, Mapping) or not isinstance(found.get("stage"), str):
            return None
        counts = (found.get(name) for name in ("step", "steps"))
        return cls(found["stage"], *(count if is_number(count) and isinstance(count, int) else 0 for count in counts))

    @property
    def share(self) -> float:
        """Of the stage, in [0, 1]."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0

    def __str__(self) -> str:
        name = self.stage.replace("_", " ")
        return f"{name} {self.step} of {self.steps}" if self.steps else name


def progress_of(run: RunDirectory) -> Progress | None:
    """What the run says of itself; None where it has not said anything yet."""
    with suppress(UserError):
        return Progress.of(run.status)
    return None


class Pace:
    """How long one run still takes: by the pace of its stage, and for what comes later by what others took.

    Args:
        estimate: of the stages.
        config: of the run.
    """

    def __init__(self, estimate: Estimate, config: RunConfig) -> None:
        self.expected = estimate.stages(config)
        self.progress: Progress | None = None
        self._began: tuple[float, int] = (time.monotonic(), 0)  # of the stage: when, and at which step

    def see(self, progress: Progress | None) -> bool:
        """Take note of how far it is; whether that is another stage than before."""
        is_new = progress is not None and (self.progress is None or progress.stage != self.progress.stage)
        if is_new and progress is not None:
            self._began = (time.monotonic(), progress.step)
        self.progress = progress or self.progress
        return is_new

    @property
    def minutes(self) -> float:
        """That are left."""
        if self.progress is None or self.progress.stage not in self.expected:
            return sum(self.expected.values())
        stages = list(self.expected)
        later = stages[stages.index(self.progress.stage) + 1 :]
        return self._of_stage(self.progress) + sum(self.expected[stage] for stage in later)

    def _of_stage(self, progress: Progress) -> float:
        began, first = self._began
        seconds, done = time.monotonic() - began, progress.step - first
        if not progress.steps:
            return max(0.0, self.expected[progress.stage] - seconds / 60)
        if done and seconds >= SETTLED:
            return (progress.steps - progress.step) * seconds / done / 60
        return self.expected[progress.stage] * (1 - progress.share)


def in_words(minutes: float) -> str:
    """Such as "40 s", "12 min" or "3.5 h"."""
    if minutes < 1.5:
        return f"{60 * minutes:.0f} s"
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
