"""What the platform asks of a denoiser.

A denoiser sees normal coordinates, so one network serves all processes on all manifolds.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from hldm.geometry import Curvature
from hldm.nn import Condition

LabelEmbedding = Callable[[nn.Embedding], nn.Module]
"""A table of label embeddings, the last row being "no label" → the module to use in its place."""

EMBEDDED_STEPS = 1000
"""Sinusoidal embeddings of the time were made for so many discrete steps."""


def plain_table(table: nn.Embedding) -> nn.Module:
    """The table itself."""
    return table


class Denoiser(nn.Module, ABC):
    """Predicts what a process regresses on, from a noisy latent, the time, and a condition.

    A subclass is built from its section and, by keyword, `layout`, `classes`, `context_channels` and `label_embedding`,
    as `UNetDenoiser` explains them.
    """

    @property
    def curvature(self) -> Curvature | None:
        """c of the network's own hyperbolic layers, which share it; None where there are none."""
        return None

    def start(self) -> None:  # most start from what they were built with
        """Take the weights that training starts from."""

    @abstractmethod
    def forward(self, v: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Prediction shaped like v.

        Args:
            v: normal coordinates of latents, (B, *latent shape).
            t: time of each sample, (B,), in [0, 1].
            condition: labels, or hidden and mask, as the network was built for.
        """
