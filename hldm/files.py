"""Files: written whole or not at all, and known by their content."""

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

fences: dict[Path, Callable[[], object]] = {}
"""Folder → what has to be called before a file in it, or below, is put in place. What it raises stops that."""


def check_fences(path: Path) -> None:
    """Make sure that this process may still write to `path`: who has lost a folder must not touch it any more."""
    if fences:
        for folder in path.absolute().parents:
            if folder in fences:
                fences[folder]()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk, then put it in place.

    A reader, a crash or a full disk never leaves half a file under the name `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        check_fences(path)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    """Write UTF-8 text as `write_atomically` does."""
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


def content_digest(files: list[Path]) -> str:
    """A hash of what is in all of these files, wherever they lie."""
    hashes = (_sha256(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


@lru_cache
def _sha256(file: str, changed: int, size: int) -> str:
    """SHA-256 of a file, which is read once however many points of a grid use it."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
