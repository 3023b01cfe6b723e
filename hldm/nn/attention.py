"""Attention by distance: scores from geodesic distances, values joined by their gyro-midpoint."""

import math

import torch
from torch import Tensor, nn

from hldm.errors import UserError
from hldm.geometry import Manifold, PoincareBall
from hldm.geometry.ops import flat
from hldm.nn.leafwise import curvature_and_balls
from hldm.nn.linear import MobiusLinear


def distance_attention(
    query: Tensor, key: Tensor, value: Tensor, sharpness: Tensor, manifold: Manifold, bias: Tensor | None = None
) -> Tensor:
    """Values' midpoints with weights softmax(−sharpness · d(query, key)² + bias) over the keys.

    Gulcehre et al. (2019), section 3, with squared distances: as c → 0 it is Euclidean distance attention, which
    differs from dot-product attention by −sharpness·|key|² alone.

    Args:
        query: (*B, M, C) normal coordinates.
        key, value: (*B, N, C) normal coordinates.
        sharpness: > 0, broadcasts against (*B, M, N).
        manifold: of queries, keys and values.
        bias: added to the scores, broadcasts against (*B, M, N); very negative where a key is padding.

    Returns:
        (*B, M, C) normal coordinates.
    """
    points = manifold.from_tangent(query), manifold.from_tangent(key)
    scores = -sharpness * manifold.pairwise_sqdist(*points)
    return manifold.midpoint(value, (scores if bias is None else scores + bias).softmax(-1))


def clip_radius(v: Tensor, manifold: Manifold, clip: float) -> Tensor:
    """(*, C) normal coordinates with √c|v| ≤ `clip` in every ball; flat factors, and c → 0, are left as they are.

    Beyond some radius a ball's distances are dominated by radii and float32 no longer resolves them; Guo et al. (2022)
    clip features for the same reason.
    """
    pieces = []
    leaves = manifold.leaves()
    for leaf, piece in zip(leaves, v.split([leaf.channels for leaf in leaves], -1), strict=True):
        c, balls = curvature_and_balls(leaf)
        if not flat(c):
            x = piece.unflatten(-1, (balls, -1))
            s = c * x.square().sum(-1, keepdim=True)
            piece = (x * (clip * s.clamp(min=clip**2).rsqrt())).flatten(-2)
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, -1)


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
        query, key = (
            clip_radius(self._split(x), self.head, self.clip) for x in (self.to_query(v), self.to_key(source))
        )
        out = distance_attention(query, key, self._split(self.to_value(source)), self.log_sharpness.exp(), self.head)
        return self.to_out(out.transpose(-3, -2).flatten(-2))

    def _split(self, v: Tensor) -> Tensor:
        """(B, N, heads·D) → (B, heads, N, D)."""
        return v.unflatten(-1, (self.heads, self.head.channels)).transpose(-3, -2)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, clip={self.clip:g}"
