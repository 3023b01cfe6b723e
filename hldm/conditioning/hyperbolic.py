"""Where label and text embeddings are points: products of small balls of the run's curvature, near their origins.

`hldm.geometry.balls` says how small and how near. As c → 0 the bound is far away, and c = 0 has none.

The curvature may be the learnable one of the latents. It is learned with the autoencoder, and conditioning is trained
after that, so build these layers when the autoencoder is trained and its parameters are frozen: the geometry of a
table of points is that of the curvature at the time, as a Riemannian step needs a metric that holds still.
"""

import torch
from torch import Tensor, nn

from hldm.geometry import Curvature, FixedCurvature, largest_balls, within_radius
from hldm.nn import Gyroplane, HyperbolicEmbedding


@torch.no_grad()
def point_table(table: nn.Embedding, curvature: Curvature) -> nn.Module:
    """A table's embeddings as points, which a Riemannian optimiser moves, read by log_0; at c = 0 `table` itself."""
    c = curvature.operand
    fixed = FixedCurvature(float(c)) if isinstance(c, Tensor) else curvature
    manifold = largest_balls(table.embedding_dim, fixed)
    if manifold.is_flat:
        return table
    points = HyperbolicEmbedding(table.num_embeddings, manifold, start=within_radius(manifold, table.weight))
    # read by the shared curvature, so that points and curvature that are loaded together belong together
    points.manifold = largest_balls(table.embedding_dim, curvature)
    return points


class GyroplaneStem(Gyroplane):
    """Features → points of balls (by their normal coordinates) → signed distances to gyroplanes.

    The lift alone would be undone by log_0; what acts on the points is the gyroplanes. Parameters and their initial
    values are those of `nn.Linear`, which this is at c = 0, bit for bit, and tends to as c → 0.

    Shapes: (*, in_channels) → (*, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, curvature: Curvature) -> None:
        super().__init__(largest_balls(in_channels, curvature), out_channels, dim=-1)

    def forward(self, v: Tensor) -> Tensor:
        return super().forward(within_radius(self.manifold, v))
