"""What every data set looks like to the rest of the platform.

Legend: N images of C channels and H × W pixels.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in memory. Nothing is decoded, resized or copied in a training loop.

    Attributes:
        name: what tables and plots call it.
        train_images: uint8 (N, C, H, W).
        train_labels: int64 (N,), each in [0, classes).
        test_images: uint8 (M, C, H, W), never trained on: the reference of every metric.
        test_labels: int64 (M,).
        class_names: one per class, in the order of the labels.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)
