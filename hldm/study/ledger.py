"""The runs of a study as they are now: from their directories first, and from the scheduler where that says more.

Only small files are read, and the scheduler is asked once for all runs: thousands are listed in a second or two.
"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hldm.run import jobs
from hldm.run.directory import RunDirectory
from hldm.run.holder import Holder
from hldm.study.progress import Progress

STATES = {
    "finished": "it has its results",
    "running": "a process or its job works on it",
    "pending": "its job waits in the queue, for the first time or again after it was stopped or preempted",
    "stopped": "stopped on request or preempted, with its state saved; it goes on when it is started again",
    "failed": "it ended with an error",
    "cancelled": "ended by hand",
    "lost": "its job is gone without a word: killed, out of memory, a node that failed",
    "broken off": "its process is gone without a word, and it was no job",
    "new": "nobody has begun it",
    "damaged": "one of its files cannot be read",
}
"""State → what it means."""


@dataclass(frozen=True)
class Entry:
    """A run, as it is now.

    Attributes:
        state: one of `STATES`.
        holder: who works on it.
        job: of SLURM that was last given the run.
        job_state: what SLURM says of it; "" where it was not asked.
        trouble: what went wrong, in words.
    """

    run: RunDirectory
    state: str
    status: Mapping[str, Any]
    holder: Holder | None = None
    job: str | None = None
    job_state: str = ""
    trouble: str = ""

    @property
    def name(self) -> str:
        """The run's."""
        return self.run.path.name

    @property
    def progress(self) -> str:
        """How far it is, as `diffusion 67%`; "" where it has said nothing, or is finished."""
        said = Progress.of(self.status)
        if self.state == "finished" or said is None:
            return ""
        return said.stage.replace("_", " ") + (f" {said.share:.0%}" if said.steps else "")

    @property
    def minutes(self) -> float | None:
        """Of all its starts, as far as they have ended."""
        minutes = self.status.get("minutes")
        return float(minutes) if isinstance(minutes, int | float) else None

    @property
    def where(self) -> str:
        """The job, or else machine and process; of runs that are over, where they were."""
        if self.job is not None and self.state != "finished":
            return f"job {self.job}"
        if self.holder is not None:
            return f"{self.holder.host}:{self.holder.pid}"
        return str(self.status.get("host") or "")


def read(runs: Iterable[RunDirectory]) -> list[Entry]:
    """Every run, in the order of the names."""
    found = [look(run) for run in runs]
    asked = {entry.job for entry in found if entry.job and entry.state not in ("finished", "damaged", "failed")}
    states = jobs.states([job for job in asked if job])
    return [with_job(entry, states[entry.job]) if entry.job in asked and entry.job else entry for entry in found]


def look(run: RunDirectory) -> Entry:
    """A run by its files alone, of which results.json is not read."""
    was = run.look(with_results=False)
    job = jobs.job_of(was.status)
    if was.state == "submitted" and job is None:  # whoever submitted it was killed before SLURM had named the job
        return Entry(run, "lost", was.status, trouble="its status names no job")
    trouble = str(was.status.get("error") or "") if was.state in ("failed", "damaged") else ""
    return Entry(run, was.state, was.status, was.holder, job, trouble=trouble)


def with_job(entry: Entry, job_state: str) -> Entry:
    """What SLURM knows beyond the files: a job that waits or is at work, or one that ended without a word."""
    state, trouble = entry.state, ""
    if state == "stopped" and job_state not in jobs.ALIVE and job_state != "CANCELLED":
        pass  # it has said all that there is to say
    elif state in ("submitted", "stopped", "broken off"):
        if job_state in jobs.AT_WORK:
            state = "running"
        elif job_state in jobs.WAITING:
            state = "pending"
        elif job_state == jobs.UNKNOWN:
            state, trouble = "pending", "SLURM does not answer"
        elif job_state == "CANCELLED":
            state = "cancelled"
        else:
            words = {jobs.GONE: "SLURM knows it no more"}
            state, trouble = "lost", f"job {entry.job}: {words.get(job_state, job_state)}"
    return replace(entry, state=state, job_state=job_state, trouble=trouble or entry.trouble)


def lines(entries: Sequence[Entry], width: int) -> Iterator[str]:
    """A table: a line for each run, and one more where something went wrong; the numbers of each state below."""
    heads = ["run", "state", "progress", "min", "where"]
    rows = [[e.name, e.state, e.progress, "" if e.minutes is None else f"{e.minutes:.1f}", e.where] for e in entries]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    # what is too wide is cut in the name's middle, where the geometry and the digest stay, then where it works
    for column, least in ((0, 24), (4, 9)):
        over = sum(widths) + 2 * (len(widths) - 1) - width
        widths[column] = max(min(widths[column], least), widths[column] - max(0, over))
    yield _row(heads, widths)
    for entry, row in zip(entries, rows, strict=True):
        yield _row(row, widths)
        if entry.trouble:
            yield "  " + _end_cut(" ".join(entry.trouble.split()), width - 2)
    yield textwrap.fill(summary(entries), width)


def summary(entries: Sequence[Entry]) -> str:
    """How many runs are in which state."""
    counts = {state: sum(entry.state == state for entry in entries) for state in STATES}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return f"{len(entries)} run{'' if len(entries) == 1 else 's'}: {told}" if entries else "no runs"


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, *rest, last = cells
    first = [_middle_cut(name, widths[0]).ljust(widths[0])]
    middle = [text.rjust(size) if column == 2 else text.ljust(size)
              for column, (text, size) in enumerate(zip(rest, widths[1:-1], strict=True))]  # fmt: skip
    return "  ".join([*first, *middle, _end_cut(last, widths[-1])]).rstrip()


def _middle_cut(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    end = min(9, width // 2)  # the digest
    return f"{text[: width - end - 1]}…{text[-end:]}"


def _end_cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
