"""Files of a data set, copied to the disk of the node that reads them, once for all jobs there.

    <scratch>/hldm-data-<user>/<key>/<name>     the copy; its key is of the path, and of names, sizes and times in it
    <scratch>/hldm-data-<user>/<key>/whole      it was all there; what a site has cleared away since is copied again

The same files have the same key on every node and in every job, and one that changed has another. Sizes and times stay,
so that what was found out about the files before holds for the copy too.
"""

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hldm.run import lease, stop

VARIABLE = "HLDM_SCRATCH"
"""Holds a folder on a disk of this node, in jobs whose site names one."""

AT_ONCE = 8
"""Files that are copied at a time: over a network each waits for its answer."""


def on_this_node(path: Path) -> Path:
    """Where the files at `path` can be read fast: in their copy on this node, or at `path` itself.

    The latter outside of jobs with a scratch folder, where that has no room, and where copying fails: it is said then,
    and never decides about a run. Whoever finds another process of the node at copying waits for it.

    Raises:
        Stopped: the process was asked to stop; the next one goes on with the copy.
    """
    scratch = os.environ.get(VARIABLE)
    if not scratch:
        return path
    try:
        return _copied(path, Path(scratch) / f"hldm-data-{os.getuid()}")
    except OSError as error:
        print(
            f"    {path} is read where it is: it cannot be copied to {scratch} ({error.strerror or error})", flush=True
        )
        return path


@dataclass(frozen=True)
class _Entry:
    """A file: its name below the folder, "" where it is the whole, bytes, and nanoseconds of its last change."""

    name: str
    size: int
    changed: int

    @classmethod
    def of(cls, file: Path, name: str) -> "_Entry":
        about = file.stat()
        return cls(name, about.st_size, about.st_mtime_ns)


def _copied(path: Path, folder: Path) -> Path:
    entries = _listed(path)
    key = hashlib.sha256(repr((str(path.resolve()), entries)).encode(errors="surrogateescape")).hexdigest()[:32]
    own = folder / key
    copy, whole = own / path.name, own / "whole"
    if whole.exists() and not _lacking(copy, entries):
        return copy
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lease.held(own, say=lambda text: print(f"    {text}", flush=True), wait=lambda *_: stop.check()):
        lacking = _lacking(copy, entries)
        if whole.exists() and not lacking:
            return copy
        whole.unlink(missing_ok=True)
        size, free = sum(entry.size for entry in lacking), shutil.disk_usage(own).free
        if size > free:
            raise OSError(f"{size / 1e9:.1f} GB are needed there, and {free / 1e9:.1f} free")
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for start in range(0, len(lacking), 16 * AT_ONCE):
                stop.check()
                part = lacking[start : start + 16 * AT_ONCE]
                list(threads.map(lambda entry: _copy(path / entry.name, copy / entry.name, entry), part))
        whole.touch()
    print(f"    {path} was copied to {copy}", flush=True)
    return copy


def _listed(path: Path) -> list[_Entry]:
    """All files at or below a path, in the order of their names; links are followed."""
    if not path.is_dir():
        return [_Entry.of(path, "")]
    found: list[_Entry] = []
    seen: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(path, followlinks=True):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        files = (Path(here, name) for name in names)
        found += (_Entry.of(file, str(file.relative_to(path))) for file in files)
    return sorted(found, key=lambda entry: entry.name)


def _lacking(copy: Path, entries: list[_Entry]) -> list[_Entry]:
    """Those whose copy is not there as it was made: sites clear old files away from such disks, one by one."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        there = threads.map(lambda entry: _is_there(copy, entry), entries)
        return [entry for entry, is_there in zip(entries, there, strict=True) if not is_there]


def _is_there(copy: Path, entry: _Entry) -> bool:
    try:
        return _Entry.of(copy / entry.name, entry.name) == entry
    except FileNotFoundError:
        return False


def _copy(source: Path, target: Path, entry: _Entry) -> None:
    """Copy a file with its time, which it gets when it is whole: who finds it so leaves it as it is."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    os.utime(target, ns=(entry.changed, entry.changed))
