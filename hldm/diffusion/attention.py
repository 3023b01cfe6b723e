"""Attention by distance as a processor of diffusers' attention layers.

Legend: B maps, M queries (positions of the map), N keys (the same positions, or the tokens of a text), C channels in
heads of D = k·n: k balls of dimension n each.
"""

import math

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from hldm.geometry import Manifold
from hldm.geometry.ops import full_precision
from hldm.nn import distance_attention


class DistanceAttention(nn.Module):
    """An attention processor whose scores are squared distances and whose outputs are midpoints of values.

        out_i = midpoint of the values with weights softmax_j(−τ d(q_i, k_j)² + mask_j)

    (Gulcehre et al. 2019, with squared distances; on balls the midpoint is Einstein's, in Klein coordinates Σ γ v/Σ γ.)
    The layer's own linear maps make normal coordinates of queries, keys and values, which are clipped to √c|v| ≤ 4 in
    every ball. A learned sharpness τ per head is all that the layer has beside its usual parameters. It starts where
    −τ|q − k|² is the dot-product score ⟨q, k⟩/√D up to a term in |q| and one in |k|.

    As c → 0 it is Euclidean distance attention, at the rate O(c); where `manifold` is Euclidean it is that exactly.

    Args:
        manifold: of one head, as `largest_balls` makes it.
        heads: number of heads.
    """

    def __init__(self, manifold: Manifold, heads: int) -> None:
        super().__init__()
        self.manifold, self.heads = manifold, heads
        self.log_sharpness = nn.Parameter(torch.full((heads, 1, 1), -math.log(2 * math.sqrt(manifold.channels))))

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """`forward`; diffusers looks here for what a processor takes, and middle blocks give it `temb`."""
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)

    def forward(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """What `AttnProcessor2_0` of diffusers computes, with other scores and averages.

        Args:
            attn: the layer with the linear maps and the normalisation.
            hidden_states: (B, C, h, w) or (B, M, C).
            encoder_hidden_states: (B, N, C'), keys and values of cross-attention; of the map itself if None.
            attention_mask: (B, 1, N), added to the scores: very negative at padding.
            temb: not used.
        """
        x = hidden_states.flatten(2).transpose(1, 2) if hidden_states.ndim == 4 else hidden_states
        if attn.group_norm is not None:
            x = attn.group_norm(x.transpose(1, 2)).transpose(1, 2)
        if not self.manifold.is_flat:
            x = x.contiguous()  # once, in place of a copy in each of the linear maps
        context = x if encoder_hidden_states is None else encoder_hidden_states
        if encoder_hidden_states is not None and attn.norm_cross is not None:
            context = attn.norm_encoder_hidden_states(context)
        # features → points
        query, key, value = (self._split(a) for a in (attn.to_q(x), attn.to_k(context), attn.to_v(context)))
        mask = None if attention_mask is None else attention_mask.unsqueeze(1)
        with full_precision(x):
            out = distance_attention(query, key, value, self.log_sharpness.exp(), self.manifold, mask)
        # points → features
        out = attn.to_out[0](out.transpose(1, 2).flatten(2).to(x.dtype))
        out = attn.to_out[1](out)
        if hidden_states.ndim == 4:
            out = out.transpose(1, 2).unflatten(2, hidden_states.shape[2:])
        if attn.residual_connection:
            out = out + hidden_states
        return out / attn.rescale_output_factor

    def _split(self, x: Tensor) -> Tensor:
        """(B, N, C) → (B, heads, N, D)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def extra_repr(self) -> str:
        return f"heads={self.heads}"
