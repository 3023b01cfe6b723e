"""Denoisers of one latent point: an MLP, and beside a map an MLP and a U-Net, each of which sees the other.

They see normal coordinates, so each is the same network on every manifold.
"""

from collections.abc import Callable
from typing import Literal

from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn

from hldm.diffusion.denoiser import Denoiser
from hldm.geometry import Packing
from hldm.nn import Condition

TIME_CHANNELS = 64
"""Sines and cosines of the time."""


class MLPDenoiser(nn.Module):
    """Residual blocks of two linear layers, whose normalisation the time and the label scale and shift.

        h ← h + g·MLP((1 + a)·LayerNorm(h) + b),   (a, b, g) = linear(time + label)   Peebles & Xie (2023), adaLN-Zero

    Every block starts as the identity.

    Args:
        width: of the residual stream.
        blocks: how many, ≥ 1.
        latent_shape: (n,), the coordinates of the point.
        classes: number of labels; one more embedding stands for "no label".
        context_channels: of the features of a text, whose mean over its tokens is what the network sees of it; None for
            labels.
        label_embedding: is given the table of label embeddings and returns the module to use in its place.
        feature_channels: numbers that the network is told of each sample beside its point; 0 for none.
    """

    def __init__(
        self,
        width: int,
        blocks: int,
        *,
        latent_shape: tuple[int],
        classes: int,
        context_channels: int | None = None,
        label_embedding: Callable[[nn.Embedding], nn.Module] = lambda table: table,
        feature_channels: int = 0,
    ) -> None:
        super().__init__()
        (channels,) = latent_shape
        self.time = time_embedding(width)
        self.label = label_embedding(nn.Embedding(classes + 1, width)) if context_channels is None else None
        self.text = None if context_channels is None else nn.Linear(context_channels, width)
        self.features = nn.Linear(feature_channels, width) if feature_channels else None
        self.first = nn.Linear(channels, width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, channels))

    def forward(self, v: Tensor, t: Tensor, condition: Condition, features: Tensor | None = None) -> Tensor:
        """Prediction shaped like v.

        Args:
            v: normal coordinates, (B, n).
            t: time of each sample, (B,), in [0, 1].
            condition: labels, or hidden and mask, as the network was built for.
            features: (B, feature_channels), where there are any.
        """
        # the sinusoidal embedding was made for 1000 discrete steps
        emb = self.time(1000 * t) + self._embed(condition)
        if self.features is not None:
            emb = emb + self.features(features)
        h = self.first(v)
        for block in self.blocks:
            h = block(h, emb)
        return self.last(h)

    def _embed(self, condition: Condition) -> Tensor:
        """(B, width)."""
        if self.label is not None:
            return self.label(condition.labels)
        assert self.text is not None
        return self.text(token_mean(condition))


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


def time_embedding(width: int) -> nn.Sequential:
    """Time in [0, 1000], (B,) → (B, width)."""
    return nn.Sequential(
        Timesteps(TIME_CHANNELS, flip_sin_to_cos=True, downscale_freq_shift=0), TimestepEmbedding(TIME_CHANNELS, width)
    )


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


class MapGlobalDenoiser(nn.Module):
    """A map and a point, denoised together: the U-Net sees the point, and the point's MLP what the U-Net saw.

    The point steers the U-Net through its time embedding. The U-Net puts out features beside its prediction, and their
    means over all positions steer the MLP, which predicts the point.

    Args:
        block_channels: of the U-Net, see `Denoiser`, as for the next five.
        layers_per_block: ResNet blocks per level.
        head_channels: channels of one attention head.
        stem: how the map enters.
        attention: of the U-Net.
        curvature: c ≥ 0 of the U-Net's stem and attention.
        width: of the MLP, see `MLPDenoiser`, as for the next.
        blocks: how many.
        learnable_curvature: whether c is learned, see `Denoiser`.
        latent_shape: how map and point lie in the latent vector.
        classes: number of labels; one more embedding stands for "no label".
        context_channels: of the features of a text, None for labels.
        label_embedding: is given each table of label embeddings and returns the module to use in its place.
    """

    def __init__(
        self,
        block_channels: list[int],
        layers_per_block: int,
        head_channels: int,
        stem: Literal["linear", "gyroplane"],
        attention: Literal["dot_product", "euclidean_distance", "hyperbolic_distance"],
        curvature: float,
        width: int,
        blocks: int,
        learnable_curvature: bool = False,
        *,
        latent_shape: Packing,
        classes: int,
        context_channels: int | None = None,
        label_embedding: Callable[[nn.Embedding], nn.Module] = lambda table: table,
    ) -> None:
        super().__init__()
        self.packing = latent_shape
        channels, *_ = latent_shape.map_shape
        features = block_channels[0]
        self.map = Denoiser(
            block_channels,
            layers_per_block,
            head_channels,
            stem,
            attention,
            curvature,
            learnable_curvature,
            latent_shape=latent_shape.map_shape,
            classes=classes,
            context_channels=context_channels,
            label_embedding=label_embedding,
            feature_channels=features,
            point_channels=latent_shape.point_channels,
        )
        self.point = MLPDenoiser(
            width,
            blocks,
            latent_shape=(latent_shape.point_channels,),
            classes=classes,
            context_channels=context_channels,
            label_embedding=label_embedding,
            feature_channels=features,
        )
        self.parts = (channels, features)

    def forward(self, v: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Prediction shaped like v, (B, D); the other arguments are those of `Denoiser`."""
        of_map, of_point = self.packing.unpack(v)
        prediction, features = self.map(of_map, t, condition, of_point).split(self.parts, 1)
        return self.packing.pack(prediction, self.point(of_point, t, condition, features.mean((2, 3))))
