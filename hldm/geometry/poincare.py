"""k Poincaré balls of one curvature at every position."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from hldm.geometry import means, normal, ops
from hldm.geometry.curvature import Curvature
from hldm.geometry.manifold import Leaf
from hldm.geometry.shapes import Number, Operand, Scalar, Whole


class PoincareBall(Leaf):
    """The product of k balls {z ∈ R^n : c|z|² < 1} with metric (2/(1 − c|z|²))²|dz|², formulae in `ops` and `normal`.

    As c → 0 a point z has normal coordinates 2z. With a *fixed* c = 0 this is R^C, bit for bit in normal coordinates.

    Args:
        channels: C = k·n, k·n ≥ 0. Ball j owns channels j·n … (j+1)·n − 1.
        curvature: c, shared by the balls.
        balls: k ≥ 1, a divisor of C.
    """

    def __init__(self, channels: int, curvature: Curvature, balls: int = 1) -> None:
        super().__init__()
        if balls < 1 or channels % balls:
            raise ValueError(f"balls={balls} does not divide {channels} channels: all balls have the same dimension.")
        self.channels = channels
        self.curvature = curvature
        self.balls = balls

    @property
    def c(self) -> Scalar:
        return self.curvature.operand

    @property
    def is_flat(self) -> bool:
        return self.curvature.is_zero

    def like(self, channels: int, balls: int = 1) -> "PoincareBall":
        return PoincareBall(channels, self.curvature, balls)

    def _map(self, op: Callable[..., Tensor], dim: int, *tensors: Tensor) -> Tensor:
        """Apply an op ball by ball, and join the balls again."""
        views, axes = zip(*(self.by_ball(x, dim) for x in tensors), strict=True)
        return self.joined(op(*views, self.c, axes[0]), axes[0])

    def _reduce(self, op: Callable[..., Tensor], dim: int, *tensors: Tensor) -> Tensor:
        """Apply an op that sums coordinates away, and add up the balls."""
        views, axes = zip(*(self.by_ball(x, dim) for x in tensors), strict=True)
        out = op(*views, self.c, axes[0])
        return out if self.balls == 1 else out.sum(axes[0])

    def from_tangent(self, v: Operand, dim: int = -1) -> Whole:
        return self._map(ops.expmap0, dim, v)

    def to_tangent(self, z: Operand, dim: int = -1) -> Whole:
        return self._map(ops.logmap0, dim, z)

    def add_normal(self, m: Operand, w: Operand, dim: int = -1) -> Whole:
        return self._map(normal.add_normal, dim, m, w)

    def mobius_add(self, x: Operand, y: Operand, dim: int = -1) -> Whole:
        """x ⊕ y, ball by ball."""
        return self._map(ops.mobius_add, dim, x, y)

    def gyration(self, a: Operand, b: Operand, u: Operand, dim: int = -1) -> Whole:
        """gyr[a, b]u, ball by ball."""
        return self._map(ops.gyration, dim, a, b, u)

    def expmap(self, x: Operand, u: Operand, dim: int = -1) -> Whole:
        return self._map(ops.expmap, dim, x, u)

    def logmap(self, x: Operand, y: Operand, dim: int = -1) -> Whole:
        return self._map(ops.logmap, dim, x, y)

    def transport(self, x: Operand, y: Operand, u: Operand, dim: int = -1) -> Whole:
        return self._map(ops.transport, dim, x, y, u)

    def normal_velocity(self, x: Operand, y: Operand, u: Operand, dim: int = -1) -> Whole:
        return self._map(ops.normal_velocity, dim, x, y, u)

    def inner(self, x: Operand, u: Operand, w: Operand, dim: int = -1) -> Tensor:
        return self._reduce(ops.inner, dim, x, u, w)

    def to_frame(self, x: Operand, u: Operand, dim: int = -1) -> Whole:
        return self._map(ops.to_frame, dim, x, u)

    def from_frame(self, x: Operand, w: Operand, dim: int = -1) -> Whole:
        return self._map(ops.from_frame, dim, x, w)

    def sqdist(self, x: Operand, y: Operand, dim: int = -1) -> Tensor:
        return self._reduce(ops.sqdist, dim, x, y)

    def pairwise_sqdist(self, x: Float[Tensor, "N C"], y: Float[Tensor, "M C"]) -> Float[Tensor, "N M"]:
        if self.balls == 1:
            return ops.pairwise_sqdist(x, y, self.c)
        rows, columns = (a.unflatten(-1, (self.balls, self.ball_dim)).movedim(-2, 0) for a in (x, y))
        # ball by ball: (balls, N, M) is never made
        total = ops.pairwise_sqdist(rows[0], columns[0], self.c)
        for row, column in zip(rows[1:], columns[1:], strict=True):
            total = total + ops.pairwise_sqdist(row, column, self.c)
        return total

    def geodesic(self, x0: Operand, x1: Operand, t: Operand, dim: int = -1) -> tuple[Whole, Whole]:
        (a, axis), (b, _) = self.by_ball(x0, dim), self.by_ball(x1, dim)
        if self.balls > 1 and t.ndim >= -axis:  # a time that broadcasts against x0 lacks the ball axis
            t = t.unsqueeze(axis)
        x_t, u_t = ops.geodesic(a, b, t, self.c, axis)
        return self.joined(x_t, axis), self.joined(u_t, axis)

    def midpoint(self, v: Float[Tensor, "*#B N C"], weights: Float[Tensor, "*#B M N"]) -> Float[Tensor, "*B M C"]:
        return self._mean(means.midpoint, v, weights)

    def frechet_mean(self, v: Float[Tensor, "*#B N C"], weights: Float[Tensor, "*#B N"]) -> Float[Tensor, "*B C"]:
        return self._mean(means.frechet_mean, v, weights)

    def _mean(self, of: Callable[[Tensor, Tensor, Scalar], Tensor], v: Tensor, weights: Tensor) -> Tensor:
        # as one matrix where that is all there is: a batched product rounds differently on some processors
        if self.balls == 1 or self.is_flat:
            return of(v, weights, self.c)
        balls = v.unflatten(-1, (self.balls, self.ball_dim)).movedim(-2, 0)
        return of(balls, weights, self.c).movedim(0, -2).flatten(-2)

    def log_volume(self, v: Operand, dim: int = -1) -> Tensor:
        return self._reduce(normal.log_volume, dim, v)

    def saturation(self, z: Operand, dim: int = -1) -> Number:
        view, axis = self.by_ball(z, dim)
        return ops.saturation(view, self.c, axis)

    def project(self, z: Operand, dim: int = -1) -> tuple[Whole, Number]:
        """Points within the radius limit of the number format, and the share of points that were moved (shape ())."""
        view, axis = self.by_ball(z, dim)
        out, share = ops.project(view, self.c, axis)
        return self.joined(out, axis), share

    def rescaled(self, s: Tensor | float) -> "PoincareBall":
        return PoincareBall(self.channels, self.curvature.rescaled(s), self.balls)

    def curvatures(self) -> Float64[Tensor, " factors"]:
        return self.curvature().to(torch.float64).reshape(1)

    def extra_repr(self) -> str:
        return f"channels={self.channels}, balls={self.balls}"
