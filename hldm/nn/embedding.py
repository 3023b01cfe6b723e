"""A table of points that is trained by a Riemannian optimiser."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hldm.geometry import Manifold
from hldm.geometry.ops import promote


class HyperbolicEmbedding(nn.Module):
    """Index → point, the points being geoopt manifold parameters: train it with `geoopt.optim.RiemannianAdam`.

    (Nickel & Kiela 2017.) A ball's points are stored in ball coordinates, a flat factor's in normal coordinates. With
    fixed c = 0 this is `nn.Embedding`; as c → 0 a Riemannian gradient step is its gradient step, at the rate O(c).

    geoopt keeps its points within √c·r ≤ 6.2 in float32 (12.2 in float64), less than this package's own limit.

    Args:
        num_embeddings: rows of the table.
        manifold: of the points; c must be fixed, because a Riemannian step needs a metric that holds still.
        scale: standard deviation of the initial normal coordinates, > 0; drawn as by `nn.Embedding`.
        start: the initial normal coordinates (num_embeddings, C) themselves, instead.
    """

    def __init__(
        self, num_embeddings: int, manifold: Manifold, scale: float = 1.0, start: Float[Tensor, "rows C"] | None = None
    ) -> None:
        super().__init__()
        # geoopt takes seconds to import; only this layer needs it
        import geoopt

        self.manifold = manifold
        if start is None:
            start = scale * torch.randn(num_embeddings, manifold.channels)
        self.weights = nn.ParameterList()
        for leaf, v in manifold.pieces(start, 1):
            c = leaf.c
            if isinstance(c, Tensor):
                raise ValueError(
                    "A HyperbolicEmbedding needs a fixed curvature, because a Riemannian step needs a fixed metric. "
                    "Where c is learned, lift an nn.Embedding with ToPoincare."
                )
            if leaf.is_flat:
                self.weights.append(geoopt.ManifoldParameter(v, manifold=geoopt.Euclidean()))
            else:
                # geoopt overwrites a tensor that it is given as c; a float is copied
                ball = geoopt.PoincareBall(c=c)
                points = leaf.from_tangent(v).unflatten(1, (leaf.balls, leaf.ball_dim))
                self.weights.append(geoopt.ManifoldParameter(ball.projx(points), manifold=ball))

    def forward(self, index: Int[Tensor, "*B"]) -> Float[Tensor, "*B C"]:
        """(*) integers → (*, C) normal coordinates."""
        pieces = []
        for leaf, weight in zip(self.manifold.leaves(), self.weights, strict=True):
            rows = nn.functional.embedding(index, weight.flatten(1))
            pieces.append(promote(rows) if leaf.is_flat else leaf.to_tangent(rows))
        return torch.cat(pieces, -1)


def is_point(parameter: nn.Parameter) -> bool:
    """Whether the parameter lies on a curved manifold of geoopt, so that a Riemannian optimiser has to move it."""
    manifold = getattr(parameter, "manifold", None)
    return manifold is not None and manifold.name != "Euclidean"
