"""Files: written whole or not at all, and known by their content."""

import hashlib
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from hldm.errors import UserError, disk_error

fences: dict[Path, Callable[[], object]] = {}
"""Folder → what has to be called before a file in it, or below, is put in place. What it raises stops that."""

SEAL = re.compile(rb"\nsha256 ([0-9a-f]{64})\n")
"""Last line of a file that says what is before it."""

SEAL_BYTES = len("\nsha256 \n") + 64

HOUR = 3600.0
"""Seconds after which a temporary file of a process elsewhere is taken for left behind: no write takes so long."""


_umask = os.umask(0)  # which can only be asked by setting it
os.umask(_umask)


def as_others_write(file: Path) -> None:
    """Let a file be read by whoever reads other files of this user: safetensors closes its own to all others."""
    file.chmod(0o666 & ~_umask)


def check_fences(path: Path) -> None:
    """Make sure that this process may still write to `path`: who has lost a folder must not touch it any more."""
    if fences:
        for folder in path.absolute().parents:
            if folder in fences:
                fences[folder]()


def write_atomically(path: Path, write: Callable[[Path], object], *, keep: Path | None = None) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk, then put it in place.

    A reader, a crash or a full disk never leaves half a file under the name `path`. When this returns, the file
    survives a loss of power too.

    Args:
        keep: where the file that was at `path` before goes. A crash may leave it there with nothing at `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{_host()}-{os.getpid()}.tmp")
    try:
        try:
            write(temporary)
            as_others_write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        except Exception as error:
            if (found := disk_error(error)) is None:
                raise
            raise OSError(found[0], os.strerror(found[0]), str(path)) from error
        check_fences(path)
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    """Write UTF-8 text as `write_atomically` does."""
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill, of which all lies at `path` at the end; nothing does where filling it fails.

    Args:
        path: nothing is there yet, or an empty folder, which stays, as another disk may be mounted there.

    Raises:
        UserError: no folder can be made there.
    """
    path = path.resolve()
    is_there = path.is_dir()
    temporary = (path if is_there else path.parent) / f".{path.name}.{_host()}-{os.getpid()}.tmp"
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{path} cannot be made: {error.strerror}. Name a folder where you may write.") from error
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                as_others_write(file)
        if is_there:
            for part in temporary.iterdir():
                part.rename(path / part.name)
        else:
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def seal(file: Path) -> None:
    """Append a line with the SHA-256 of what the file holds."""
    with file.open("rb+") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0, os.SEEK_END)
        stream.write(f"\nsha256 {digest}\n".encode())


def is_as_sealed(file: Path) -> bool | None:
    """Whether the file holds what it held when `seal` wrote its last line; None where it has no such line."""
    with file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - SEAL_BYTES))
        if not (found := SEAL.fullmatch(stream.read())):
            return None
        digest, left = hashlib.sha256(), size - SEAL_BYTES
        stream.seek(0)
        while left:
            digest.update(content := stream.read(min(left, 1 << 20)))
            left -= len(content)
    return digest.hexdigest() == found[1].decode()


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where its file system has that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_left_behind(folder: Path) -> None:
    """Remove what a process that was killed left half written in a folder. Whoever calls this writes nothing there.

    A file is left alone while its process may live: one of this machine that is there, one elsewhere for an hour.
    """
    for file in folder.glob(".*.tmp"):
        found = re.fullmatch(r"\..+\.(?:([\w-]+)-)?(\d+)\.tmp", file.name)
        with suppress(OSError):
            if found is None:
                continue
            host, pid = found[1] or _host(), int(found[2])
            if (host == _host() and not _is_another(pid)) or time.time() - file.stat().st_mtime > HOUR:
                file.unlink()


def _is_another(pid: int) -> bool:
    """Whether a process of this machine that is not this one has this number."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _host() -> str:
    """This machine, as a part of a file's name."""
    return re.sub(r"\W", "-", socket.gethostname().partition(".")[0])


def in_words(size: int) -> str:
    """Bytes as people read them."""
    amount, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount /= 1000
        units.pop(0)
    return f"{amount:.0f} B" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def content_digest(files: list[Path]) -> str:
    """A hash of what is in all of these files, wherever they lie."""
    hashes = (_sha256(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


@lru_cache
def _sha256(file: str, changed: int, size: int) -> str:
    """SHA-256 of a file, which is read once however many points of a grid use it."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
