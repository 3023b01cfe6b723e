"""`wait=true`: how far the runs of submitted jobs are, from their directories first and from SLURM second."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from hldm.run import jobs
from hldm.run.directory import RunDirectory
from hldm.slurm.arrays import states_in_words
from hldm.study import ledger
from hldm.study.ledger import Entry

LOOK = 2.0
"""Seconds between two looks at the run directories, the more the more there are."""

ASK = 30.0
"""Seconds between two questions to SLURM, which serves others too."""

SHOWN = 30
"""Runs that the table has lines for."""

SURE = ("finished", "failed", "cancelled")
"""States in which a run stays. What is lost or stopped may be on its way to another one."""


def watch(runs: Sequence[RunDirectory], console: Console) -> None:
    """Return when each of these runs has ended, or has no job any more that could end it."""
    said, asked, live_jobs = "", float("-inf"), dict[str, str]()
    entries = list[Entry]()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            if time.monotonic() - asked >= ASK:
                live_jobs = jobs.states({job for entry in map(ledger.look, runs) if (job := entry.job)})
                asked = time.monotonic()
            before, entries = entries, [_with_job(ledger.look(run), live_jobs) for run in runs]
            words = states_in_words([entry.state for entry in entries])
            if console.is_terminal:
                live.update(table(entries, words), refresh=True)
            elif words != said:
                console.print(words)
                said = words
            if not any(entry.state in ("running", "pending") for entry in entries):
                if all(entry.state in SURE for entry in entries) or (
                    before == entries and time.monotonic() - asked < LOOK
                ):
                    return
                asked = float("-inf")  # SLURM is asked anew before a run is given up
            time.sleep(max(LOOK, len(runs) / 200))


def _with_job(entry: Entry, live_jobs: dict[str, str]) -> Entry:
    return entry if entry.job is None else ledger.with_job(entry, live_jobs.get(entry.job, jobs.UNKNOWN))


def table(entries: Sequence[Entry], words: str) -> Table:
    """The runs that are at work or went wrong, and how many there are of each kind."""
    shown = Table(box=None, pad_edge=False, header_style="bold", caption=words, caption_justify="left")
    for heading in ("run", "job", "state", "progress"):
        shown.add_column(heading)
    for entry in [entry for entry in entries if entry.state not in ("finished", "pending")][:SHOWN]:
        shown.add_row(entry.name, entry.job or "", entry.state, entry.progress)
    return shown
