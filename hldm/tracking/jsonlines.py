"""`metrics.jsonl`: one JSON object a line, {"stage": …, "step": …, metric: value, …}, in the order of training.

Nothing in it depends on the time: the file of a run that was stopped and resumed is that of one that was not, byte for
byte.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, final

from hldm.files import check_fences, write_atomically

# JSON has no NaN and no infinity. These are the names that proto3's JSON mapping gives them; float() reads all three.
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


@final
class JsonLines:
    """A log that survives a kill: opening it drops a torn line, and `rewind` drops what a resumed run does again.

    Args:
        path: the file; it need not exist. Opening creates nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            return
        lines = path.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if _is_record(line)]
        if len(whole) < len(lines):
            self._replace(whole)

    def log(self, step: int, metrics: Mapping[str, float], stage: str) -> None:
        """Append one line. Values are anything that float() takes; NaN and ±∞ become the strings of `_NOT_FINITE`."""
        assert not {"stage", "step"} & metrics.keys(), "stage and step are not names of metrics"
        check_fences(self.path)
        record = {"stage": stage, "step": step} | {name: _to_json(float(value)) for name, value in metrics.items()}
        # One write in append mode: a kill leaves the line whole, absent or torn, never mixed with another.
        with self.path.open("ab", buffering=0) as file:
            file.write(json.dumps(record, allow_nan=False).encode() + b"\n")

    def rewind(self, stage: str, step: int) -> None:
        """Drop the lines of `stage` after `step`, since a run that resumes there writes them again."""
        records = self._read()
        kept = [record for record in records if record["stage"] != stage or record["step"] <= step]
        if len(kept) < len(records):
            self._replace([json.dumps(record).encode() + b"\n" for record in kept])

    def begin_with(self, stage: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Let the file begin with these lines, of a stage and of those after it, in place of what it has of these.

        So the stage that comes first stands first, also in the file of a run that was stopped in a later one.
        """
        first = [{name: _to_json(value) for name, value in record.items()} for record in records]
        found, theirs = self._read(), {stage, *(record["stage"] for record in first)}
        wanted = first + [record for record in found if record["stage"] not in theirs]
        if wanted != found:
            self._replace([json.dumps(record).encode() + b"\n" for record in wanted])

    def sync(self) -> None:
        """Flush the lines to the disk, so that they survive a loss of power."""
        if self.path.exists():
            with self.path.open("rb+") as file:
                os.fsync(file.fileno())

    def records(self) -> list[dict[str, Any]]:
        """All lines, with NaN and ±∞ as floats again."""
        return [
            {name: float(value) if value in _NOT_FINITE else value for name, value in record.items()}
            for record in self._read()
        ]

    def _read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_bytes().splitlines()] if self.path.exists() else []

    def _replace(self, lines: list[bytes]) -> None:
        write_atomically(self.path, lambda file: file.write_bytes(b"".join(lines)))


def _to_json(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")


def _is_record(line: bytes) -> bool:
    """Whether `log` wrote this line and finished it, which only the newline at its end shows."""
    try:
        record = json.loads(line)
        stage, step = record.pop("stage"), record.pop("step")
        values = list(record.values())
    except (ValueError, AttributeError, KeyError, TypeError):
        return False
    are_numbers = all(isinstance(value, int | float) or value in _NOT_FINITE for value in values)
    return line.endswith(b"\n") and isinstance(stage, str) and isinstance(step, int) and are_numbers
