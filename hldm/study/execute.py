"""Runs as processes of their own, over a few slots: what kills one leaves the others alone."""

import shlex
import signal
import socket
import sys
import time
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from hldm.config.schema import RunConfig
from hldm.errors import UserError
from hldm.machine import Allotment
from hldm.run import stop
from hldm.run.directory import RunDirectory, now
from hldm.run.exits import BUSY
from hldm.run.parent import PATIENCE, Lifeline
from hldm.run.provenance import code
from hldm.run.scheduler import is_scheduled
from hldm.study.job import Job
from hldm.study.live import Display
from hldm.study.plan import Point

LOOK_EVERY = 1.0
"""Seconds between looks at runs of other processes."""


def write_directory(point: Point, threads: int, **status: Any) -> RunDirectory:
    """The run's directory with its configuration, in which the number of threads is the one that it gets.

    What a job asks SLURM for is not the run's: it stands in the job's script.

    Args:
        status: what else status.json is to say.
    """
    run = RunDirectory.create(point.run.path, of_the_run(point.config, threads))
    # what has been trained stays that of the code it was begun with, which is said when the run is resumed
    began = run.status.get("code") or code()
    run.update_status(command=typed_command(), code=began, config=run.config_digest, **status)
    return run


def mend(plan: list[Point]) -> None:
    """Make runs ready for this command: it wants also those that were cancelled before.

    What cannot be read of them is set aside, so that it is made again; lost configurations are written anew.
    """
    for point in plan:
        if point.is_to_run:
            point.run.forget_cancelled()
        if point.original is None and point.state == "damaged":
            for file in point.run.set_aside_damaged():
                print(f"{file.with_suffix('')} is damaged: it is {file.name} now, and is made again", flush=True)
        if point.original is None and point.state == "finished":
            written = point.run.status.get("config")
            if written is not None and written != point.run.config_digest:
                threads = point.made_with.get("threads", point.config.hardware.threads)
                run = RunDirectory.create(point.run.path, of_the_run(point.config, threads))
                run.update_status(config=run.config_digest)
                print(f"{run.path / 'config.yaml'} was damaged, and has been written anew", flush=True)


def of_the_run(config: RunConfig, threads: int) -> RunConfig:
    """The configuration as a run directory holds it, with what SLURM is asked for put into the settings of the run.

    The search that proposed it is not part of it.
    """
    hardware = config.hardware
    ranks = hardware.slurm.processes if hardware.slurm else hardware.ranks
    own = hardware.model_copy(update={"threads": threads, "ranks": ranks, "slurm": None})
    return config.model_copy(update={"hardware": own, "search": None})


def threads_of(point: Point, usual: int) -> int:
    """Threads of a run: those that it was begun with, as other ones would give other last bits, or the usual ones here.

    Who types a number means it.
    """
    asked = point.config.hardware.threads
    if asked != "auto":
        return asked
    with suppress(UserError):  # it was never begun, or its configuration is damaged
        if point.run.status.get("started") and (begun := point.run.config.hardware.threads) != "auto":
            return begun
    return usual


def typed_command() -> str:
    """The command that this process was started by, without the folders of interpreter and script."""
    interpreter, *rest = sys.orig_argv or sys.argv
    script = [Path(rest[0]).name] if rest and not rest[0].startswith("-") else rest[:1]
    return shlex.join([Path(interpreter).name, *script, *rest[1:]])


def execute(points: list[Point], allotment: Allotment, console: Console) -> dict[Path, str]:
    """Run each of these points to its end; what became of it stands in its status.json.

    Its output is in `log.txt` of its directory, and on this terminal too where there is one slot. A run that this
    machine works on already, as an earlier command left it or another one started it, is waited for in its slot.

    Returns:
        Run directory → why it failed, of those that failed here.

    Raises:
        KeyboardInterrupt: the command was asked to stop, and the runs have ended.
    """
    if not points:
        return {}
    pool = Pool(points, allotment, console)
    asked: list[signal.Signals] = []

    def note(number: int, frame: Any) -> None:
        """Not raised: it may come wherever this process happens to be."""
        asked.append(signal.Signals(number))

    with pool.display, stop.handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), note):
        pool.run(asked)
    return pool.failures


class Pool:
    """The runs of one command over the slots of this machine.

    Attributes:
        active: slot → its run.
        elsewhere: runs that other processes of this machine work on.
        failures: run directory → why it failed.
    """

    def __init__(self, points: list[Point], allotment: Allotment, console: Console) -> None:
        self.allotment = allotment
        self.hardware = points[0].config.hardware
        outputs = Path(points[0].config.paths.outputs)
        self.display = Display(console, len(points), allotment.slots, outputs)
        self.numbers = {point.run.path: number for number, point in enumerate(points, start=1)}
        self.waiting: deque[Point] = deque()
        self.active: dict[int, Job] = {}
        self.elsewhere: list[Point] = []
        self.failures: dict[Path, str] = {}
        self.attempts: Counter[Path] = Counter()
        self.lifeline = Lifeline()
        self._looked = 0.0
        for point in points:
            if point.state != "running":
                self.waiting.append(point)
            else:
                self._leave_to_its_holder(point)

    def run(self, asked: list[signal.Signals]) -> None:
        """Until nothing is left to do.

        Args:
            asked: signals that asked this process to stop; the handlers add to it.
        """
        with self.lifeline:
            try:
                while self.waiting or self.active or self.elsewhere:
                    if asked:
                        raise KeyboardInterrupt(asked[0])
                    self._fill()
                    self._collect()
                    self._look_elsewhere()
                    if self.hardware.fail_fast and self.failures:
                        self._fail_fast()
                        return
                    self.display.update(self.waiting)
                    time.sleep(0.05)
            except KeyboardInterrupt as stopped:
                # a scheduler that takes the machine back: the runs are told so, and will go on later
                is_taken = signal.SIGTERM in stopped.args and is_scheduled()
                self._stop(signal.SIGTERM if is_taken else signal.SIGINT, asked)
                raise
            finally:  # whatever went wrong here
                for job in self.active.values():
                    job.kill()

    # ------------------------------------------------------------------------------------------------------- beginning

    def _fill(self) -> None:
        """Start what waits, as far as there are slots and cores."""
        taken = {*self.active, *(self._slot_of(point) for point in self.elsewhere)}
        free = [slot for slot in range(self.allotment.slots) if slot not in taken]
        free = free[: max(0, self.allotment.slots - len(self.active) - len(self.elsewhere))]
        for slot in free:
            if not self.waiting:
                return
            point = self.waiting[0]
            threads = threads_of(point, self.allotment.threads)
            used = sum(job.threads for job in self.active.values())
            if used and used + threads > self.allotment.slots * self.allotment.threads:
                return
            self.waiting.popleft()
            try:
                self._start(point, slot, threads)
            except Exception as error:  # a full disk, a damaged file: that run's trouble only
                kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
                self._failed(point, f"{kind}{error}")

    def _start(self, point: Point, slot: int, threads: int) -> None:
        state = point.run.state  # things may have changed since the plan was made
        if state == "running":
            self._leave_to_its_holder(point)
        elif state == "finished":
            self.display.finished += 1
            self.display.say(f"{point.run.path.name}: finished by another process")
        elif point.run.is_to_be_cancelled:
            self.display.say(f"{point.run.path.name}: cancelled; the same command goes on")
        else:
            attempt = self.attempts[point.run.path]
            self.display.began(
                point,
                self.numbers[point.run.path],
                f"try {attempt + 1} of {self.hardware.retry + 1}" if attempt else "",
            )
            run = write_directory(point, threads)
            # what an earlier attempt died of is no reason of this one
            run.update_status(slot=slot, error=None)
            self.active[slot] = Job.start(point, self.allotment.environment(slot, threads), threads, self.lifeline)

    def _leave_to_its_holder(self, point: Point) -> None:
        """Wait for a run that another process of this machine works on; one of another machine is its own affair."""
        if point.run.status.get("host") == socket.gethostname():
            self.elsewhere.append(point)
            self.display.began(point, self.numbers[point.run.path], f"at work already: {point.run.holder()}")
        else:
            self.display.say(f"{point.run.path.name}: at work elsewhere ({point.run.holder()}), not waited for")

    @staticmethod
    def _slot_of(point: Point) -> int | None:
        """The slot in which another command has this run, which on a GPU is one of the same GPUs."""
        with suppress(UserError):
            slot = point.run.status.get("slot")
            return slot if isinstance(slot, int) else None
        return None

    # ---------------------------------------------------------------------------------------------------------- ending

    def _collect(self) -> None:
        """See which runs have ended, and what became of them."""
        for slot, job in list(self.active.items()):
            if (code := job.poll()) is None:
                continue
            del self.active[slot]
            try:
                self._conclude(job, code)
            except Exception as error:
                self._failed(job.point, f"{type(error).__name__}: {error}")

    def _conclude(self, job: Job, code: int) -> None:
        point, name = job.point, job.point.run.path.name
        now_is = point.run.snapshot()
        if code == 0 and now_is.state == "finished":
            self.display.finished += 1
            self.display.ended(point, f"{name}: finished in {now_is.status.get('minutes', 0):.1f} minutes")
        elif code == BUSY or now_is.state == "running":
            self.display.ended(point, f"{name}: another process was quicker")
            self._leave_to_its_holder(point)
        elif now_is.state in ("stopped", "cancelled"):
            self.display.ended(
                point, f"{name}: {now_is.state} by somebody, with its state saved; the same command goes on"
            )
        else:
            # a process that was killed could not write down what became of it
            self._failed(point, now_is.status.get("error") or job.what(code))

    def _failed(self, point: Point, error: str) -> None:
        path, log = point.run.path, point.run.path / "log.txt"
        self.attempts[path] += 1
        again = self.attempts[path] <= self.hardware.retry
        with suppress(OSError, UserError):  # a full disk, say: the others go on, and the reason is shown in the end
            point.run.update_status(state="failed", ended=now(), error=error)
        see = f" (see {log})" if log.is_file() else ""
        self.display.ended(point, f"{path.name}: FAILED: {error}{see}" + ("; it is tried again" if again else ""))
        if again:
            self.waiting.append(point)
        else:
            self.failures[path] = error
            self.display.failed += 1

    def _look_elsewhere(self) -> None:
        """What became of the runs of other processes."""
        if not self.elsewhere or time.monotonic() - self._looked < LOOK_EVERY:
            return
        self._looked = time.monotonic()
        for point in list(self.elsewhere):
            try:
                state = point.run.state
            except UserError as error:
                self.elsewhere.remove(point)
                self._failed(point, str(error))
                continue
            if state == "running":
                continue
            self.elsewhere.remove(point)
            self.display.ended(point, f"{point.run.path.name}: {state} by another process")
            if state == "finished":
                self.display.finished += 1
            elif state == "failed":
                self.failures[point.run.path] = str(point.run.status.get("error") or "")
                self.display.failed += 1
            else:
                self.waiting.append(point)

    def _fail_fast(self) -> None:
        name = next(iter(self.failures)).name
        rest = len(self.waiting) + len(self.active)
        self.display.say(f"fail_fast=true: {name} failed, so {rest} other runs are left for the next command.")
        self._stop(signal.SIGINT, [])

    def _stop(self, how: signal.Signals, asked: list[signal.Signals]) -> None:
        """Ask the runs to save their state and end; kill them when their time is up, or when asked once more."""
        if not self.active:
            return
        many = len(self.active)
        runs = f"{many} run{'s' if many > 1 else ''}"
        self.display.say(f"{runs} save{'' if many > 1 else 's'} and end{'' if many > 1 else 's'}. Ctrl-C again kills.")
        for job in self.active.values():
            job.signal(how)
        before, deadline = len(asked), time.monotonic() + PATIENCE
        while self.active and time.monotonic() < deadline and len(asked) == before:
            for slot, job in list(self.active.items()):
                if job.poll() is not None:
                    del self.active[slot]
            time.sleep(0.02)
        if self.active:
            self.display.say(f"{len(self.active)} of them killed: they go on from their last checkpoint.")
