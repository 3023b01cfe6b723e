"""Images as bytes and as numbers: uint8 in [0, 255] ⇄ float32 in [0, 1]. Vectors are float32 and left as they are."""

from collections.abc import Iterable

import torch
from torch import Tensor


def to_unit(images: Tensor) -> Tensor:
    """uint8 → float32 in [0, 1]; other data are float32 already and left as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def to_uint8(images: Tensor) -> Tensor:
    """[0, 1] → uint8, rounded."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


def mean_image(chunks: Iterable[Tensor]) -> Tensor:
    """The mean of `to_unit` over all images, (*image shape) in float64.

    Args:
        chunks: the images, each chunk (B, *image shape), at least one of them not empty. Sums of uint8 are exact, so
            their mean does not depend on how the images are cut into chunks.
    """
    total, count, unit = torch.zeros((), dtype=torch.float64), 0, 1
    for images in chunks:
        total = total.to(images.device) + images.sum(0, dtype=torch.float64)
        count += len(images)
        unit = 255 if images.dtype == torch.uint8 else 1
    return total / count / unit
