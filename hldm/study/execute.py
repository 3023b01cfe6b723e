"""Runs as processes of their own, over a few slots: what kills one leaves the others alone."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from hldm.machine import Allotment
from hldm.paths import PACKAGE
from hldm.run.directory import RunDirectory, now
from hldm.run.provenance import code
from hldm.run.scheduler import is_scheduled
from hldm.study.plan import Point

WORKER = ("-P", "-m", "hldm", "worker")
"""Arguments of Python, before the run directory. -P: a file of the user's folder must not hide a module."""

PATIENCE = 20.0
"""Seconds that a stopped run has to close its files."""


def write_directory(point: Point, threads: int) -> RunDirectory:
    """The run's directory with its configuration, in which the number of threads is the one that it gets.

    What a job asks SLURM for is not the run's: it stands in the job's script.
    """
    hardware = point.config.hardware.model_copy(update={"threads": threads, "slurm": None})
    run = RunDirectory.create(point.run.path, point.config.model_copy(update={"hardware": hardware}))
    # what has been trained stays that of the code it was begun with, which is said when the run is resumed
    began = run.status.get("code") or code()
    run.update_status(command=typed_command(), code=began)
    return run


def typed_command() -> str:
    """The command that this process was started by, without the folders of interpreter and script."""
    interpreter, *rest = sys.orig_argv or sys.argv
    script = [Path(rest[0]).name] if rest and not rest[0].startswith("-") else rest[:1]
    return shlex.join([Path(interpreter).name, *script, *rest[1:]])


def execute(points: list[Point], allotment: Allotment, console: Console) -> None:
    """Run each of these points to its end; what became of it stands in its status.json.

    With one slot a run writes to this terminal; with more, to `log.txt` of its directory.
    """
    waiting = deque(enumerate(points, start=1))
    active: dict[int, _Job] = {}
    how = signal.SIGINT
    with _stopped_by_signals():
        try:
            while waiting or active:
                for slot in range(allotment.slots):
                    if slot not in active and waiting:
                        number, point = waiting.popleft()
                        console.rule(f"run {number} of {len(points)}: {point.identity.name}")
                        active[slot] = _start(point, allotment, slot)
                for slot, job in list(active.items()):
                    if job.process.poll() is not None:
                        _finish(job, console)
                        del active[slot]
                time.sleep(0.05)
        except KeyboardInterrupt as stopped:
            if signal.SIGTERM in stopped.args and is_scheduled():
                how = signal.SIGTERM  # which tells the runs that they will go on later
            raise
        finally:
            _stop(active, how)


@dataclass(frozen=True)
class _Job:
    point: Point
    process: subprocess.Popen[bytes]
    log: IO[bytes] | None


def _start(point: Point, allotment: Allotment, slot: int) -> _Job:
    run = write_directory(point, allotment.threads)
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, **allotment.environment(slot), "PYTHONPATH": os.pathsep.join(paths)}
    log = (run.path / "log.txt").open("ab") if allotment.slots > 1 else None
    process = subprocess.Popen(
        [sys.executable, *WORKER, str(run.path)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log and subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C reaches this process only, which then stops the runs in order
    )
    return _Job(point, process, log)


def _finish(job: _Job, console: Console) -> None:
    if job.log:
        job.log.close()
    run, code = job.point.run, job.process.returncode
    now_is = run.snapshot()
    if code == 0 and now_is.state == "finished":
        console.print(f"{run.path.name}: finished in {now_is.status.get('minutes', 0):.1f} minutes")
        return
    if run.holder() is None:
        # a process that was killed could not write down what became of it
        error = run.status.get("error") or _what(code)
        run.update_status(state="failed", ended=now(), error=error)
        console.print(f"{run.path.name}: FAILED: {error}" + (f" (see {run.path / 'log.txt'})" if job.log else ""))


def _what(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = ", which the system does where memory runs out" if code == -signal.SIGKILL else ""
        return f"ended by {name}{hint}"
    return f"ended with status {code}" if code else "ended without results"


def _stop(active: dict[int, _Job], how: signal.Signals) -> None:
    """Ask the runs to end, as Ctrl-C or a scheduler would; then insist."""
    for job in active.values():
        job.process.send_signal(how)
    deadline = time.monotonic() + PATIENCE
    for job in active.values():
        try:
            job.process.wait(max(0.1, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            job.process.kill()
            job.process.wait()
        if job.log:
            job.log.close()


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """A closed terminal or a `kill` stops the runs too, as Ctrl-C does, instead of leaving them behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt(signal.Signals(number))

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
