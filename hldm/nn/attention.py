"""Attention by distance: scores from geodesic distances, values joined by their gyro-midpoint."""

import math

import torch
from torch import Tensor, nn

from hldm.errors import UserError
from hldm.geometry import Manifold, PoincareBall
from hldm.nn.linear import MobiusLinear


def distance_attention(query: Tensor, key: Tensor, value: Tensor, sharpness: Tensor, manifold: Manifold) -> Tensor:
    """Values' midpoints with weights softmax(−sharpness · d(query, key)²) over the keys.

    Gulcehre et al. (2019), section 3, with squared distances: as c → 0 it is Euclidean distance attention, which
    differs from dot-product attention by −sharpness·|key|² alone.

    Args:
        query: (*B, M, C) normal coordinates.
        key, value: (*B, N, C) normal coordinates.
        sharpness: > 0, broadcasts against (*B, M, N).
        manifold: of queries, keys and values.

    Returns:
        (*B, M, C) normal coordinates.
    """
    points = manifold.from_tangent(query), manifold.from_tangent(key)
    weights = (-sharpness * manifold.pairwise_sqdist(*points)).softmax(-1)
    return manifold.midpoint(value, weights)


class HyperbolicAttention(nn.Module):
    """Multi-head attention on sequences of points, each head in a product of small balls of its own.

    Queries, keys and values are Möbius-linear images of the inputs; the heads are joined by another one. Queries and
    keys are clipped to √c|v| ≤ `clip` per ball, beyond which a ball's distances are dominated by radii. As c → 0 it is
    Euclidean distance attention.

    Args:
        manifold: of inputs and outputs, C channels.
        heads: number of heads, ≥ 1.
        head: manifold of one head, of D channels; balls of dimension ≤ 8 keep distances within a useful range.
        context: manifold of keys' and values' source; the inputs' own (self-attention) if None.
        clip: > 0.

    Shapes: (B, M, C), context (B, N, C') → (B, M, C).
    """

    def __init__(
        self, manifold: Manifold, heads: int, head: PoincareBall, context: Manifold | None = None, clip: float = 4.0
    ) -> None:
        super().__init__()
        if heads < 1 or not clip > 0:
            raise UserError(
                f"heads={heads}, clip={clip}: attention needs heads ≥ 1 and clip > 0, for example 4 and 4.0."
            )
        self.heads, self.head, self.clip = heads, head, clip
        joined = PoincareBall(heads * head.channels, head.curvature, heads * head.balls)
        source = manifold if context is None else context
        self.to_query = MobiusLinear(manifold, joined)
        self.to_key = MobiusLinear(source, joined)
        self.to_value = MobiusLinear(source, joined)
        self.to_out = MobiusLinear(joined, manifold)
        # |q − k|²/(2√D) makes the scores of dot-product attention, up to a term in |q| and one in |k|
        self.log_sharpness = nn.Parameter(torch.full((heads, 1, 1), -math.log(2 * math.sqrt(head.channels))))

    def forward(self, v: Tensor, context: Tensor | None = None) -> Tensor:
        source = v if context is None else context
        query, key = self._clipped(self.to_query(v)), self._clipped(self.to_key(source))
        out = distance_attention(query, key, self._split(self.to_value(source)), self.log_sharpness.exp(), self.head)
        return self.to_out(out.transpose(-3, -2).flatten(-2))

    def _split(self, v: Tensor) -> Tensor:
        """(B, N, heads·D) → (B, heads, N, D)."""
        return v.unflatten(-1, (self.heads, self.head.channels)).transpose(-3, -2)

    def _clipped(self, v: Tensor) -> Tensor:
        balls = v.unflatten(-1, (-1, self.head.ball_dim))
        s = self.head.c * balls.square().sum(-1, keepdim=True)
        return self._split((balls * (self.clip * s.clamp(min=self.clip**2).rsqrt())).flatten(-2))

    def extra_repr(self) -> str:
        return f"heads={self.heads}, clip={self.clip:g}"
