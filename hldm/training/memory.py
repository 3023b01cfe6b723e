"""A limit on memory: a training that needs more than there is ends with a sentence instead of being killed."""

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from hldm.errors import UserError
from hldm.resources import free_memory


@contextmanager
def within_memory(stage: str, device: torch.device) -> Iterator[None]:
    """Run the block under a limit on memory: requests beyond what is free now fail, and the failure is explained.

    Linux grants memory that it does not have and kills the process that uses it. A limit makes the request itself
    fail. It is set on Linux only, and does not know of memory that other processes take later.

    Args:
        stage: name of what is trained.
        device: where; the limit is for the CPU's memory and is not set on a GPU, which refuses by itself.

    Raises:
        UserError: there is not enough memory.
    """
    free = free_memory() if device.type == "cpu" else None
    before = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        if free is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (_lower(_in_use() + free, before[0]), before[1]))
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_about_memory(error):
            raise
        wanted = re.search(r"allocate ([\d.]+ ?\w+)", str(error))
        raise UserError(
            f"{stage}: a training step does not fit in memory"
            + (f": {_readable(wanted[1])} more were asked for" if wanted else "")
            + (f", and {free / 2**30:.1f} GiB were free at its start" if free is not None else "")
            + f". Type training.microbatch=8, or less, lower training.{stage}.batch_size, or take a smaller model."
        ) from None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _in_use() -> int:
    """Bytes that count against RLIMIT_DATA."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmData:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def _lower(limit: int, other: int) -> int:
    return limit if other == resource.RLIM_INFINITY else min(limit, other)


def _is_about_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in str(error) for words in ("can't allocate memory", "bad_alloc")
    )


def _readable(amount: str) -> str:
    """ "12345678 bytes", as the CPU's allocator says, or "20.00 GiB", as CUDA's does → GiB."""
    number, unit = re.match(r"([\d.]+) ?(\w+)", amount).groups()  # type: ignore[union-attr]  # matched before
    return f"{float(number) / 2**30:.1f} GiB" if unit.startswith("b") else f"{number} {unit}"
