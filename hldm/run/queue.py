"""What SLURM says of its jobs: asked once for all of them, never for long, and without it "unknown" is an answer."""

import os
import shutil
import subprocess
from collections.abc import Iterable

SECONDS = 8.0
"""A look-up that takes longer has no answer: a scheduler may be away."""

AT_WORK = frozenset(
    ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "CONFIGURING", "RESIZING")
)
"""States in which processes of a job may be there."""

WAITING = frozenset(("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"))
"""States of a job that may start, or start again."""


def this_job() -> str | None:
    """The job that this process is part of, as SLURM names it: `<array>_<task>` or `<id>`."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID") or None


def look(jobs: Iterable[str]) -> dict[str, str] | None:
    """Job → its state, for those that are in the queue or have just left it; None where nobody can be asked."""
    asked = _arrays(jobs)
    if not asked:
        return {}
    # -r: a line for each task of an array; a job of which nothing is known ends squeue with an error of its own
    answer = _answer(["squeue", "--noheader", "-r", "--states=all", "-o", "%i %T", "-j", asked])
    if answer is None:
        return None
    code, out, err = answer
    if code and "Invalid job id" not in err:
        return None
    return dict(line.split(maxsplit=1) for line in out.splitlines() if len(line.split()) == 2)


def ended(jobs: Iterable[str]) -> dict[str, str]:
    """Job → how it ended, from the accounts of the cluster; {} where it keeps none."""
    asked = _arrays(jobs)
    answer = _answer(["sacct", "--noheader", "-X", "-P", "-o", "JobID,State", "-j", asked]) if asked else None
    if answer is None or answer[0]:
        return {}
    rows = (line.split("|") for line in answer[1].splitlines())
    return {row[0]: row[1].split()[0] for row in rows if len(row) == 2 and row[1].strip()}  # CANCELLED by 1000


def _arrays(jobs: Iterable[str]) -> str:
    """Their numbers without tasks: a thousand tasks of an array are one."""
    return ",".join(sorted({job.partition("_")[0] for job in jobs}))


def _answer(command: list[str]) -> tuple[int, str, str] | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (subprocess.TimeoutExpired, OSError):
        return None
    return done.returncode, done.stdout, done.stderr
