"""A folder of pictures, looked through once: which can be read, what is in them, and their pixels where they are few.

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

from hldm.config.picture_files import Listing
from hldm.data.pictures import PREPROCESSING, UnreadableError, prepared
from hldm.files import write_atomically
from hldm.resources import cores
from hldm.run import stop

IN_MEMORY = 2**30
"""Bytes of all prepared images of a data set, up to which they are kept in memory, and on the disk for the next run."""

AT_ONCE = 256
"""Pictures that are handed to the threads at a time."""


@dataclass(frozen=True)
class Scan:
    """What is known of the pictures of a folder.

    Attributes:
        names: of those that can be read, in the order of the listing.
        hashes: sha256 of each file, in hexadecimal.
        damaged: name → why it cannot be read.
        images: uint8 (N, C, S, S), None where they are too many to keep.
    """

    names: list[str]
    hashes: list[str]
    damaged: dict[str, str]
    images: Tensor | None


def scan(listing: Listing, side: int, channels: int, cache: Path) -> Scan:
    """Look at all pictures of a folder, or take what an earlier run found of the same files.

    Args:
        cache: folder of what earlier runs found.
    """
    known = repr((PREPROCESSING, side, channels, listing.signature))
    path = cache / f"folder-{hashlib.sha256(known.encode()).hexdigest()[:32]}.safetensors"
    found = _loaded(path)
    if found is None:
        found = _looked_through(listing, side, channels)
        _save(path, found)
    return found


def _looked_through(listing: Listing, side: int, channels: int) -> Scan:
    """Threads, as decoders let go of Python's lock."""
    names: list[str] = []
    hashes: list[str] = []
    damaged: dict[str, str] = {}
    total = len(listing.names)
    keeps = total * channels * side**2 <= IN_MEMORY
    images = torch.empty((total, channels, side, side) if keeps else 0, dtype=torch.uint8)
    look = partial(_look, listing.root, side=side, channels=channels)
    with ThreadPoolExecutor(cores()) as threads, Progress(transient=True) as progress:
        bar = progress.add_task("    looking through the pictures", total=total)
        for start in range(0, total, AT_ONCE):
            stop.check()
            part = listing.names[start : start + AT_ONCE]
            for name, (digest, seen) in zip(part, threads.map(look, part), strict=True):
                if isinstance(seen, str):
                    damaged[name] = seen
                    continue
                if keeps:
                    images[len(names)] = torch.from_numpy(seen)
                names.append(name)
                hashes.append(digest)
            progress.update(bar, advance=len(part))
    return Scan(names, hashes, damaged, images[: len(names)] if keeps else None)


def _look(root: Path, name: str, *, side: int, channels: int) -> tuple[str, NDArray[np.uint8] | str]:
    """The hash of a file, and its pixels or why there are none."""
    try:
        content = (root / name).read_bytes()
        return hashlib.sha256(content).hexdigest(), prepared(content, side, channels)
    except (UnreadableError, OSError) as error:
        return "", str(error)


def _save(path: Path, found: Scan) -> None:
    text = json.dumps([found.names, found.hashes, found.damaged]).encode()
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
    names, hashes, damaged = json.loads(tensors["index"].numpy().tobytes())
    return Scan(names, hashes, damaged, tensors.get("images"))


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
