"""Files of pictures, looked through once: which can be read, what is in them, and their pixels where they are few.

Legend: N pictures of C channels and S × S pixels.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hldm.data.dataset import InMemorySplit, Split
from hldm.data.pictures import PREPROCESSING, UnreadableError, prepared
from hldm.data.streamed import Source, StreamedSplit
from hldm.files import write_atomically
from hldm.resources import cores
from hldm.run import stop

IN_MEMORY = 2**30
"""Bytes of all prepared images of a data set, up to which they are kept in memory, and on the disk for the next run."""

AT_ONCE = 256
"""Pictures that are handed to the threads at a time."""


@dataclass(frozen=True)
class Scan:
    """What is known of the pictures of a source.

    Attributes:
        entries: of those that can be read, in the order of the source.
        hashes: sha256 of each of these files, in hexadecimal.
        damaged: name → why it cannot be read.
        images: uint8 (N, C, S, S), None where they are too many to keep.
    """

    entries: list[int]
    hashes: list[str]
    damaged: dict[str, str]
    images: Tensor | None


def scan(source: Source, signature: str, side: int, channels: int, cache: Path) -> Scan:
    """Look at all pictures of a source, or take what an earlier run found of the same files.

    Args:
        signature: another one where any of the files is another.
        cache: folder of what earlier runs found.
    """
    known = repr((PREPROCESSING, side, channels, signature))
    path = cache / f"pictures-{hashlib.sha256(known.encode()).hexdigest()[:32]}.safetensors"
    found = _loaded(path)
    if found is None:
        found = _looked_through(source, side, channels)
        _save(path, found)
    if found.damaged:
        print("\n".join(f"    {line}" for line in summary(found.damaged)), flush=True)
    return found


def _looked_through(source: Source, side: int, channels: int) -> Scan:
    """Threads, as decoders let go of Python's lock."""
    entries: list[int] = []
    hashes: list[str] = []
    damaged: dict[str, str] = {}
    total = len(source)
    keeps = total * channels * side**2 <= IN_MEMORY
    images = torch.empty((total, channels, side, side) if keeps else 0, dtype=torch.uint8)
    look = partial(_look, source, side=side, channels=channels)
    with ThreadPoolExecutor(cores()) as threads, Progress(transient=True) as progress:
        bar = progress.add_task("    looking through the pictures", total=total)
        for start in range(0, total, AT_ONCE):
            stop.check()
            part = range(start, min(start + AT_ONCE, total))
            for entry, (digest, seen) in zip(part, threads.map(look, part), strict=True):
                if isinstance(seen, str):
                    damaged[source.name(entry)] = seen
                    continue
                if keeps:
                    images[len(entries)] = torch.from_numpy(seen)
                entries.append(entry)
                hashes.append(digest)
            progress.update(bar, advance=len(part))
    return Scan(entries, hashes, damaged, images[: len(entries)] if keeps else None)


def _look(source: Source, entry: int, *, side: int, channels: int) -> tuple[str, NDArray[np.uint8] | str]:
    """The hash of a file, and its pixels or why there are none."""
    try:
        content = source.content(entry)
        return hashlib.sha256(content).hexdigest(), prepared(content, side, channels)
    except (UnreadableError, OSError) as error:
        return "", str(error)


def split_of(
    found: Scan,
    source: Source,
    rows: list[int],
    labels: list[int],
    *,
    side: int,
    channels: int,
    readers: int,
) -> Split:
    """A part of what was found: in memory where the pixels were kept, else streamed.

    Args:
        rows: of `found`; labels: of each of these rows.
    """
    of_rows = torch.tensor(labels, dtype=torch.long)
    if found.images is not None:
        return InMemorySplit(found.images[torch.tensor(rows, dtype=torch.long)], of_rows)
    content = hashlib.sha256("".join(found.hashes[row] for row in rows).encode()).hexdigest()
    entries = np.array([found.entries[row] for row in rows], dtype=np.int64)
    return StreamedSplit(source, entries, of_rows, side=side, channels=channels, content=content, readers=readers)


def _save(path: Path, found: Scan) -> None:
    text = json.dumps([found.entries, found.hashes, found.damaged]).encode()
    tensors = {"index": torch.frombuffer(bytearray(text), dtype=torch.uint8)}
    if found.images is not None:
        tensors["images"] = found.images.contiguous()
    metadata = {"sha256": _digest(tensors)}
    write_atomically(path, lambda file: save_file(tensors, file, metadata=metadata))


def _loaded(path: Path) -> Scan | None:
    """What `_save` wrote; None where it is not there, or damaged: then it is made anew."""
    try:
        with safe_open(path, framework="pt") as file:
            stated = (file.metadata() or {}).get("sha256")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError):
        return None
    if stated != _digest(tensors):
        return None
    entries, hashes, damaged = json.loads(tensors["index"].numpy().tobytes())
    return Scan(entries, hashes, damaged, tensors.get("images"))


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


def summary(damaged: dict[str, str], shown: int = 5) -> Iterator[str]:
    """Lines that count the damaged files and name the first of them."""
    yield f"{len(damaged)} of the files cannot be read and are left out:"
    yield from (f"  {name}: {reason}" for name, reason in list(damaged.items())[:shown])
    if len(damaged) > shown:
        yield f"  and {len(damaged) - shown} more"
