"""Batches that other processes read while this one works."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, cycle
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

AHEAD = 4
"""Batches that each reading process is ahead by."""


def read_ahead(read: Callable[[Tensor], Tensor], chosen: Iterable[Tensor], readers: int) -> Iterator[Tensor]:
    """`read` of each of these indices, in their order, by `readers` processes; in page-locked memory beside a GPU.

    A process is given the indices of a whole batch and holds no state, so that any number of them gives the same. It
    writes into memory that is shared with its parent, where batches take turns: new memory for each would cost as much
    as a third of decoding. It leaves signals to its parent (`hldm.run.stop`), and ends with it.

    Args:
        chosen: int64 (B,) each, none longer than the first.
    """
    chosen = iter(chosen)
    first = next(chosen, None)
    if first is None:
        return
    # one more than can be under way or waiting, as the one that is taken out is copied before the next is asked for
    places = torch.empty(readers * AHEAD + 2, *read(first[:1]).expand(len(first), *(-1,) * 3).shape, dtype=torch.uint8)
    places.share_memory_()
    loader: DataLoader[Any] = DataLoader(
        _Rows(read, places),
        sampler=zip(cycle(range(len(places))), chain([first], chosen)),
        batch_size=None,
        num_workers=readers,
        prefetch_factor=AHEAD,
        generator=torch.Generator(),  # else it would draw from the global one
        multiprocessing_context="fork",
    )
    pinned = torch.cuda.is_available()
    for place, length in loader:
        images = places[place, :length]
        yield torch.empty_like(images, pin_memory=pinned).copy_(images)


class _Rows(Dataset[tuple[int, int]]):
    """What a reading process does: a place and indices → the same place, where the images are, and their number."""

    def __init__(self, read: Callable[[Tensor], Tensor], places: Tensor) -> None:
        self.read, self.places = read, places

    def __getitem__(self, item: Any) -> tuple[int, int]:
        place, indices = item
        self.places[place, : len(indices)] = self.read(indices)
        return place, len(indices)
