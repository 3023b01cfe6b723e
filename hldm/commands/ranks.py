"""Starts the ranks of a run on this machine, and ends all of them where one ends before its time."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hldm.errors import UserError
from hldm.paths import import_path
from hldm.run import exits, stop
from hldm.run.directory import RunDirectory, now
from hldm.run.parent import Lifeline
from hldm.run.ranks import FOLDER, GONE, RENDEZVOUS
from hldm.study.job import WORKER, Job

GRACE = 5.0
"""Seconds that other ranks have to end by themselves, after the first that did not finish."""

LONG_GRACE = 30.0
"""Where they have been asked to stop, and may be saving."""

Process = subprocess.Popen[bytes]


def run_ranks(run: RunDirectory, size: int, arguments: Sequence[str] = ()) -> int:
    """Bring a run to its end with so many processes, and return an exit status of a worker.

    Only the first one's output is shown; what goes wrong in any of them is.

    Args:
        arguments: of the worker, after the directory.
    """
    ranks: list[Process] = []
    asked: list[int] = []

    def forward(number: int, frame: Any) -> None:
        """What asks this process to stop is sent on to all ranks."""
        asked.append(number)
        for rank in ranks:
            with suppress(ProcessLookupError):
                rank.send_signal(number)

    with tempfile.TemporaryDirectory(prefix="hldm-ranks-") as folder, Lifeline() as lifeline:
        try:
            for rank in range(size):
                ranks.append(_start(run, rank, size, arguments, Path(folder), lifeline))
            with stop.handled(stop.SIGNALS, forward):
                codes, first = _wait(ranks, asked)
        finally:
            _kill(ranks)
        if not any(codes):
            return exits.FINISHED
        failed = [code for code in codes if code not in (exits.FINISHED, exits.STOPPED, exits.BUSY)]
        if exits.BUSY in codes or (asked and exits.STOPPED in codes) or not failed:
            return exits.BUSY if exits.BUSY in codes else exits.STOPPED
        _say_why(run, first, codes[first], Path(folder), size)
        return exits.FAILED


def _start(
    run: RunDirectory, rank: int, size: int, arguments: Sequence[str], folder: Path, lifeline: Lifeline
) -> Process:
    own = folder / f"rank{rank}"
    own.mkdir()
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    variables = {name: str(value) for name, value in place.items()}
    variables |= {RENDEZVOUS: f"file://{folder}/meeting", FOLDER: str(own)}
    if sys.platform == "linux":
        variables.setdefault("GLOO_SOCKET_IFNAME", "lo")  # whatever the machine's name resolves to
    environment = {**os.environ, **variables, **lifeline.environment, **import_path()}
    return subprocess.Popen(
        [sys.executable, *WORKER, str(run.path), *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=None if rank == 0 else subprocess.DEVNULL,
        pass_fds=(lifeline.run_end,),
        start_new_session=True,  # what asks this process to stop is told to each of them, once
    )


def _wait(ranks: list[Process], asked: list[int]) -> tuple[list[int], int]:
    """The exit status of each rank, and the first that ended before its time, 0 where none did.

    The others have a moment then to end by themselves, and are killed.
    """
    first: int | None = None
    deadline = float("inf")
    while any(rank.poll() is None for rank in ranks):
        ended = [number for number, rank in enumerate(ranks) if rank.poll()]
        if first is None and ended:
            # whoever lacks another one ends in the same moment, but says so in words: a signal comes first
            first = min(ended, key=lambda number: (ranks[number].returncode > 0, number))
            deadline = time.monotonic() + (LONG_GRACE if asked else GRACE)
        if time.monotonic() > deadline:
            _kill(ranks)
        time.sleep(0.02)
    codes = [rank.wait() for rank in ranks]
    return codes, first if first is not None else next((number for number, code in enumerate(codes) if code), 0)


def _kill(ranks: list[Process]) -> None:
    for rank in ranks:
        if rank.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(rank.pid, signal.SIGKILL)
            rank.wait()


def _say_why(run: RunDirectory, first: int, code: int, folder: Path, size: int) -> None:
    """Write into the run's status the reason of the rank that has one: others ended for want of that one.

    Args:
        first: rank that ended first, with this exit status.
        folder: in which the other ranks left their status.
    """
    reasons = {0: run.status} if run.status.get("state") == "failed" else {}
    for rank in range(1, size):
        for file in (folder / f"rank{rank}").glob("*/status.json"):
            with suppress(UserError):
                reasons[rank] = RunDirectory(file.parent).status
    errors = {rank: str(status.get("error") or "") for rank, status in reasons.items()}
    own = {rank: error for rank, error in errors.items() if error and not error.startswith(GONE)}
    if 0 in own:
        return
    rank, why = next(iter(own.items()), (first, Job.what(code)))
    print(f"{run.path.name}: rank {rank}: {why}", file=sys.stderr, flush=True)
    with suppress(OSError, UserError):
        run.update_status(state="failed", ended=now(), error=f"rank {rank}: {why}")
