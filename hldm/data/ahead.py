"""Batches that other processes read while this one works."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

AHEAD = 4
"""Batches that each reading process is ahead by."""


def read_ahead(read: Callable[[Tensor], Tensor], chosen: Iterable[Tensor], readers: int) -> Iterator[Tensor]:
    """`read` of each of these indices, in their order, by `readers` processes; in page-locked memory beside a GPU.

    A process is given the indices of a whole batch and holds no state, so that any number of them gives the same. It
    leaves signals to its parent (`hldm.run.stop`), and ends with it.
    """
    loader: DataLoader[Any] = DataLoader(
        _Rows(read),
        sampler=chosen,  # each item is the indices of a whole batch
        batch_size=None,
        num_workers=readers,
        prefetch_factor=AHEAD,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else it would draw from the global one
        multiprocessing_context="fork",
    )
    yield from loader


class _Rows(Dataset[Tensor]):
    """What a reading process does: indices → images."""

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        self.read = read

    def __getitem__(self, indices: Any) -> Tensor:
        return self.read(indices)
