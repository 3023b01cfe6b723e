"""What every data set looks like to the rest of the platform, whether it fits in memory or not.

Legend: N images of C channels and H × W pixels, uint8 (N, C, H, W), or N vectors of D numbers, float32 (N, D), which
are called images as well. An image shape is (C, H, W) or (D,).
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from hldm.data import trees
from hldm.data.ahead import read_ahead

NUMBERS_AT_ONCE = 2**26
"""Numbers in the images that are read at once where a whole split is gone through: 64 MiB of pixels."""


class Split(ABC):
    """Labelled images that are read by their indices.

    Which images a step sees is decided by whoever reads. So a split that streams from a disk and one in memory give the
    same run, if `read` gives the same bytes.

    Attributes:
        readers: processes that read ahead in `batches`; 0: each batch is read when it is asked for.
        labels: int64 (N,) on the CPU, each in [0, classes): what conditioning and metrics take for the class.
    """

    labels: Tensor
    readers: int = 0

    @cached_property
    def nodes(self) -> Tensor:
        """Each image's node of the known tree, int64 (N,) in [0, nodes): as fine as the tree is, wherever the labels
        stand in it. The labels themselves where there is no tree."""
        return self.labels

    @cached_property
    def groups(self) -> Tensor:
        """Images that depend on each other have one number, int64 (N,): siblings of a node, drawings by one hand.

        What is resampled, or permuted, goes by whole groups. Each image is a group of its own where nothing is known.
        """
        return torch.arange(len(self))

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def read(self, indices: Tensor) -> Tensor:
        """The images at `indices`, int64 (B,) in any order: a new tensor, uint8 (B, C, H, W) or float32 (B, D)."""

    def read_into(self, indices: Tensor, images: Tensor) -> None:
        """`read`, into a tensor like the one that it makes."""
        images.copy_(self.read(indices))

    def batches(self, chosen: Iterable[Tensor]) -> Iterator[Tensor]:
        """What `read` gives for each of these indices, in their order. Where there are `readers`, they read ahead."""
        if not self.readers:
            return map(self.read, chosen)
        return read_ahead(self.read_into, self.first(1)[0], chosen, self.readers)

    @property
    def plain(self) -> "Split":
        """The split without mirrored images."""
        return self

    def to(self, device: torch.device) -> "Split":
        """A split whose `read` gives images on `device`, where it can hold them all there; else this split as it is."""
        return self

    def first(self, n: int | None = None) -> Tensor:
        """The first n images, or all of them where there are fewer or no n is given: (n, *image shape)."""
        return self.read(torch.arange(len(self) if n is None else min(n, len(self))))

    def whole(self) -> "Tensor | Split":
        """All images where they are in memory; else the split, whose images are read a batch at a time."""
        return self

    def chunks(self, most: int | None = None) -> Iterator[Tensor]:
        """All images in order, or the first `most`, each (B, *image shape) with up to `NUMBERS_AT_ONCE`, none empty."""
        total = len(self) if most is None else min(most, len(self))
        if not total:
            return
        numbers = math.prod(self.first(1).shape)
        yield from self.batches(torch.arange(total).split(max(1, NUMBERS_AT_ONCE // numbers)))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over labels, images and nodes in their order, in hexadecimal: one for equal content, however stored.

        Reads every image once. A source that has such a hash beside its files may override this.
        """
        digest = hashlib.sha256(self.labels.numpy().tobytes())
        if not torch.equal(self.nodes, self.labels):
            digest.update(self.nodes.numpy().tobytes())
        for images in self.chunks():
            digest.update(images.cpu().numpy().tobytes())
        return digest.hexdigest()


@final
class InMemorySplit(Split):
    """A split whose images are one tensor. Nothing is decoded, resized or copied in a training loop.

    Args:
        images: uint8 (N, C, H, W), or float32 (N, D), on any device.
        labels: int64 (N,).
        nodes: int64 (N,), see `Split.nodes`; None: the labels.
        groups: int64 (N,), see `Split.groups`; None: each image on its own.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, nodes: Tensor | None = None, groups: Tensor | None = None
    ) -> None:
        self.images = images
        self.labels = labels
        self.nodes = labels if nodes is None else nodes
        self.groups = torch.arange(len(labels)) if groups is None else groups

    def read(self, indices: Tensor) -> Tensor:
        return self.images[indices.to(self.images.device)]

    def whole(self) -> Tensor:
        return self.images

    def to(self, device: torch.device) -> "InMemorySplit":
        return InMemorySplit(self.images.to(device), self.labels, self.nodes, self.groups)


@final
@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits of labelled images, and what is known of their classes.

    Attributes:
        name: what tables and plots call it.
        image_shape: (C, H, W) of a picture, or (D,) of a vector.
        class_names: one per class, in the order of the labels.
        train: what is trained on.
        validation: what settings are chosen on, disjoint from the other two; it may be empty.
        test: never trained on and never chosen on, the reference of every metric.
        class_words: what captions call each class, `class_names` by default.
        parents: where the images are nodes of a known tree, int64 (nodes,): the node above each one, the root's being
            itself. The labels are a level of that tree, or its nodes; `Split.nodes` says each image's node.
        held_against: what samples are held against where the test images are too few: the first images of the training
            split, as they are; None: the test images.
        classes_repeat: whether each class of the test images has training images too; captions may have none.
    """

    name: str
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    class_words: tuple[str, ...] = ()
    parents: Tensor | None = None
    held_against: Split | None = None
    classes_repeat: bool = True

    def __post_init__(self) -> None:
        if not self.class_words:
            object.__setattr__(self, "class_words", self.class_names)

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def reference(self) -> Split:
        """The real images that samples are held against."""
        return self.test if self.held_against is None else self.held_against

    @property
    def for_floor(self) -> Tensor:
        """Training images, as they are, that samples are not held against: indices into `train.plain`, int64."""
        return torch.arange(0 if self.held_against is None else len(self.held_against), len(self.train.plain))

    @property
    def reference_words(self) -> str:
        """What they are, for provenance."""
        part = "test" if self.held_against is None else "training"
        return f"{self.name} {part} images ({len(self.reference)})"

    @property
    def has_pictures(self) -> bool:
        """Whether an image is a picture rather than a vector."""
        return len(self.image_shape) == 3

    @property
    def depths(self) -> Tensor | None:
        """How far each node is below the root, int64 (nodes,); None where there is no tree."""
        return None if self.parents is None else trees.depths(self.parents)

    def ancestors(self, level: int) -> Tensor:
        """The node at depth `level` that each node is or lies below, int64 (nodes,); one above that level is its own.

        So `dataset.ancestors(1)[split.nodes]` are the images' branches below the root.
        """
        assert self.parents is not None
        return trees.ancestors(self.parents, level)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the splits' content, the image shape, the classes and their tree, in hexadecimal.

        It does not depend on the name, on where the files lie or on how they are packed.
        """
        parents = None if self.parents is None else self.parents.tolist()
        splits = [split.fingerprint for split in (self.train, self.validation, self.test)]
        known = (self.image_shape, self.class_names, self.class_words, parents, splits)
        return hashlib.sha256(repr(known).encode()).hexdigest()
