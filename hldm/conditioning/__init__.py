"""What steers the denoiser: nothing, or a class label."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Generator, Tensor


class Conditioning(ABC):
    """Turns labels (B,) int64 into what the denoiser is given, in training and in sampling.

    The denoiser's last embedding, with the index `classes`, stands for "no label".
    """

    uses_labels: bool
    """Whether a label changes what is drawn."""

    @abstractmethod
    def for_training(self, labels: Tensor, classes: int, generator: Generator) -> Tensor:
        """Labels (B,) → embedding indices (B,) of one training batch."""

    @abstractmethod
    def guide(self, predict: Callable[[Tensor], Tensor], labels: Tensor, classes: int) -> Tensor:
        """The prediction that the sampler follows; `predict` takes embedding indices (B,)."""


class Unconditional(Conditioning):
    """No labels: what is drawn is whatever the model draws."""

    uses_labels = False

    def for_training(self, labels: Tensor, classes: int, generator: Generator) -> Tensor:
        return torch.full_like(labels, classes)

    def guide(self, predict: Callable[[Tensor], Tensor], labels: Tensor, classes: int) -> Tensor:
        return predict(torch.full_like(labels, classes))


class ClassConditioning(Conditioning):
    """Class labels with classifier-free guidance (Ho & Salimans 2022).

        f = f(x, ∅) + s·(f(x, y) − f(x, ∅))

    Both predictions are tangent vectors at one point, in the same orthonormal frame, so the combination is one too.

    Args:
        dropout: share of the training labels that are replaced by "no label", in [0, 1].
        guidance_scale: s ≥ 0; 1 follows the conditional prediction alone, at half the cost.
    """

    uses_labels = True

    def __init__(self, dropout: float, guidance_scale: float) -> None:
        self.dropout = dropout
        self.guidance_scale = guidance_scale

    def for_training(self, labels: Tensor, classes: int, generator: Generator) -> Tensor:
        dropped = torch.rand(labels.shape, generator=generator, device=labels.device) < self.dropout
        return torch.where(dropped, classes, labels)

    def guide(self, predict: Callable[[Tensor], Tensor], labels: Tensor, classes: int) -> Tensor:
        conditional = predict(labels)
        if self.guidance_scale == 1:
            return conditional
        unconditional = predict(torch.full_like(labels, classes))
        return torch.lerp(unconditional, conditional, self.guidance_scale)
