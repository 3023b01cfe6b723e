"""Flat space R^C: points are their own normal coordinates."""

import torch
from torch import Tensor

from hldm.geometry import means
from hldm.geometry.manifold import Leaf
from hldm.geometry.ops import promote


class Euclidean(Leaf):
    """R^C with metric |dz|². The chart is the identity.

    Args:
        channels: C ≥ 0; 0 is a point, the empty factor of a product.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels, self.balls = channels, 1

    @property
    def c(self) -> float:
        return 0.0

    @property
    def is_flat(self) -> bool:
        return True

    def like(self, channels: int, balls: int = 1) -> "Euclidean":
        return Euclidean(channels)

    def from_tangent(self, v: Tensor, dim: int = -1) -> Tensor:
        return promote(v)

    def to_tangent(self, z: Tensor, dim: int = -1) -> Tensor:
        return promote(z)

    def add_normal(self, m: Tensor, w: Tensor, dim: int = -1) -> Tensor:
        return promote(m) + promote(w)

    def expmap(self, x: Tensor, u: Tensor, dim: int = -1) -> Tensor:
        return promote(x) + promote(u)

    def logmap(self, x: Tensor, y: Tensor, dim: int = -1) -> Tensor:
        return promote(y) - promote(x)

    def transport(self, x: Tensor, y: Tensor, u: Tensor, dim: int = -1) -> Tensor:
        return promote(u)

    def normal_velocity(self, x: Tensor, y: Tensor, u: Tensor, dim: int = -1) -> Tensor:
        return promote(u)

    def inner(self, x: Tensor, u: Tensor, w: Tensor, dim: int = -1) -> Tensor:
        return (promote(u) * promote(w)).sum(dim)

    def to_frame(self, x: Tensor, u: Tensor, dim: int = -1) -> Tensor:
        return promote(u)

    def from_frame(self, x: Tensor, w: Tensor, dim: int = -1) -> Tensor:
        return promote(w)

    def sqdist(self, x: Tensor, y: Tensor, dim: int = -1) -> Tensor:
        return (promote(x) - promote(y)).square().sum(dim)

    def pairwise_sqdist(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cdist(promote(x), promote(y), compute_mode="donot_use_mm_for_euclid_dist").square()

    def geodesic(self, x0: Tensor, x1: Tensor, t: Tensor, dim: int = -1) -> tuple[Tensor, Tensor]:
        u = promote(x1) - promote(x0)
        return promote(x0) + t * u, u

    def log_volume(self, v: Tensor, dim: int = -1) -> Tensor:
        return torch.zeros_like(promote(v).sum(dim))

    def saturation(self, z: Tensor, dim: int = -1) -> Tensor:
        return promote(z).new_zeros(())

    def rescaled(self, s: Tensor | float) -> "Euclidean":
        return Euclidean(self.channels)

    def curvatures(self) -> Tensor:
        return torch.zeros(1, dtype=torch.float64)

    def midpoint(self, v: Tensor, weights: Tensor) -> Tensor:
        return means.midpoint(v, weights, 0.0)

    def frechet_mean(self, v: Tensor, weights: Tensor) -> Tensor:
        return means.frechet_mean(v, weights, 0.0)

    def extra_repr(self) -> str:
        return f"channels={self.channels}"
