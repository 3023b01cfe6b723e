"""Pixels as data sets store them (uint8) and as networks see them ([0, 1])."""

import torch
from torch import Tensor


def to_unit(images: Tensor) -> Tensor:
    """uint8 → float32 in [0, 1]; other data are float32 already and left as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def mean_image(images: Tensor) -> Tensor:
    """The mean of `to_unit(images)`, (*image shape) in float64."""
    mean = images.sum(0, dtype=torch.float64) / len(images)
    return mean / 255 if images.dtype == torch.uint8 else mean


def to_uint8(images: Tensor) -> Tensor:
    """[0, 1] → uint8, rounded."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)
