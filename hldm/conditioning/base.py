"""What every kind of conditioning has to offer, and how guidance uses it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from hldm.geometry import Curvature
from hldm.nn import Condition

Subjects = Tensor | list[str]
"""What to draw, one entry per sample: labels int64 (B,), or prompts where the model reads text."""


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance (Ho & Salimans 2022) towards a condition y.

        f = f(x, ∅) + s·(f(x, y) − f(x, ∅))

    Both predictions are tangent vectors at one point, in the same orthonormal frame, so the combination is one too.

    Attributes:
        condition: y.
        unconditional: ∅.
        scale: s ≥ 0; 1 follows the conditional prediction alone, at half the cost.
    """

    condition: Condition
    unconditional: Condition
    scale: float

    def __call__(self, predict: Callable[[Condition], Tensor]) -> Tensor:
        """The prediction that the sampler follows; `predict` is the network at one (x, t)."""
        conditional = predict(self.condition)
        if self.scale == 1:
            return conditional
        return torch.lerp(predict(self.unconditional), conditional, self.scale)


class Conditioning(nn.Module, ABC):
    """Labels or prompts → what the denoiser is given. Its parameters are trained with those of the denoiser."""

    uses_labels: bool
    """Whether what is asked for changes what is drawn."""

    context_channels: int | None = None
    """D of `Condition.hidden`, None where the denoiser is given labels."""

    curvature: Curvature | None
    """The curvature of the balls that embeddings lie on; None where embeddings are vectors."""

    template: str | None = None
    """The caption that stands for a label in evaluation, with {} for the class; None where labels need none."""

    def label_embedding(self, table: nn.Embedding) -> nn.Module:
        """What a denoiser has in place of its table of label embeddings, one row per class and one for "no label"."""
        return table

    @abstractmethod
    def for_training(self, labels: Tensor, generator: Generator) -> Condition:
        """Labels (B,) → the conditions of one training batch, some of them dropped."""

    @abstractmethod
    def for_sampling(self, subjects: Subjects) -> Guidance:
        """What the sampler follows, the same at all of its steps."""
