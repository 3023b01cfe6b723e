"""Leases: which process works on a folder, also where machines share it and locks of the system do not reach that far.

    <folder>/.lease/7.json    held: by whom, since when; touched every HEARTBEAT seconds
    <folder>/.lease/7.free    given back

Numbers only grow. A lease begins when the file of the next number appears under its name, whole, which the file system
lets one process do; the files of lower numbers are then deleted. So exactly one of those that find a lease free or dead
gets the next one, and a holder has lost its own when its file is not there any more: it looks before every file that it
puts in place (`hldm.files.fences`), since it may have been stopped for hours and wake up.

Whether a holder is dead is judged by whoever wants its lease, with its own clock alone: it watches the file, and nobody
has touched it for SILENCE seconds. Clocks of two machines are never compared for that. It goes faster where it is sure:
on one machine when that process has ended, and in SLURM when the job has and no sign of life was seen for a while.

Looking takes nothing and writes nothing, so that it can disturb nobody.
"""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hldm.errors import BusyError
from hldm.files import fences
from hldm.run.holder import Holder

FOLDER = ".lease"

HEARTBEAT = 10.0
"""Seconds between the signs of life of a holder."""

SILENCE = 60.0
"""Seconds without one after which a lease may be taken over."""

ASK_AFTER = 1.5 * HEARTBEAT
"""Seconds without one after which the scheduler is asked about the holder's job."""

LOOK = 1.0
"""Seconds between two looks at a lease that is waited for."""


class HeldError(BusyError):
    """Another process works on the folder."""

    def __init__(self, folder: Path, holder: Holder) -> None:
        super().__init__(
            f"{folder} is being worked on by {holder}, since {holder.taken}. Wait until it has ended (or stop it) and "
            "repeat the command, or choose another folder with study=…."
        )
        self.holder = holder


class LostError(BusyError):
    """What this process held is another one's now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        other = holder(folder)
        super().__init__(
            f"This process was not heard of for {SILENCE:.0f} seconds or more (stopped, or its disk was away), and "
            f"{folder} is worked on by {other or 'another one'} now. It ends here, and has changed nothing since."
        )


@dataclass(frozen=True)
class _Entry:
    """The newest file of a folder's leases.

    Attributes:
        holder: None where nobody holds the folder.
        touched: when the holder showed a sign of life, by the clock of the disk, nanoseconds.
    """

    number: int
    holder: Holder | None
    touched: int


def holder(folder: Path) -> Holder | None:
    """Who works on the folder; None where nobody does, or the holder is dead as far as one look can tell.

    One look compares the disk's clock with ours, so it may take a holder for dead whose clock is far from ours. Nothing
    is taken over by that: it is watched first.
    """
    entry = _newest(folder)
    return None if entry.holder is None or entry.holder.is_gone or not _was_near(entry, SILENCE) else entry.holder


class Lease:
    """What this process holds, until `release`. A thread shows the signs of life."""

    def __init__(self, folder: Path, number: int, token: str) -> None:
        self.folder = folder
        self._file = _named(folder, number)
        self._token = token
        self._renewed = _uptime()
        self._doubtful_until = 0.0
        self._is_lost = False
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease of {folder.name}", daemon=True)
        self._thread.start()
        fences[folder.absolute()] = self.check

    def check(self) -> None:
        """Make sure that the lease is still this process's.

        Raises:
            LostError: it is not.
        """
        if _uptime() - self._renewed > SILENCE / 2:
            self._renew()
        while not self._is_lost and (rest := self._doubtful_until - _uptime()) > 0:
            time.sleep(rest)
        if self._is_lost or not self._is_mine():
            self._is_lost = True
            raise LostError(self.folder)

    def release(self) -> None:
        """Give the folder back. What was lost is another one's, and stays so."""
        self._is_over.set()
        fences.pop(self.folder.absolute(), None)
        self._thread.join(LOOK)
        with suppress(FileNotFoundError):
            if self._is_mine():
                self._file.rename(self._file.with_suffix(".free"))

    def _beat(self) -> None:
        while not self._is_over.wait(HEARTBEAT):
            self._renew()

    def _renew(self) -> None:
        was = self._renewed
        try:
            if not self._is_mine():
                self._is_lost = True
                return
            os.utime(self._file)
        except OSError:
            return  # a disk that is away for a moment; if it is for long, others find out as well
        self._renewed = _uptime()
        if self._renewed - was > SILENCE / 2:
            # who has been watching may be about to take it: give it the time, and look again then
            self._doubtful_until = self._renewed + 2 * LOOK

    def _is_mine(self) -> bool:
        try:
            return Holder.read(self._file.read_text(encoding="utf-8")).token == self._token
        except FileNotFoundError:
            return False


@contextmanager
def held(
    folder: Path, say: Callable[[str], object], wait: Callable[[Holder, float], object] | None = None
) -> Iterator[Lease]:
    """Hold the folder, which is made where it is not there, while the block runs.

    Args:
        say: told what takes long.
        wait: called again and again while another process holds the folder, with that process and the seconds that this
            one has waited; None: there is no waiting but for finding out whether a holder that looks dead is.

    Raises:
        HeldError: another process has it, and there is no waiting.
        LostError: it was taken over while the block ran.
    """
    lease = _acquire(folder, say, wait)
    try:
        yield lease
    finally:
        lease.release()


def _acquire(folder: Path, say: Callable[[str], object], wait: Callable[[Holder, float], object] | None) -> Lease:
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    watch, begin, has_said = _Watch(), time.monotonic(), False
    while True:
        entry = _newest(folder)
        if entry.holder is None or watch.says_dead(entry, entry.holder):
            if lease := _take(folder, entry.number + 1):
                return lease
            continue
        if wait is not None:
            wait(entry.holder, time.monotonic() - begin)
        elif watch.has_seen_life or _was_near(entry, 2 * HEARTBEAT):
            raise HeldError(folder, entry.holder)
        elif not has_said:
            has_said = True
            say(f"{entry.holder} held {folder.name} and is silent: it is watched for {SILENCE:.0f} seconds.")
        time.sleep(LOOK)


class _Watch:
    """How long a lease has been silent, by the clock of this process.

    A time in which this process itself was stopped, or its disk was away, counts as one look.
    """

    def __init__(self) -> None:
        self.has_seen_life = False
        self._seen: tuple[int, int] | None = None
        self._silent = 0.0
        self._looked = self._asked = time.monotonic()

    def says_dead(self, entry: _Entry, holder: Holder) -> bool:
        """Whether the holder of the lease, which is looked at now, does not live."""
        now = time.monotonic()
        if (entry.number, entry.touched) != self._seen:
            self.has_seen_life = self._seen is not None
            self._seen, self._silent, self._asked = (entry.number, entry.touched), 0.0, now
        else:
            self._silent += min(now - self._looked, 2 * LOOK)
        self._looked = now
        if holder.is_gone or self._silent >= SILENCE:
            return True
        if self._silent < ASK_AFTER or now - self._asked < ASK_AFTER:
            return False
        is_gone = holder.job_is_gone
        self._looked = self._asked = time.monotonic()
        self._silent += self._looked - now  # a scheduler that takes its time makes nobody wait for longer
        return is_gone


def _take(folder: Path, number: int) -> Lease | None:
    """The lease of this number, or None where another process was first."""
    file, mine = _named(folder, number), Holder.this_process()
    if not _create(file, mine):
        return None
    names = _names(folder)
    if any((other, is_free) > (number, False) for other, is_free, _ in names):
        file.unlink(missing_ok=True)  # what was read before was old: the numbers are beyond this one already
        return None
    for other, _, name in names:
        if other < number:
            (folder / FOLDER / name).unlink(missing_ok=True)
    for temporary in (folder / FOLDER).glob("*.tmp"):  # of processes that were killed, or are late and try again
        temporary.unlink(missing_ok=True)
    return Lease(folder, number, mine.token)


def _create(file: Path, mine: Holder) -> bool:
    """Let the file appear, whole, unless there is one of its name."""
    temporary = file.with_name(f"{mine.token}.tmp")
    try:
        temporary.write_text(mine.text, encoding="utf-8")
        try:
            os.link(temporary, file)
        except (FileExistsError, FileNotFoundError):
            # over a network the answer to a link that was made may be lost, and the second try finds it there
            return _holder_in(file).token == mine.token
        except OSError:  # a disk without links
            with suppress(FileExistsError), file.open("x", encoding="utf-8") as content:
                content.write(mine.text)
                return True
            return False
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _newest(folder: Path) -> _Entry:
    while True:
        number, is_free, name = max(_names(folder), default=(0, True, ""))
        if is_free:
            return _Entry(number, None, 0)
        try:
            # opened, and not only looked at: over a network that asks the server
            with open(folder / FOLDER / name, encoding="utf-8") as file:
                return _Entry(number, Holder.read(file.read()), os.fstat(file.fileno()).st_mtime_ns)
        except FileNotFoundError:
            time.sleep(0.01)  # given back or taken over since the folder was read
        except OSError as error:
            if error.errno != errno.ESTALE:  # the same, over a network
                raise
            time.sleep(0.01)


def _holder_in(file: Path) -> Holder:
    try:
        return Holder.read(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Holder.read("")


def _names(folder: Path) -> list[tuple[int, bool, str]]:
    """(number, whether it was given back, name) of every lease of the folder."""
    try:
        names = os.listdir(folder / FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return []
    parts = [(*name.partition("."), name) for name in names]
    return [(int(n), kind == "free", name) for n, _, kind, name in parts if n.isdigit() and kind in ("json", "free")]


def _named(folder: Path, number: int) -> Path:
    return folder / FOLDER / f"{number}.json"


def _was_near(entry: _Entry, seconds: float) -> bool:
    """Whether the last sign of life is at most so long ago, or ahead, by our clock."""
    return abs(time.time() - entry.touched / 1e9) <= seconds


def _uptime() -> float:
    """Seconds that also pass while the machine sleeps, where the system can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
