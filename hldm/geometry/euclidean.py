"""Flat space R^C: points are their own normal coordinates."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from hldm.geometry import means
from hldm.geometry.manifold import Leaf
from hldm.geometry.ops import pairwise_steps, promote
from hldm.geometry.shapes import Number, Operand, Whole


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

    def from_tangent(self, v: Operand, dim: int = -1) -> Whole:
        return promote(v)

    def to_tangent(self, z: Operand, dim: int = -1) -> Whole:
        return promote(z)

    def add_normal(self, m: Operand, w: Operand, dim: int = -1) -> Whole:
        return promote(m) + promote(w)

    def expmap(self, x: Operand, u: Operand, dim: int = -1) -> Whole:
        return promote(x) + promote(u)

    def logmap(self, x: Operand, y: Operand, dim: int = -1) -> Whole:
        return promote(y) - promote(x)

    def transport(self, x: Operand, y: Operand, u: Operand, dim: int = -1) -> Whole:
        return promote(u)

    def normal_velocity(self, x: Operand, y: Operand, u: Operand, dim: int = -1) -> Whole:
        return promote(u)

    def inner(self, x: Operand, u: Operand, w: Operand, dim: int = -1) -> Tensor:
        return (promote(u) * promote(w)).sum(dim)

    def to_frame(self, x: Operand, u: Operand, dim: int = -1) -> Whole:
        return promote(u)

    def from_frame(self, x: Operand, w: Operand, dim: int = -1) -> Whole:
        return promote(w)

    def sqdist(self, x: Operand, y: Operand, dim: int = -1) -> Tensor:
        return (promote(x) - promote(y)).square().sum(dim)

    def pairwise_sqdist(self, x: Float[Tensor, "N C"], y: Float[Tensor, "M C"]) -> Float[Tensor, "N M"]:
        return pairwise_steps(promote(x), promote(y)).square()

    def geodesic(self, x0: Operand, x1: Operand, t: Operand, dim: int = -1) -> tuple[Whole, Whole]:
        u = promote(x1) - promote(x0)
        return promote(x0) + t * u, u

    def log_volume(self, v: Operand, dim: int = -1) -> Tensor:
        return torch.zeros_like(promote(v).sum(dim))

    def saturation(self, z: Operand, dim: int = -1) -> Number:
        return promote(z).new_zeros(())

    def rescaled(self, s: Tensor | float) -> "Euclidean":
        return Euclidean(self.channels)

    def curvatures(self) -> Float64[Tensor, " factors"]:
        return torch.zeros(1, dtype=torch.float64)

    def midpoint(self, v: Float[Tensor, "*#B N C"], weights: Float[Tensor, "*#B M N"]) -> Float[Tensor, "*B M C"]:
        return means.midpoint(v, weights, 0.0)

    def frechet_mean(self, v: Float[Tensor, "*#B N C"], weights: Float[Tensor, "*#B N"]) -> Float[Tensor, "*B C"]:
        return means.frechet_mean(v, weights, 0.0)

    def extra_repr(self) -> str:
        return f"channels={self.channels}"
