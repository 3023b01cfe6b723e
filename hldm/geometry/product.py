"""Products of manifolds: the channels are split among the factors."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from hldm.geometry.manifold import Leaf, Manifold
from hldm.geometry.shapes import Number, Operand, Whole


class ProductManifold(Manifold):
    """M₁ × M₂ × …, for example R^a × B^b; squared distances, inner products and log volumes add up over the factors.

    Args:
        factors: the manifolds, in the order of their channels. A factor with 0 channels changes nothing, bit for bit.
    """

    def __init__(self, factors: Sequence[Manifold]) -> None:
        super().__init__()
        self.factors = nn.ModuleList(factors)
        self.channels = sum(f.channels for f in factors)
        if not self.channels:
            raise ValueError(
                f"A product of {len(factors)} factors without any channel: at least one must have channels."
            )

    def _present(self) -> list[Manifold]:
        return [f for f in self.direct_factors() if f.channels]

    def split(self, x: Operand, dim: int = -1) -> tuple[Tensor, ...]:
        """The coordinates of every factor that has channels."""
        return x.split([f.channels for f in self._present()], dim)

    def _pieces(self, dim: int, tensors: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
        return list(zip(*(self.split(x, dim) for x in tensors), strict=True))

    def _map(self, op: Callable[..., Tensor], dim: int, *tensors: Tensor) -> Tensor:
        """op(factor, *pieces) for every factor, joined along the channels."""
        return torch.cat([op(f, *p) for f, p in zip(self._present(), self._pieces(dim, tensors), strict=True)], dim)

    def _reduce(self, op: Callable[..., Tensor], dim: int, *tensors: Tensor) -> Tensor:
        """op(factor, *pieces) for every factor, added up."""
        first, *rest = (op(f, *p) for f, p in zip(self._present(), self._pieces(dim, tensors), strict=True))
        return sum(rest, first)

    def from_tangent(self, v: Operand, dim: int = -1) -> Whole:
        return self._map(lambda f, *a: f.from_tangent(*a, dim), dim, v)

    def to_tangent(self, z: Operand, dim: int = -1) -> Whole:
        return self._map(lambda f, *a: f.to_tangent(*a, dim), dim, z)

    def add_normal(self, m: Operand, w: Operand, dim: int = -1) -> Whole:
        return self._map(lambda f, *a: f.add_normal(*a, dim), dim, m, w)

    def expmap(self, x: Operand, u: Operand, dim: int = -1) -> Whole:
        return self._map(lambda f, *a: f.expmap(*a, dim), dim, x, u)

    def logmap(self, x: Operand, y: Operand, dim: int = -1) -> Whole:
        return self._map(lambda f, *a: f.logmap(*a, dim), dim, x, y)

    def transport(self, x: Operand, y: Operand, u: Operand, dim: int = -1) -> Whole:
        return self._map(lambda f, *a: f.transport(*a, dim), dim, x, y, u)

    def normal_velocity(self, x: Operand, y: Operand, u: Operand, dim: int = -1) -> Whole:
        return self._map(lambda f, *a: f.normal_velocity(*a, dim), dim, x, y, u)

    def inner(self, x: Operand, u: Operand, w: Operand, dim: int = -1) -> Tensor:
        return self._reduce(lambda f, *a: f.inner(*a, dim), dim, x, u, w)

    def to_frame(self, x: Operand, u: Operand, dim: int = -1) -> Whole:
        return self._map(lambda f, *a: f.to_frame(*a, dim), dim, x, u)

    def from_frame(self, x: Operand, w: Operand, dim: int = -1) -> Whole:
        return self._map(lambda f, *a: f.from_frame(*a, dim), dim, x, w)

    def sqdist(self, x: Operand, y: Operand, dim: int = -1) -> Tensor:
        return self._reduce(lambda f, *a: f.sqdist(*a, dim), dim, x, y)

    def pairwise_sqdist(self, x: Float[Tensor, "N C"], y: Float[Tensor, "M C"]) -> Float[Tensor, "N M"]:
        return self._reduce(lambda f, *a: f.pairwise_sqdist(*a), -1, x, y)

    def geodesic(self, x0: Operand, x1: Operand, t: Operand, dim: int = -1) -> tuple[Whole, Whole]:
        paths = [
            f.geodesic(a, b, t, dim) for f, (a, b) in zip(self._present(), self._pieces(dim, (x0, x1)), strict=True)
        ]
        return torch.cat([x for x, _ in paths], dim), torch.cat([u for _, u in paths], dim)

    def midpoint(self, v: Float[Tensor, "*#B N C"], weights: Float[Tensor, "*#B M N"]) -> Float[Tensor, "*B M C"]:
        return self._map(lambda f, a: f.midpoint(a, weights), -1, v)

    def frechet_mean(self, v: Float[Tensor, "*#B N C"], weights: Float[Tensor, "*#B N"]) -> Float[Tensor, "*B C"]:
        return self._map(lambda f, a: f.frechet_mean(a, weights), -1, v)

    def log_volume(self, v: Operand, dim: int = -1) -> Tensor:
        return self._reduce(lambda f, *a: f.log_volume(*a, dim), dim, v)

    def saturation(self, z: Operand, dim: int = -1) -> Number:
        """The largest share among the factors: a Euclidean factor never saturates and must not hide one that does."""
        shares = [f.saturation(a, dim) for f, (a,) in zip(self._present(), self._pieces(dim, (z,)), strict=True)]
        return torch.stack(shares).amax()

    def rescaled(self, s: Tensor | float) -> "ProductManifold":
        """The manifold of the latents v / s, where s is one scale, or a tensor of one scale per factor."""
        factors = self.direct_factors()
        scales = s.unbind() if isinstance(s, Tensor) and s.ndim else [s] * len(factors)
        return ProductManifold([f.rescaled(own) for f, own in zip(factors, scales, strict=True)])

    def repeated(self, times: int) -> "ProductManifold":
        return ProductManifold([f.repeated(times) for f in self.direct_factors()])

    def curvatures(self) -> Float64[Tensor, " factors"]:
        return torch.cat([f.curvatures() for f in self.direct_factors()])

    def leaves(self) -> list[Leaf]:
        return [leaf for f in self._present() for leaf in f.leaves()]

    def direct_factors(self) -> list[Manifold]:
        # nn.ModuleList does not say what its modules are
        return cast(list[Manifold], list(self.factors))


def is_plane(manifold: Manifold) -> bool:
    """Whether the manifold is a Euclidean or a hyperbolic plane: one leaf, one ball, of dimension 2."""
    leaves = manifold.leaves()
    return len(leaves) == 1 and leaves[0].channels == 2 and leaves[0].balls == 1
