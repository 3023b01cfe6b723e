"""`wait=true`: how far the runs of submitted jobs are, from their directories first and from SLURM second."""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from hldm.errors import UserError
from hldm.run import jobs
from hldm.run.directory import RunDirectory
from hldm.slurm.arrays import states_in_words
from hldm.study.progress import Progress

LOOK = 2.0
"""Seconds between two looks at the run directories, the more the more there are."""

ASK = 30.0
"""Seconds between two questions to SLURM, which serves others too."""

SHOWN = 30
"""Runs that the table has lines for."""

ENDED = ("finished", "failed", "cancelled")


def watch(runs: Sequence[RunDirectory], console: Console) -> None:
    """Return when each of these runs has ended, or has no job any more that could end it."""
    said, asked, live_jobs = "", float("-inf"), dict[str, str]()
    looks = dict[RunDirectory, tuple[str, dict[str, Any]]]()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            if time.monotonic() - asked >= ASK:
                looks = {run: look(run) for run in runs}
                live_jobs = jobs.states({job for _, status in looks.values() if (job := jobs.job_of(status))})
                asked = time.monotonic()
            before, looks = looks, {run: look(run) for run in runs}
            states = [state_of(state, status, live_jobs) for state, status in looks.values()]
            words = states_in_words(states)
            if console.is_terminal:
                live.update(table(looks, states, words), refresh=True)
            elif words != said:
                console.print(words)
                said = words
            if all(state in (*ENDED, "lost") for state in states):
                if "lost" not in states or (before == looks and time.monotonic() - asked < LOOK):
                    return
                asked = float("-inf")  # SLURM is asked anew before a run is given up
            time.sleep(max(LOOK, len(runs) / 200))


def look(run: RunDirectory) -> tuple[str, dict[str, Any]]:
    """State and status.json of a run now; a damaged one has failed."""
    try:
        snapshot = run.snapshot()
    except UserError as error:
        return "failed", {"error": str(error)}
    return snapshot.state, snapshot.status


def state_of(state: str, status: dict[str, Any], live_jobs: dict[str, str]) -> str:
    """The state of a run, in which "lost" is one that nobody works on, and that no job is going to work on."""
    if state in (*ENDED, "running"):
        return state
    in_slurm = live_jobs.get(jobs.job_of(status) or "", jobs.UNKNOWN)
    if in_slurm in jobs.ALIVE:
        return {"PENDING": "waiting"}.get(in_slurm, in_slurm.lower())
    return "waiting" if in_slurm == jobs.UNKNOWN else "lost"


def table(looks: dict[RunDirectory, tuple[str, dict[str, Any]]], states: Sequence[str], words: str) -> Table:
    """The runs that are at work, and how many there are of each kind."""
    shown = Table(box=None, pad_edge=False, header_style="bold", caption=words, caption_justify="left")
    for heading in ("run", "job", "state", "progress"):
        shown.add_column(heading)
    lines = [line for line in zip(looks.items(), states, strict=True) if line[1] not in ("finished", "waiting")]
    for (run, (_, status)), state in lines[:SHOWN]:
        progress = Progress.of(status)
        done = f"{progress.stage} {progress.step}/{progress.steps}" if progress else ""
        shown.add_row(run.path.name, jobs.job_of(status) or "", state, done)
    return shown
