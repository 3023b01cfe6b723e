"""Distances to learned points."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hldm.geometry import Manifold
from hldm.geometry.ops import safe_sqrt


class DistanceLayer(nn.Module):
    """Distances d(z, p_k) to K learned points, as features or as negative logits of a prototype classifier.

    As c → 0 they are |v − p_k|.

    Args:
        manifold: of the inputs.
        out_channels: K.
        dim: axis of the coordinates in the input, and of the distances in the output.
        scale: standard deviation of the initial points' normal coordinates, > 0.
    """

    def __init__(self, manifold: Manifold, out_channels: int, dim: int = -1, scale: float = 1.0) -> None:
        super().__init__()
        self.manifold, self.dim = manifold, dim
        self.points = nn.Parameter(scale * torch.randn(out_channels, manifold.channels))

    def forward(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """(*, C, …) normal coordinates → (*, K, …)."""
        x = v.movedim(self.dim, -1)
        z = self.manifold.from_tangent(x.flatten(0, -2))
        distances = safe_sqrt(self.manifold.pairwise_sqdist(z, self.manifold.from_tangent(self.points)))
        return distances.unflatten(0, x.shape[:-1]).movedim(-1, self.dim)
