"""Attention by distance: scores from geodesic distances, values joined by their gyro-midpoint."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hldm.errors import UserError
from hldm.geometry import Manifold, PoincareBall
from hldm.geometry.elementary import arsinh, arsinh_sqrt_squared, sinh
from hldm.geometry.ops import Scalar, flat, promote
from hldm.nn.leafwise import curvature_and_balls
from hldm.nn.linear import MobiusLinear


def distance_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sharpness: Tensor,
    manifold: Manifold,
    bias: Tensor | None = None,
    clip: float = 4.0,
) -> Tensor:
    """Values' midpoints with weights softmax(−sharpness · d(query, key)² + bias) over the keys.

    Gulcehre et al. (2019), section 3, with squared distances: as c → 0 it is Euclidean distance attention, which
    differs from dot-product attention by −sharpness·|key|² alone.

    Beyond some radius a ball's distances are dominated by radii, so points are clipped to √c|v| ≤ `clip` in every ball,
    as Guo et al. (2022) clip features; as c → 0 nothing is. With hyperboloid coordinates s = sinh(√c|v|) v/(√c|v|) and
    heights m = (cosh √c|v| − 1)/c, all distances are one matmul that stays exact as c → 0:

        d(q, k)² = 4/c · arsinh²(√(c h/2)),   h = m_q + m_k + c m_q m_k − ⟨s_q, s_k⟩

    and the midpoint is Y/|Y|, Y = Σ w (s, 1 + c m), see `geometry.means`. In float32 h errs by 2e-4/c at √c|v| = 4, so
    this is for weights, not for measuring small distances.

    Args:
        query: (*B, M, C) normal coordinates.
        key, value: (*B, N, C) normal coordinates.
        sharpness: > 0, broadcasts against (*B, M, N).
        manifold: of queries, keys and values: Euclidean, or balls of one curvature.
        bias: added to the scores, broadcasts against (*B, M, N); very negative where a key is padding.
        clip: > 0.

    Returns:
        (*B, M, C) normal coordinates.
    """
    (leaf,) = manifold.leaves()
    c, balls = curvature_and_balls(leaf)
    query, key, value = promote(query), promote(key), promote(value)
    if flat(c):
        penalty = -sharpness * key.square().sum(-1).unsqueeze(-2)
        mask = penalty if bias is None else penalty + bias
        return F.scaled_dot_product_attention(2 * sharpness * query, key, value, mask, scale=1.0)
    lengths = [query.shape[-2], key.shape[-2], value.shape[-2]]
    points = torch.cat([query, key, value], -2).unflatten(-1, (balls, -1)).movedim(-2, -3)
    space, height = _lift(points, c, clip)  # (*B, k, M + 2N, n) and (…, 1)
    (s_q, s_k, s_v), (m_q, m_k, m_v) = space.split(lengths, -2), height.split(lengths, -2)
    rows = torch.cat([s_q, m_q, torch.ones_like(m_q)], -1)
    columns = torch.cat([-s_k, 1 + c * m_k, m_k], -1)
    d2 = arsinh_sqrt_squared((0.5 * c) * (rows @ columns.transpose(-1, -2))).sum(-3)
    scores = (-4 * sharpness / c) * d2
    weights = (scores if bias is None else scores + bias).softmax(-1)
    # every ball's coordinates side by side: one matmul
    values = torch.cat([s_v, 1 + c * m_v], -1).movedim(-3, -2)
    summed = (weights @ values.flatten(-2)).unflatten(-1, (balls, -1))
    space, time = summed[..., :-1], summed[..., -1:]
    s2 = c * space.square().sum(-1, keepdim=True)
    norm2 = (time.square() - s2).clamp(min=1)
    ratio = (s2 / norm2).clamp(min=1e-30).sqrt()
    return (space * (arsinh(ratio) / ratio * norm2.rsqrt())).flatten(-2)


def _lift(v: Tensor, c: Scalar, clip: float) -> tuple[Tensor, Tensor]:
    """Hyperboloid coordinates s and heights m of normal coordinates (*, n), clipped to √c|v| ≤ `clip`."""
    r2 = c * v.square().sum(-1, keepdim=True)
    half = (0.25 * r2.clamp(1e-30, clip**2)).sqrt()
    sh = sinh(half)
    sh2 = sh.square()
    return v * (sh / half * (1 + sh2).sqrt() * (clip * r2.clamp(min=clip**2).rsqrt())), (2 / c) * sh2


class HyperbolicAttention(nn.Module):
    """Multi-head attention on sequences of points, each head in a product of small balls of its own.

    Queries, keys and values are Möbius-linear images of the inputs; the heads are joined by another one. All of
    them are clipped to √c|v| ≤ `clip` per ball. As c → 0 it is Euclidean distance attention.

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
        query, key, value = map(self._split, (self.to_query(v), self.to_key(source), self.to_value(source)))
        out = distance_attention(query, key, value, self.log_sharpness.exp(), self.head, clip=self.clip)
        return self.to_out(out.transpose(-3, -2).flatten(-2))

    def _split(self, v: Tensor) -> Tensor:
        """(B, N, heads·D) → (B, heads, N, D)."""
        return v.unflatten(-1, (self.heads, self.head.channels)).transpose(-3, -2)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, clip={self.clip:g}"
