"""Random streams that are a function of (seed, name, step), and so the same for every geometry and after every resume.

There is no generator state to save: step k of a stream is drawn from a generator that is made for it. What a geometry
draws in one step (a Riemannian posterior draws more than a normal one) can therefore never shift the next step.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Generator, Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def stream(seed: int, name: str, step: int = 0, device: torch.device | str = "cpu") -> Generator:
    """A generator for step `step` of the stream `name`; independent streams for different names, steps and seeds."""
    digest = hashlib.blake2b(f"{seed}/{name}/{step}".encode(), digest_size=8).digest()
    # 53 bits: what the state of every device's generator can hold
    return Generator(device).manual_seed(int.from_bytes(digest, "big") >> 11)


def initialised(seed: int, name: str, build: Callable[[], Module]) -> Module:
    """`build()` with initial weights that depend on (seed, name) only; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, f"init/{name}").initial_seed())
        return build()


def batch_indices(seed: int, name: str, step: int, batch_size: int, total: int) -> Tensor:
    """Shape (batch_size,): which of `total` images step `step` sees. Each epoch is one permutation of all of them.

    A batch that reaches past the end of an epoch is completed from the next one, so every image is seen equally often.
    """
    first, last = step * batch_size, (step + 1) * batch_size
    parts = []
    for epoch in range(first // total, (last - 1) // total + 1):
        parts.append(_epoch(seed, name, epoch, total)[max(first - epoch * total, 0) : last - epoch * total])
    return torch.cat(parts)


def images_used(seed: int, name: str, steps: int, batch_size: int, total: int) -> Tensor:
    """Sorted indices of the images that a stage of `steps` steps sees at least once."""
    if steps * batch_size >= total:  # an epoch has them all
        return torch.arange(total)
    return torch.cat([batch_indices(seed, name, step, batch_size, total) for step in range(steps)]).unique()


@lru_cache(maxsize=2)  # a batch may straddle two epochs
def _epoch(seed: int, name: str, epoch: int, total: int) -> Tensor:
    return torch.randperm(total, generator=stream(seed, f"{name}/order", epoch))
