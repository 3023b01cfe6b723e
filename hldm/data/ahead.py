"""Batches that other processes read while this one works."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, cycle
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hldm.errors import UserError
from hldm.files import in_words

Read = Callable[[Tensor, Tensor], None]

AHEAD = 4
"""Batches, or pieces of them, that each reading process is ahead by, at most."""

SHARED = 3 * 2**23
"""Bytes of memory that is shared with them: Docker's containers have 64 MB, and two splits may be read at a time."""


def read_ahead(read: Read, example: Tensor, chosen: Iterable[Tensor], readers: int) -> Iterator[Tensor]:
    """The images of each of these indices, in their order, by `readers` processes; in page-locked memory beside a GPU.

    A process is given the indices of a batch, or of a piece of a large one, and holds no state, so that any number of
    them gives the same. It reads into memory that is shared with its parent, where pieces take turns: new memory for
    each would cost as much as a third of decoding. It leaves signals to its parent (`hldm.run.stop`), and ends with it.

    Args:
        read: given int64 (B,) and a tensor, it reads the images of these indices into the tensor; of each image the
            same, whatever others it is read with.
        example: an image.
        chosen: int64 (B,) each.

    Raises:
        UserError: there is no such memory here.
    """
    chosen = iter(chosen)
    first = next(chosen, None)
    if first is None:
        return
    places, ahead = _shared(example, len(first), readers)
    lengths: deque[int] = deque()

    def pieces() -> Iterator[NDArray[np.int64]]:
        """In numpy's arrays: a tensor would be sent as a file in shared memory."""
        for indices in chain([first], chosen):
            lengths.append(len(indices))
            yield from (piece.numpy() for piece in indices.split(places.shape[1]))

    loader: DataLoader[Any] = DataLoader(
        _Rows(read, places),
        sampler=zip(cycle(range(len(places))), pieces()),
        batch_size=None,
        num_workers=readers,
        prefetch_factor=ahead,
        generator=torch.Generator(),  # else it would draw from the global one
        multiprocessing_context="fork",
    )
    pinned = torch.cuda.is_available()
    images, done = places.new_empty(0), 0
    for place, length in loader:
        if not done:
            images = torch.empty(lengths.popleft(), *places.shape[2:], dtype=torch.uint8, pin_memory=pinned)
        images[done : done + length] = places[place, :length]
        done += length
        if done == len(images):
            yield images
            done = 0


def _shared(image: Tensor, batch: int, readers: int) -> tuple[Tensor, int]:
    """Shared memory for pieces of batches, uint8 (places, rows, *image shape), and how many a reader is ahead by.

    There is one place more than pieces can be under way or waiting, as the one that is taken out is copied before the
    next is asked for.
    """
    ahead = next((n for n in range(AHEAD, 1, -1) if (readers * n + 2) * image.numel() <= SHARED), 1)
    count = readers * ahead + 2
    rows = max(1, min(batch, SHARED // (count * image.numel())))
    places = torch.empty(count, rows, *image.shape, dtype=torch.uint8)
    try:
        places.share_memory_()
    except (RuntimeError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"hardware.readers={readers}: processes that read ahead share {in_words(places.numel())} of memory with "
            f"the run, which is not to be had here ({reason}). Type hardware.readers=0, or give the container more of "
            "it: docker run --shm-size=1g."
        ) from None
    return places, ahead


class _Rows(Dataset[tuple[int, int]]):
    """What a reading process does: a place and indices → the same place, where the images are, and their number."""

    def __init__(self, read: Read, places: Tensor) -> None:
        self.read, self.places = read, places

    def __getitem__(self, item: Any) -> tuple[int, int]:
        place, indices = item
        self.read(torch.from_numpy(indices), self.places[place, : len(indices)])
        return place, len(indices)
