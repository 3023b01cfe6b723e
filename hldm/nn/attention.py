"""Attention by distance: scores from geodesic distances, values joined by their gyro-midpoint."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hldm.geometry import RADIUS, Leaf, Manifold
from hldm.geometry.forms import two_forms
from hldm.geometry.ops import full_precision, promote
from hldm.geometry.shapes import Scalar
from hldm.nn.linear import MobiusLinear

_TINY = 1e-30
# Least number whose root is taken: it and its square have a place in float32.


def distance_attention(
    query: Float[Tensor, "*#B M C"],
    key: Float[Tensor, "*#B N C"],
    value: Float[Tensor, "*#B N C"],
    sharpness: Tensor,
    manifold: Manifold,
    bias: Tensor | None = None,
    clip: float = RADIUS,
) -> Float[Tensor, "*B M C"]:
    """Values' midpoints with weights softmax(−sharpness · d(query, key)² + bias) over the keys.

    Gulcehre et al. (2019), section 3, with squared distances: as c → 0 it is Euclidean distance attention, which
    differs from dot-product attention by −sharpness·|key|² alone.

    Beyond some radius a ball's distances are dominated by radii, so points are clipped to √c|v| ≤ `clip` in every ball,
    as Guo et al. (2022) clip features; as c → 0 nothing is. With hyperboloid coordinates s = sinh(√c|v|) v/|v| and
    heights m = cosh √c|v| − 1, all distances are one matmul that stays exact as c → 0:

        c d(q, k)² = arcosh²(1 + h),   h = m_q + m_k + m_q m_k − ⟨s_q, s_k⟩

    and the midpoint is Y/|Y|, Y = Σ w (s, 1 + m), see `geometry.means`. In float32 h errs by 2e-4 where points meet at
    √c|v| = 4, so this is for weights, not for measuring small distances.

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
    c, balls = leaf.c, leaf.balls
    query, key, value = promote(query), promote(key), promote(value)
    if leaf.is_flat:
        penalty = -sharpness * key.square().sum(-1).unsqueeze(-2)
        mask = penalty if bias is None else penalty + bias
        return F.scaled_dot_product_attention(2 * sharpness * query, key, value, mask, scale=1.0)
    # (k, C), 1 where a coordinate is one of a ball's: on short axes a matmul is faster than sums and broadcasting
    one = torch.eye(balls, dtype=query.dtype, device=query.device).unsqueeze(-1)
    members = one.expand(-1, -1, leaf.ball_dim).flatten(1)
    lengths = [query.shape[-2], key.shape[-2], value.shape[-2]]
    space, height = _lift(torch.cat([query, key, value], -2), members, c, clip)
    (s_q, s_k, s_v), (m_q, m_k, m_v) = space.split(lengths, -2), height.split(lengths, -2)
    rows = _per_ball(s_q, m_q, torch.ones_like(m_q))
    columns = _per_ball(-s_k, 1 + m_k, m_k)
    scores = (-sharpness / c) * _arcosh1p_squared(rows @ columns.transpose(-1, -2)).sum(-3)
    weights = (scores if bias is None else scores + bias).softmax(-1)
    # the coordinates and times of all balls side by side: one matmul
    space, time = (weights @ torch.cat([s_v, 1 + m_v], -1)).split([leaf.channels, balls], -1)
    s2 = space.square() @ members.T
    norm2 = (time.square() - s2).clamp(min=1)
    # sinh and arsinh of the midpoint's √c|v|
    sh2 = (s2 / norm2).clamp(min=_TINY)
    sh = sh2.sqrt()
    radius = torch.log1p(sh + sh2 / (1 + (1 + sh2).sqrt()))
    return space * ((radius / sh * norm2.rsqrt()) @ (members / c**0.5))


def _lift(v: Tensor, members: Tensor, c: Scalar, clip: float) -> tuple[Tensor, Tensor]:
    """Hyperboloid coordinates (*, C) and heights (*, k) of normal coordinates (*, C), clipped to √c|v| ≤ `clip`.

    With e = expm1(√c|v|) the height is m = e²/(2(1 + e)) and sinh(√c|v|) = m + e/(1 + e), without cancellation.
    """
    radius = (v.square() @ (c * members.T)).clamp(min=_TINY).sqrt()
    e = torch.expm1(radius.clamp(max=clip))
    share = e / (1 + e)
    height = 0.5 * e * share
    return v * ((height + share) / radius @ (c**0.5 * members)), height


def _per_ball(space: Tensor, *heights: Tensor) -> Tensor:
    """(*, N, k·n) and several (*, N, k) → (*, k, N, n + their number)."""
    parts = [space.unflatten(-1, (heights[0].shape[-1], -1)), *(height.unsqueeze(-1) for height in heights)]
    return torch.cat([part.movedim(-2, -3) for part in parts], -1)


class _Arcosh1pSquared(torch.autograd.Function):
    """y = arcosh(1 + h)² = log1p²(h + p) with p = √(h(2 + h)); derivative 2√y/p."""

    generate_vmap_rule = True

    @staticmethod
    def forward(h: Tensor) -> tuple[Tensor, Tensor]:
        h = h.clamp(min=_TINY)
        # in place: fresh memory costs more than arithmetic
        p = (h + 2).mul_(h).sqrt_()
        return h.add_(p).log1p_().square_(), p

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], *output)
        ctx.save_for_forward(*output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Tensor:
        h, y, p = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return y.sqrt().div_(p).mul_(grad).mul_(2)
        h = h.clamp(min=_TINY)  # p hides that it depends on h
        return 2 * grad * (y / (h * (2 + h))).sqrt()

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> tuple[Tensor, None]:
        y, p = ctx.saved_tensors
        return 2 * tangent * (y.sqrt() / p), None


def _arcosh1p_squared_node(h: Tensor) -> Tensor:
    y: Tensor = (_Arcosh1pSquared.apply if torch.is_grad_enabled() else _Arcosh1pSquared.forward)(h)[0]
    return y


def _arcosh1p_squared_operations(h: Tensor) -> Tensor:
    h = h.clamp(min=_TINY)
    return torch.log1p(h + (h * (2 + h)).sqrt()).square()


_arcosh1p_squared = two_forms(eager=_arcosh1p_squared_node, compiled=_arcosh1p_squared_operations)
"""arcosh(1 + h)², 2h as h → 0; what rounding left below 0 counts as 0, with the slope 2 there."""


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
        self, manifold: Manifold, heads: int, head: Leaf, context: Manifold | None = None, clip: float = RADIUS
    ) -> None:
        super().__init__()
        if heads < 1 or not clip > 0:
            raise ValueError(f"heads={heads}, clip={clip}: attention needs heads ≥ 1 and clip > 0.")
        self.heads, self.head, self.clip = heads, head, clip
        joined = head.repeated(heads)
        source = manifold if context is None else context
        self.to_query = MobiusLinear(manifold, joined)
        self.to_key = MobiusLinear(source, joined)
        self.to_value = MobiusLinear(source, joined)
        self.to_out = MobiusLinear(joined, manifold)
        # |q − k|²/(2√D) makes the scores of dot-product attention, up to a term in |q| and one in |k|
        self.log_sharpness = nn.Parameter(torch.full((heads, 1, 1), -math.log(2 * math.sqrt(head.channels))))

    def forward(
        self, v: Float[Tensor, "B M C"], context: Float[Tensor, "B N C2"] | None = None
    ) -> Float[Tensor, "B M C"]:
        source = v if context is None else context
        query, key, value = map(self._split, (self.to_query(v), self.to_key(source), self.to_value(source)))
        with full_precision(v):
            out = distance_attention(query, key, value, promote(self.log_sharpness).exp(), self.head, clip=self.clip)
        return self.to_out(out.transpose(-3, -2).flatten(-2))

    def _split(self, v: Tensor) -> Tensor:
        """(B, N, heads·D) → (B, heads, N, D)."""
        return v.unflatten(-1, (self.heads, self.head.channels)).transpose(-3, -2)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, clip={self.clip:g}"
