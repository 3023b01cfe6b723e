"""Denoisers of one latent point: an MLP, and a transformer that attends to its condition token by token."""

from collections.abc import Callable

from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn

from hldm.config import diffusion as config
from hldm.diffusion.denoiser import EMBEDDED_STEPS, Denoiser, LabelEmbedding, plain_table
from hldm.layout import LatentLayout
from hldm.nn import Condition

TIME_CHANNELS = 64
"""Sines and cosines of the time."""


class PointDenoiser(Denoiser):
    """A residual stream of one point, and the embeddings of time and condition that steer its blocks.

    A label is a row of a table; a text is a linear map of the mean of its features over the tokens.

    Args:
        width: of the residual stream and of the embeddings.
        blocks: how many blocks `make_block` makes.
        make_block: a block starts as the identity.
        layout: one point.
        classes: number of labels; one more embedding stands for "no label".
        context_channels: D of the features of a text; None for labels.
        label_embedding: is given the table of label embeddings and returns the module to use in its place.
        feature_channels: numbers that the network is told of each sample beside its point; 0 for none.
    """

    def __init__(
        self,
        width: int,
        blocks: int,
        make_block: Callable[[], nn.Module],
        *,
        layout: LatentLayout,
        classes: int,
        context_channels: int | None,
        label_embedding: LabelEmbedding,
        feature_channels: int = 0,
    ) -> None:
        super().__init__()
        (channels,) = layout.shape
        self.time = nn.Sequential(
            Timesteps(TIME_CHANNELS, flip_sin_to_cos=True, downscale_freq_shift=0),
            TimestepEmbedding(TIME_CHANNELS, width),
        )
        self.label = label_embedding(nn.Embedding(classes + 1, width)) if context_channels is None else None
        self.text = None if context_channels is None else nn.Linear(context_channels, width)
        self.features = nn.Linear(feature_channels, width) if feature_channels else None
        self.first = nn.Linear(channels, width)
        self.blocks = nn.ModuleList(make_block() for _ in range(blocks))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, channels))

    def embed_time(self, t: Tensor) -> Tensor:
        """Times (B,) in [0, 1] → (B, width)."""
        return self.time(EMBEDDED_STEPS * t)

    def embed_condition(self, condition: Condition) -> Tensor:
        """The label, or the whole of the text, (B, width)."""
        if self.label is not None:
            return self.label(condition.labels)
        assert self.text is not None
        return self.text(token_mean(condition))


class MLPDenoiser(PointDenoiser):
    """Residual blocks of two linear layers, whose normalisation time and condition scale and shift.

        h ← h + g·MLP((1 + a)·LayerNorm(h) + b),   (a, b, g) = linear(time + label)   Peebles & Xie (2023), adaLN-Zero

    Args:
        settings: the section `denoiser`; the others are those of `PointDenoiser`.
    """

    def __init__(
        self,
        settings: config.MLPDenoiser,
        *,
        layout: LatentLayout,
        classes: int,
        context_channels: int | None = None,
        label_embedding: LabelEmbedding = plain_table,
        feature_channels: int = 0,
    ) -> None:
        super().__init__(
            settings.width,
            settings.blocks,
            lambda: ResidualBlock(settings.width),
            layout=layout,
            classes=classes,
            context_channels=context_channels,
            label_embedding=label_embedding,
            feature_channels=feature_channels,
        )

    def forward(self, v: Tensor, t: Tensor, condition: Condition, features: Tensor | None = None) -> Tensor:
        """Prediction shaped like v, (B, n).

        Args:
            features: (B, feature_channels), where there are any.
        """
        emb = self.embed_time(t) + self.embed_condition(condition)
        if self.features is not None:
            emb = emb + self.features(features)
        h = self.first(v)
        for block in self.blocks:
            h = block(h, emb)
        return self.last(h)


class CrossAttentionDenoiser(PointDenoiser):
    """A transformer whose one token, the point, attends to the tokens of a text, or to the embedding of its label.

    The label, or the mean of the text's features, joins the time in scaling and shifting the normalisation, as a pooled
    text does in SDXL (Podell et al. 2023, section 2.1): by attention alone some classes are learned late. One token has
    nothing to tell itself, so there is no self-attention.

    Args:
        settings: the section `denoiser`; the others are those of `PointDenoiser`.
    """

    def __init__(
        self,
        settings: config.CrossAttention,
        *,
        layout: LatentLayout,
        classes: int,
        context_channels: int | None = None,
        label_embedding: LabelEmbedding = plain_table,
    ) -> None:
        width = settings.width
        super().__init__(
            width,
            settings.blocks,
            lambda: CrossAttentionBlock(width, settings.heads, context_channels or width),
            layout=layout,
            classes=classes,
            context_channels=context_channels,
            label_embedding=label_embedding,
        )

    def forward(self, v: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Prediction shaped like v, (B, n)."""
        whole = self.embed_condition(condition)
        if condition.hidden is None:
            context, padding = whole.unsqueeze(1), None
        else:
            assert condition.mask is not None
            context, padding = condition.hidden, ~condition.mask
        emb = self.embed_time(t) + whole
        h = self.first(v)
        for block in self.blocks:
            h = block(h, emb, context, padding)
        return self.last(h)


class ResidualBlock(nn.Module):
    """h ← h + g·MLP((1 + a)·LayerNorm(h) + b), on (B, width), with (a, b, g) from an embedding (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = modulation(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        scale, shift, gate = self.modulation(emb).chunk(3, dim=1)
        return h + gate * self.mlp((1 + scale) * self.norm(h) + shift)


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


def token_mean(condition: Condition) -> Tensor:
    """Mean of a text's features over the tokens that are there, (B, D)."""
    assert condition.hidden is not None
    assert condition.mask is not None
    mask = condition.mask.unsqueeze(2).to(condition.hidden.dtype)
    return (mask * condition.hidden).sum(1) / mask.sum(1).clamp_min(1)


def modulation(width: int) -> nn.Sequential:
    """An embedding (B, width) → scale, shift and gate of a residual block, (B, 3·width), all 0 at the start."""
    linear = nn.Linear(width, 3 * width)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.SiLU(), linear)
