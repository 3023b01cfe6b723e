"""What every data set looks like to the rest of the platform.

Legend: N images of C channels and H × W pixels, or N vectors of D numbers, which are called images as well.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in memory. Nothing is decoded, resized or copied in a training loop.

    Attributes:
        name: what tables and plots call it.
        train_images: uint8 (N, C, H, W), or float32 (N, D).
        train_labels: int64 (N,), each in [0, classes).
        test_images: likewise (M, …), never trained on: the reference of every metric.
        test_labels: int64 (M,).
        class_names: one per class, in the order of the labels.
        class_words: what captions call each class, `class_names` by default.
        parents: where the classes form a tree, int64 (classes,): the class above each one, the root's being itself.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]
    parents: Tensor | None = None
    class_words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.class_words:
            object.__setattr__(self, "class_words", self.class_names)

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def has_pictures(self) -> bool:
        """Whether a row is a picture rather than a vector."""
        return self.train_images.ndim == 4

    @property
    def depths(self) -> Tensor | None:
        """How far each class is below the root, int64 (classes,)."""
        if self.parents is None:
            return None
        above, depths = self.parents, torch.zeros_like(self.parents)
        at = torch.arange(self.classes)
        while not torch.equal(at, above[at]):
            depths += at != above[at]
            at = above[at]
        return depths
