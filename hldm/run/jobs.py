"""What SLURM says of jobs: squeue, then sacct, and "UNKNOWN" where neither answers in time."""

import os
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping
from typing import Any

PATIENCE = 20.0
"""Seconds that one look-up may take."""

WAITING = frozenset(("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"))
AT_WORK = frozenset(
    ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "CONFIGURING", "RESIZING")
)
ALIVE = WAITING | AT_WORK
"""States of a job that runs, or may still run."""

GONE, UNKNOWN = "GONE", "UNKNOWN"
"""SLURM does not know the job any more; SLURM does not answer."""


def states(ids: Collection[str]) -> dict[str, str]:
    """Job, as `12` or `12_3`, → its state in SLURM's words; GONE where it is forgotten, UNKNOWN where nothing answers.

    A job that ended a while ago is known to sacct only, where there is an accounting database.
    """
    if not ids:
        return {}
    answer = _of_squeue(ids)
    if answer is None:
        return dict.fromkeys(ids, UNKNOWN)
    found = {job: state for job, state in answer if job in ids}
    if missing := [job for job in ids if job not in found]:
        found |= {job: state for job, state in _of_sacct(missing) if job in missing}
    return {job: found.get(job, GONE) for job in ids}


def job_of(status: Mapping[str, Any]) -> str | None:
    """The job of SLURM that a run's status.json names; None where it names none."""
    job = status.get("job")
    if not isinstance(job, Mapping) or job.get("scheduler") != "slurm" or not job.get("id"):
        return None
    return str(job["id"])


def current() -> dict[str, Any] | None:
    """`job` of status.json for the job that this process is part of; None outside of one."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return None
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    name = os.environ.get("SLURM_JOB_NAME")
    return {"scheduler": "slurm", "id": f"{array}_{task}" if array and task else job, "name": name}


def ask(*command: str) -> str | None:
    """What a command of SLURM prints; None where there is no such command, it fails or takes too long."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode and "Invalid job id" not in done.stderr:
        return None
    return done.stdout


def _of_squeue(ids: Collection[str]) -> list[tuple[str, str]] | None:
    """(job, state) of all of these that are in the memory of slurmctld; None where it does not answer."""
    # by their arrays: the line of commands has an end. All states: what ended lately has a reason
    arrays = ",".join(sorted({job.partition("_")[0] for job in ids}))
    text = ask("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T", f"--jobs={arrays}")
    return None if text is None else list(_lines(text))


def _of_sacct(ids: Collection[str]) -> Iterator[tuple[str, str]]:
    arrays = ",".join(sorted({job.partition("_")[0] for job in ids}))
    text = ask("sacct", "--noheader", "--parsable2", "--allocations", "--array", "--format=JobID,State", "-j", arrays)
    yield from _lines(text or "")


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        job, _, state = line.partition("|")
        if state.strip():  # "CANCELLED by 1000"
            yield job.strip(), state.split()[0]
