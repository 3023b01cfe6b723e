"""Between features and points: the two ends of a hyperbolic part of a network."""

from torch import nn

from hldm.geometry import Manifold, clip_norm
from hldm.geometry.ops import promote
from hldm.geometry.shapes import Operand, Whole


class ToPoincare(nn.Module):
    """Features → points, with feature clipping.

        z = Φ(min(1, clip/|x|) · x)                                            Guo et al. (2022), per ball

    Khrulkov et al. (2020) lift with exp_0; without a bound on |x| features drift to the boundary, where the gradient of
    Φ vanishes. The manifold has the curvature, which may be learned. As c → 0 only the clipping remains.

    Args:
        manifold: of the points. A Euclidean factor is clipped like a ball, so that c → 0 compares like with like.
        clip: largest norm of a factor's or ball's features, > 0 and in units of distance; None leaves them alone.
        dim: axis of the coordinates.
    """

    def __init__(self, manifold: Manifold, clip: float | None = None, dim: int = -1) -> None:
        super().__init__()
        if clip is not None and not clip > 0:
            raise ValueError(f"clip={clip} would leave no features: it must be > 0, or None for no clipping.")
        self.manifold, self.clip, self.dim = manifold, clip, dim

    def forward(self, x: Operand) -> Whole:
        """(*, C, …) features → (*, C, …) points."""
        x = promote(x)
        return self.manifold.from_tangent(
            x if self.clip is None else clip_norm(self.manifold, x, self.clip, self.dim), self.dim
        )

    def extra_repr(self) -> str:
        return f"clip={self.clip}, dim={self.dim}"


class FromPoincare(nn.Module):
    """Points → features: normal coordinates, so that |v| is the distance to the origin.

    Args:
        manifold: of the points.
        dim: axis of the coordinates.
    """

    def __init__(self, manifold: Manifold, dim: int = -1) -> None:
        super().__init__()
        self.manifold, self.dim = manifold, dim

    def forward(self, z: Operand) -> Whole:
        """(*, C, …) points → (*, C, …) features."""
        return self.manifold.to_tangent(z, self.dim)
