"""A denoiser of one latent point that attends to what it is conditioned on.

Like all denoisers it sees normal coordinates, so it is the same network on every manifold.
"""

from collections.abc import Callable

from torch import Tensor, nn

from hldm.diffusion.point_denoiser import ResidualBlock, modulation, time_embedding, token_mean
from hldm.nn import Condition


class CrossAttentionDenoiser(nn.Module):
    """A transformer whose one token, the point, attends to the tokens of a text, or to the embedding of its label.

    The label, or the mean of the text's features, joins the time in scaling and shifting the normalisation, as a pooled
    text does in SDXL (Podell et al. 2023, section 2.1): by attention alone some classes are learned late. One token has
    nothing to tell itself, so there is no self-attention. Every block starts as the identity.

    Args:
        width: of the token.
        blocks: how many, ≥ 1.
        heads: of the attention, a divisor of `width`.
        latent_shape: (n,), the coordinates of the point.
        classes: number of labels; one more embedding stands for "no label".
        context_channels: D of the features of a text, None for labels.
        label_embedding: is given the table of label embeddings and returns the module to use in its place.
    """

    def __init__(
        self,
        width: int,
        blocks: int,
        heads: int,
        *,
        latent_shape: tuple[int],
        classes: int,
        context_channels: int | None = None,
        label_embedding: Callable[[nn.Embedding], nn.Module] = lambda table: table,
    ) -> None:
        super().__init__()
        (channels,) = latent_shape
        self.time = time_embedding(width)
        self.label = label_embedding(nn.Embedding(classes + 1, width)) if context_channels is None else None
        self.text = None if context_channels is None else nn.Linear(context_channels, width)
        self.first = nn.Linear(channels, width)
        self.blocks = nn.ModuleList(CrossAttentionBlock(width, heads, context_channels or width) for _ in range(blocks))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, channels))

    def forward(self, v: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Prediction shaped like v, (B, n); the other arguments are those of `MLPDenoiser`."""
        if self.label is not None:
            whole = self.label(condition.labels)
            context, padding = whole.unsqueeze(1), None
        else:
            assert self.text is not None
            assert condition.hidden is not None
            assert condition.mask is not None
            whole = self.text(token_mean(condition))
            context, padding = condition.hidden, ~condition.mask
        # the sinusoidal embedding was made for 1000 discrete steps
        emb = self.time(1000 * t) + whole
        h = self.first(v)
        for block in self.blocks:
            h = block(h, emb, context, padding)
        return self.last(h)


class CrossAttentionBlock(nn.Module):
    """h ← h + g·Attention((1 + a)·LayerNorm(h) + b, context), with (a, b, g) from an embedding; then a `ResidualBlock`.

    The attention has a learned token of its own beside the context: the weight of a single label would always be 1.

    Shapes: h and the embedding (B, width), context (B, L, context_channels), padding bool (B, L) or None → (B, width).
    """

    def __init__(self, width: int, heads: int, context_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = modulation(width)
        self.attention = nn.MultiheadAttention(
            width, heads, add_bias_kv=True, kdim=context_channels, vdim=context_channels, batch_first=True
        )
        self.mlp = ResidualBlock(width)

    def forward(self, h: Tensor, emb: Tensor, context: Tensor, padding: Tensor | None) -> Tensor:
        scale, shift, gate = self.modulation(emb).chunk(3, dim=1)
        query = ((1 + scale) * self.norm(h) + shift).unsqueeze(1)
        found, _ = self.attention(query, context, context, key_padding_mask=padding, need_weights=False)
        return self.mlp(h + gate * found.squeeze(1), emb)
