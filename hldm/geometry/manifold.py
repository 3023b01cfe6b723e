"""The interface of a latent space: all that models ask of it.

A `Manifold` is a `Leaf` (Euclidean space, or balls of one curvature) or a product of manifolds. Code that treats balls
apart walks over `manifold.leaves()` or `manifold.pieces(x)` and never asks for a class.

Legend: a point has C coordinates along an explicit axis `dim`; every other axis is a batch axis, so a latent map is
(B, C, H, W) with dim=1 and holds one point per spatial position. `z` is a point, `v` its normal coordinates,
`u` a tangent vector in the manifold's own coordinates, `w` the same vector in an orthonormal frame.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Float64
from torch import Generator, Tensor, nn

from hldm.geometry.ops import safe_sqrt
from hldm.geometry.shapes import Number, Operand, Scalar, Whole


class Manifold(nn.Module, ABC):
    """A complete, simply connected manifold with an origin and one global chart of normal coordinates.

    Models see normal coordinates only (|v| = distance to the origin), so the same network runs on every manifold
    and the limit c → 0 is the Euclidean model.
    """

    channels: int
    """Coordinates C of one point, which is also the dimension of the manifold."""

    @abstractmethod
    def from_tangent(self, v: Operand, dim: int = -1) -> Whole:
        """Normal coordinates → point at distance |v| from the origin, in the direction of v."""

    @abstractmethod
    def to_tangent(self, z: Operand, dim: int = -1) -> Whole:
        """Point → normal coordinates, the inverse of `from_tangent`."""

    @abstractmethod
    def add_normal(self, m: Operand, w: Operand, dim: int = -1) -> Whole:
        """Normal coordinates of exp at the point m (in normal coordinates) of the frame vector w; m + w if flat.

        `add_normal(-m, v)` is the inverse: the frame vector at m whose geodesic reaches v at time 1.
        """

    @abstractmethod
    def expmap(self, x: Operand, u: Operand, dim: int = -1) -> Whole:
        """Where the geodesic from x with velocity u is at time 1."""

    @abstractmethod
    def logmap(self, x: Operand, y: Operand, dim: int = -1) -> Whole:
        """The velocity at x of the geodesic that reaches y at time 1."""

    @abstractmethod
    def transport(self, x: Operand, y: Operand, u: Operand, dim: int = -1) -> Whole:
        """Tangent vector u at x, moved in parallel along the geodesic to y."""

    @abstractmethod
    def normal_velocity(self, x: Operand, y: Operand, u: Operand, dim: int = -1) -> Whole:
        """The velocity of log_x(y), a tangent vector at x, where the point y moves with velocity u; u if flat."""

    @abstractmethod
    def inner(self, x: Operand, u: Operand, w: Operand, dim: int = -1) -> Tensor:
        """Riemannian inner product of two tangent vectors at x; the axis `dim` is summed away."""

    @abstractmethod
    def to_frame(self, x: Operand, u: Operand, dim: int = -1) -> Whole:
        """Tangent vector u at x → its components in the orthonormal frame at x."""

    @abstractmethod
    def from_frame(self, x: Operand, w: Operand, dim: int = -1) -> Whole:
        """Components in the orthonormal frame at x → tangent vector, the inverse of `to_frame`."""

    @abstractmethod
    def sqdist(self, x: Operand, y: Operand, dim: int = -1) -> Tensor:
        """Squared geodesic distance; the axis `dim` is summed away. Squares add up over factors and positions."""

    def dist(self, x: Operand, y: Operand, dim: int = -1) -> Tensor:
        """Geodesic distance; the axis `dim` is summed away. Its gradient at x = y is 0."""
        return safe_sqrt(self.sqdist(x, y, dim))

    @abstractmethod
    def pairwise_sqdist(self, x: Float[Tensor, "N C"], y: Float[Tensor, "M C"]) -> Float[Tensor, "N M"]:
        """(N, C) and (M, C) → (N, M) squared geodesic distances, accurate at small distances too."""

    @abstractmethod
    def geodesic(self, x0: Operand, x1: Operand, t: Operand, dim: int = -1) -> tuple[Whole, Whole]:
        """Point x_t and velocity u_t at time t (broadcastable) of the geodesic with x_0 at t = 0 and x_1 at t = 1."""

    @abstractmethod
    def log_volume(self, v: Operand, dim: int = -1) -> Tensor:
        """log √det g at the point with normal coordinates v, in those coordinates; `dim` is summed away."""

    @abstractmethod
    def saturation(self, z: Operand, dim: int = -1) -> Number:
        """Share of points (a scalar in [0, 1]) that sit at the boundary clamp of their number format."""

    @abstractmethod
    def rescaled(self, s: Tensor | float) -> "Manifold":
        """The manifold of the latents v / s: curvature c becomes c·s², everything else is unchanged."""

    @abstractmethod
    def repeated(self, times: int) -> "Manifold":
        """The product of `times` copies of this manifold, which share its curvatures; `times` · C coordinates.

        Coordinates are ordered by factor, then by copy: first the coordinates that the copies have in the first factor,
        copy by copy, then the coordinates that they have in the second, and so on.
        """

    @abstractmethod
    def curvatures(self) -> Float64[Tensor, " factors"]:
        """Shape (number of factors,): c ≥ 0 of each factor; the sectional curvature is −c."""

    @abstractmethod
    def midpoint(self, v: Float[Tensor, "*#B N C"], weights: Float[Tensor, "*#B M N"]) -> Float[Tensor, "*B M C"]:
        """(*B, N, C) normal coordinates of N points and (*B, M, N) weights ≥ 0 → (*B, M, C) normal coordinates.

        The weighted mean on flat factors, the gyro-midpoint on balls.
        """

    @abstractmethod
    def frechet_mean(self, v: Float[Tensor, "*#B N C"], weights: Float[Tensor, "*#B N"]) -> Float[Tensor, "*B C"]:
        """(*B, N, C) normal coordinates and (*B, N) weights ≥ 0 → (*B, C), least weighted sum of squared distances."""

    @abstractmethod
    def leaves(self) -> list["Leaf"]:
        """The factors of all factors that are not products and have channels, in the order of their channels."""

    @abstractmethod
    def direct_factors(self) -> list["Manifold"]:
        """The factors that a product was made of; any other manifold is its own and only factor."""

    @property
    def is_flat(self) -> bool:
        """Whether every leaf is known to be flat without a look at data. A learned curvature never is."""
        return all(leaf.is_flat for leaf in self.leaves())

    def pieces(self, x: Operand, dim: int = -1) -> list[tuple["Leaf", Tensor]]:
        """Every leaf with its coordinates: (*, C, …) → one (*, leaf.channels, …) per leaf."""
        leaves = self.leaves()
        return list(zip(leaves, x.split([leaf.channels for leaf in leaves], dim), strict=True))

    def random(
        self, shape: tuple[int, ...], scale: float | Tensor, generator: Generator | None = None, dim: int = -1
    ) -> Tensor:
        """Points of a centred wrapped normal: `from_tangent` of Gaussian normal coordinates with that scale.

        Args:
            shape: of the points; the size of `dim` is `channels`.
            scale: standard deviation, > 0; a tensor also fixes device and dtype.
            generator: source of randomness, on the device of `scale`.
        """
        dtype, device = (scale.dtype, scale.device) if isinstance(scale, Tensor) else (None, None)
        if device is None and generator is not None:
            device = generator.device
        return self.from_tangent(scale * torch.randn(shape, generator=generator, dtype=dtype, device=device), dim)


class Leaf(Manifold):
    """A manifold that is not a product of others: k balls of one curvature −c and one dimension n, C = k·n.

    Euclidean space counts as one ball with c = 0.
    """

    balls: int
    """k ≥ 1. Ball j owns channels j·n … (j+1)·n − 1."""

    @property
    @abstractmethod
    def c(self) -> Scalar:
        """c ≥ 0 as `ops` takes it: a float where it is fixed, a tensor of shape () where it is learned."""

    @property
    def ball_dim(self) -> int:
        """n, the dimension of one ball."""
        return self.channels // self.balls

    @abstractmethod
    def like(self, channels: int, balls: int = 1) -> "Leaf":
        """So many balls of this curvature on so many channels; Euclidean space if this is Euclidean space."""

    def by_ball(self, x: Operand, dim: int = -1) -> tuple[Tensor, int]:
        """View with a ball axis before the coordinate axis if k > 1, and the coordinate axis counted from the end."""
        dim = dim - x.ndim if dim >= 0 else dim
        return (x if self.balls == 1 else x.unflatten(dim, (self.balls, self.ball_dim))), dim

    def joined(self, x: Operand, dim: int) -> Tensor:
        """The inverse of `by_ball`: the ball axis before the coordinate axis `dim` < 0 is merged into it."""
        return x if self.balls == 1 else x.flatten(dim - 1, dim)

    def repeated(self, times: int) -> "Leaf":
        return self.like(times * self.channels, times * self.balls)

    def leaves(self) -> list["Leaf"]:
        return [self] if self.channels else []

    def direct_factors(self) -> list[Manifold]:
        return [self]
