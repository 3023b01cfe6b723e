"""Where label and text embeddings are points: products of balls of dimension 8 at most, of the run's curvature.

Points are held within √c·r ≤ 4 of the origin of each ball where they are made: beyond that distances say little
but radii (Guo et al. 2022 clip features for the same reason). As c → 0 the bound is far away, and c = 0 has none.

The curvature may be the learnable one of the latents. It is learned with the autoencoder, and conditioning is trained
after that, so build these layers when the autoencoder is trained and its parameters are frozen: the geometry of a
table of points is that of the curvature at the time, and a Riemannian step needs a metric that holds still.
"""

from torch import Tensor, nn

from hldm.geometry import Curvature, FixedCurvature, PoincareBall
from hldm.geometry.ops import flat
from hldm.nn import Gyroplane, HyperbolicEmbedding
from hldm.nn.convert import clip_norm

BALL_DIM = 8
RADIUS = 4.0


def balls(channels: int, curvature: Curvature) -> PoincareBall:
    """Channels cut into balls of dimension 8, or of the largest one below that divides them."""
    dim = max(n for n in range(1, BALL_DIM + 1) if channels % n == 0)
    return PoincareBall(channels, curvature, channels // dim)


def bounded(v: Tensor, manifold: PoincareBall) -> Tensor:
    """(*, C) features → normal coordinates (*, C) of points with √c·r ≤ RADIUS in every ball."""
    c = manifold.c
    return v if flat(c) else clip_norm(manifold, v, RADIUS / float(c) ** 0.5, -1)


def point_table(table: nn.Embedding, curvature: Curvature) -> nn.Module:
    """The same embeddings as points, which a Riemannian optimiser moves, read by log_0; at c = 0 `table` itself."""
    manifold = balls(table.embedding_dim, curvature)
    if flat(manifold.c):
        return table
    start = bounded(table.weight.detach(), manifold)
    if not isinstance(manifold.c, Tensor):
        return HyperbolicEmbedding(table.num_embeddings, manifold, start=start)
    fixed = balls(table.embedding_dim, FixedCurvature(float(manifold.c.detach())))
    points = HyperbolicEmbedding(table.num_embeddings, fixed, start=start)
    # read by the shared curvature, so that loaded weights bring the curvature that they were trained with
    points.manifold = manifold
    return points


class GyroplaneStem(Gyroplane):
    """Features → points of balls (by their normal coordinates) → signed distances to gyroplanes.

    The lift alone would be undone by log_0; what acts on the points is the gyroplanes. Parameters and their initial
    values are those of `nn.Linear`, which this is at c = 0, bit for bit, and tends to as c → 0.

    Shapes: (*, in_channels) → (*, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, curvature: Curvature) -> None:
        super().__init__(balls(in_channels, curvature), out_channels, dim=-1)

    def forward(self, v: Tensor) -> Tensor:
        assert isinstance(self.manifold, PoincareBall)
        return super().forward(bounded(v, self.manifold))
