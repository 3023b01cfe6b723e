"""Splits whose images are decoded when they are read, and splits that are seen in the mirror too.

Legend: N rows of a split, each an entry of a source; images uint8 (C, S, S).
"""

import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hldm.data.dataset import Split
from hldm.data.pictures import PREPROCESSING, UnreadableError, prepared


class Source(ABC):
    """Files of pictures by number. It is copied into the processes that read, so what it has open it opens there."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def content(self, entry: int) -> bytes:
        """The file.

        Raises:
            OSError: it cannot be read.
        """

    @abstractmethod
    def name(self, entry: int) -> str:
        """What messages call it."""


@final
class StreamedSplit(Split):
    """A split that reads and decodes its images whenever they are asked for. Memory does not grow with N.

    A picture that can no longer be read, though it could when the data were looked through, is replaced by the next one
    of its class that can, and named: a run of days does not end by it. Where its class has no other, as classes that
    are captions have not, it is the next one of the split.

    Args:
        source: where the files are.
        entries: int64 (N,), of the source, in the order of the split.
        labels: int64 (N,).
        side: S; channels: C.
        content: a hash over the files of all rows in their order, for the fingerprint.
        readers: see `Split`.
        nodes: int64 (N,), see `Split.nodes`; None: the labels.
    """

    def __init__(
        self,
        source: Source,
        entries: NDArray[np.int64],
        labels: Tensor,
        *,
        side: int,
        channels: int,
        content: str,
        readers: int = 0,
        nodes: Tensor | None = None,
    ) -> None:
        self.source, self.entries, self.labels = source, entries, labels
        self.side, self.channels, self.readers = side, channels, readers
        self.nodes = labels if nodes is None else nodes
        self._content = content
        self._said: set[int] = set()

    @property
    def fingerprint(self) -> str:
        """sha256 over labels, nodes, files and what becomes of their pixels. No image is read for it."""
        return _fingerprint(self.labels, self.nodes, self._content, self.side, self.channels)

    def read(self, indices: Tensor) -> Tensor:
        images = torch.empty(len(indices), self.channels, self.side, self.side, dtype=torch.uint8)
        self.read_into(indices, images)
        return images

    def read_into(self, indices: Tensor, images: Tensor) -> None:
        pixels = images.numpy()
        for place, index in enumerate(indices.tolist()):
            pixels[place] = self._readable(index)

    def _readable(self, index: int) -> NDArray[np.uint8]:
        for further in self._instead(index):
            entry = int(self.entries[further])
            try:
                return prepared(self.source.content(entry), self.side, self.channels)
            except (UnreadableError, OSError) as error:
                if entry not in self._said:
                    self._said.add(entry)
                    print(f"    {self.source.name(entry)} cannot be read ({error}): the next one of its class stands "
                          "for it, or of any where that has no other", file=sys.stderr, flush=True)  # fmt: skip
        raise OSError(f"none of the {len(self)} pictures can be read, such as {self.source.name(entry)}")

    def _instead(self, index: int) -> Iterator[int]:
        """The picture itself, then the others of its class from there on, then those of the other classes."""
        yield index
        same = (self.labels == self.labels[index]).roll(-index - 1).numpy()  # looked at only where it is needed
        for own in (True, False):
            yield from ((np.flatnonzero(same == own) + index + 1) % len(self)).tolist()


def _fingerprint(*known: Any) -> str:
    digest = hashlib.sha256(PREPROCESSING.encode())
    for part in known:
        digest.update(part.numpy().tobytes() if isinstance(part, Tensor) else repr(part).encode())
    return digest.hexdigest()


@final
class MirroredSplit(Split):
    """A split, and after its N images the same N in the mirror: 2 N to train on.

    An epoch sees each image once either way, so flips are addressed as everything else is by (seed, stage, step), and
    whatever keeps latents of all images keeps those of mirrored ones with them.
    """

    def __init__(self, plain: Split) -> None:
        self._plain, self.readers = plain, plain.readers
        self.labels = plain.labels.repeat(2)
        self.nodes = self.labels if plain.nodes is plain.labels else plain.nodes.repeat(2)
        self.groups = plain.groups.repeat(2)

    @property
    def plain(self) -> Split:
        return self._plain

    @property
    def fingerprint(self) -> str:
        return f"mirrored {self.plain.fingerprint}"

    def read(self, indices: Tensor) -> Tensor:
        images = self.plain.read(indices % len(self.plain))  # nobody else's
        self._turn(indices, images)
        return images

    def read_into(self, indices: Tensor, images: Tensor) -> None:
        self.plain.read_into(indices % len(self.plain), images)
        self._turn(indices, images)

    def _turn(self, indices: Tensor, images: Tensor) -> None:
        turned = (indices >= len(self.plain)).to(images.device)
        images[turned] = images[turned].flip(-1)

    def to(self, device: torch.device) -> Split:
        return MirroredSplit(self.plain.to(device))
