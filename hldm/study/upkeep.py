"""What can be done with runs beside training them: cancel, prepare to try again, clean up, find their logs."""

import os
import shlex
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hldm.errors import BusyError, UserError
from hldm.files import in_words
from hldm.run import jobs
from hldm.run.directory import RunDirectory, now
from hldm.run.identity import FIRST_STAGE_OF_LATENTS, first_stage_identity
from hldm.run.lease import holder
from hldm.study.ledger import Entry, read

PATIENCE = 30.0
"""Seconds in which a run that was asked to stop saves what it has."""

AGAIN = ("failed", "cancelled", "lost", "broken off", "damaged", "stopped")
"""States from which `retry` starts."""


def cancel(entries: Sequence[Entry]) -> Iterator[str]:
    """End what works and what waits; a line on each run. What is saved stays: started again, a run goes on from it.

    It is marked as cancelled before it is asked to end: however late or in whatever way it does, it stays so.
    """
    at_work = [entry for entry in entries if entry.state in ("running", "pending")]
    in_jobs = [entry for entry in at_work if entry.job and entry.job_state in (*jobs.ALIVE, jobs.UNKNOWN)]
    here = [entry for entry in at_work if entry not in in_jobs and entry.holder and entry.holder.is_here]
    for entry in (*in_jobs, *here):
        entry.run.mark_cancelled()
    if in_jobs and jobs.ask("scancel", *(entry.job for entry in in_jobs if entry.job)) is None:
        yield "scancel does not answer: jobs are still in the queue. Repeat the command later."
        for entry in in_jobs:
            entry.run.forget_cancelled()
        in_jobs = []
    here = [entry for entry in here if _told_to_stop(entry)]
    deadline = time.monotonic() + PATIENCE
    for entry in at_work:
        if entry not in here and entry not in in_jobs:
            yield f"{entry.name}: {entry.holder or 'its job'} cannot be reached from here. Repeat the command there."
            continue
        while entry.run.holder() is not None and time.monotonic() < deadline:  # it saves its state
            time.sleep(0.1)
        yield f"{entry.name}: {_say_cancelled(entry)}"
    if not at_work:
        yield "Nothing works, and nothing waits."


def _told_to_stop(entry: Entry) -> bool:
    """Whether the run's process on this machine was asked to stop, or is gone; False where it is another user's."""
    if entry.holder is not None and not entry.holder.is_gone:
        try:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(entry.holder.pid, signal.SIGTERM)
        except PermissionError:
            entry.run.forget_cancelled()
            return False
    return True


def cancel_first_stages(cancelled: Sequence[Entry], every: Iterable[RunDirectory]) -> Iterator[str]:
    """End the jobs of first stages that only these runs waited for; a line on each. What is saved stays.

    Args:
        every: run of all studies, which may wait for the same first stages.
    """
    waited = [entry.run for entry in cancelled if entry.job and entry.state in ("running", "pending")]
    own = {run.path.resolve() for run in waited}
    found = {folder: job for run in waited if (folder := _own_first_stage(run)) is not None
             if (job := jobs.job_of(RunDirectory(folder).status)) is not None}  # fmt: skip
    states = jobs.states([*found.values()]) if found else {}
    alive = {folder: job for folder, job in found.items() if states[job] in jobs.ALIVE}
    if alive:
        others = {run: folder for run in every if run.path.resolve() not in own
                  if (folder := _own_first_stage(run)) in alive}  # fmt: skip
        for other in read(others):
            if other.state in ("running", "pending"):
                alive.pop(others[other.run], None)
    if alive and jobs.ask("scancel", *alive.values()) is not None:
        for folder, job in alive.items():
            yield f"first stage {folder.name}, for which no other run waits: job {job} was asked to end"


def outputs_of(run: RunDirectory) -> Path:
    """The folder of studies that a run lies in, also where the run was named as "." from inside."""
    return Path(os.path.abspath(run.path)).parent.parent


def _own_first_stage(run: RunDirectory) -> Path | None:
    """The folder of the first stage that a run shares with others; None where it has none, or cannot be read.

    It is looked for beside the run's study, as the folder of studies may have been moved or copied since.
    """
    try:
        config = run.config
    except UserError:
        return None
    folder = outputs_of(run) / "first_stages" / first_stage_identity(config).name
    return folder if config.first_stage is None else None


def _say_cancelled(entry: Entry) -> str:
    """Write it into the status, which is its holder's until that has ended."""
    try:
        with entry.run.lock():
            if entry.run.finished is not None:
                entry.run.forget_cancelled()
                return "finished before it could be cancelled"
            entry.run.update_status(state="cancelled", ended=now())
    except BusyError:
        if entry.job:
            return f"job {entry.job} was asked to end"
        return f"asked to stop, and still saving: {entry.holder}"
    return "cancelled"


def retry(entries: Sequence[Entry]) -> Iterator[str]:
    """Mark what did not finish to be done again; a line on each run, and the commands that do it."""
    chosen = [entry for entry in entries if entry.state in AGAIN or entry.run.look().state == "damaged"]
    commands: dict[str, None] = {}
    for entry in chosen:
        try:
            with entry.run.lock():
                entry.run.forget_cancelled()
                aside = [file.stem for file in entry.run.set_aside_damaged()]
                has_begun = any((entry.run.path / "checkpoints").glob("*"))
                state = "stopped" if has_begun else "new"
                # the job is over: only its output is of interest
                entry.run.update_status(state=state, error=None, job=None, last_job=entry.job)
        except BusyError as error:
            yield f"{entry.name}: {error}"
            continue
        _retry_first_stage(entry.run)
        what = "goes on from its last checkpoint" if has_begun else "starts anew"
        yield f"{entry.name}: {what}" + (f"; {', '.join(aside)} set aside" if aside else "")
        commands.setdefault(
            str(entry.status.get("command") or f"python -m hldm worker {shlex.quote(str(entry.run.path))}")
        )
    if not chosen:
        yield "Nothing failed, was cancelled, or was lost."
    elif commands:
        yield "What starts them:"
        yield from (f"  {command}" for command in commands)


def _retry_first_stage(run: RunDirectory) -> None:
    """A first stage of its own job that failed would fail all that stand on it."""
    if (folder := _own_first_stage(run)) is None:
        return
    try:
        stage = RunDirectory(folder)
        if stage.status["state"] in ("failed", "cancelled"):
            with stage.lock():
                stage.update_status(state="new", error=None)
    except (UserError, OSError):
        return  # its status cannot be read: the run's command says so


def logs(entry: Entry) -> list[Path]:
    """What the run and its jobs wrote, the newest last."""
    found = list(entry.run.path.glob("log.txt"))
    if job := entry.job or entry.status.get("last_job"):
        found += entry.run.path.parent.glob(f".jobs/*/{job}_*.out")
    there = [(file, file.stat()) for file in found if file.is_file()]
    return [file for file, status in sorted(there, key=lambda pair: pair[1].st_mtime) if status.st_size]


@dataclass(frozen=True)
class Waste:
    """Something that can be deleted.

    Attributes:
        run: of which it is the whole directory; None for a single file or a first stage.
    """

    path: Path
    why: str
    size: int
    run: RunDirectory | None = None

    @property
    def words(self) -> str:
        """What it is, and how much."""
        return f"{in_words(self.size):>9}  {self.path}  ({self.why})"


def waste(entries: Sequence[Entry], outputs: Path, every: Iterable[RunDirectory]) -> Iterator[Waste | str]:
    """What can be deleted of these runs and beside them; a sentence on what is kept though it looks like that.

    First stages are known by their names: the paths in files are those before the outputs were moved or copied.

    Args:
        outputs: where first stages are.
        every: run of all studies, which may use what lies in this one.
    """
    whole = {entry.run.path.resolve(): entry for entry in entries if entry.state in ("failed", "cancelled")}
    needed: set[str] = set()
    unknown = 0
    for run in every:
        if run.path.resolve() in whole:
            continue
        try:
            config = run.config
        except UserError:
            unknown += 1
            continue
        if config.first_stage is not None:
            needed.add(Path(config.first_stage).resolve().name)
        else:
            needed.add(first_stage_identity(config).name)
    for path, entry in whole.items():
        if path.name in needed:
            yield f"{entry.name} is {entry.state} and kept: another run has a first stage of this name."
        else:
            yield Waste(entry.run.path, entry.state, _size(path), entry.run)
    for entry in entries:
        if entry.holder is None and entry.run.path.resolve() not in whole:
            yield from _left_over(entry)
    stages = [folder for folder in sorted((outputs / "first_stages").glob("*")) if folder.is_dir()]
    unused = [folder for folder in stages if folder.name not in needed and RunDirectory(folder).holder() is None]
    if unused and unknown:
        yield f"{len(unused)} first stages look unused and are kept: {unknown} runs cannot be read that may use them."
        return
    for folder in unused:
        yield Waste(folder, "no run uses this first stage", _size(folder), RunDirectory(folder))
    for file in sorted((outputs / "latents").glob(f"*/{FIRST_STAGE_OF_LATENTS}")):
        if Path(file.read_text(encoding="utf-8")).resolve().name not in needed and holder(file.parent) is None:
            yield Waste(file.parent, "latents of a first stage that no run uses", _size(file.parent))


def _left_over(entry: Entry) -> Iterator[Waste]:
    """Files that a process which was killed left in a run nobody works on."""
    for pattern, why in ((".*.tmp", "half written"), ("checkpoints/.*.tmp", "half written"), ("*.damaged", "set aside"),
                         ("wandb/replaced-*", "in a later segment")):  # fmt: skip
        for file in entry.run.path.glob(pattern):
            yield Waste(file, why, _size(file))
    if entry.state == "finished":
        for file in entry.run.path.glob("checkpoints/*.resume*"):
            yield Waste(file, "resume state of a finished run", _size(file))


def delete(wasted: Waste) -> str | None:
    """Delete it; a sentence where it has to be kept: somebody works on it now, or it is another one's to delete."""
    try:
        if wasted.run is None:
            _remove(wasted.path)
            return None
        with wasted.run.lock():
            if wasted.run.finished is not None and wasted.run.path.parent.name != "first_stages":
                return f"{wasted.path.name} is finished by now, and kept."
            # under another name at once, so that nobody begins to work in what is being deleted
            doomed = wasted.path.with_name(f".deleted-{wasted.path.name}")
            wasted.path.rename(doomed)
        _remove(doomed)
    except BusyError as error:
        return f"{wasted.path.name} is kept: {error}"
    except OSError as error:
        return f"{error.filename or wasted.path} cannot be deleted: {error.strerror}."
    return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())


def filtered(entries: Iterable[Entry], states: Sequence[str] | None) -> list[Entry]:
    """Those in one of these states; all where None is given."""
    return [entry for entry in entries if states is None or entry.state in states]
