"""KL autoencoders with a global point: one latent point for the whole image, alone or beside a map of points.

Legend: images (B, C, H, W) in [0, 1]; features (B, F, h, w) of the encoder; style (B, S), what the decoder sees of the
point. `v` are normal coordinates: of the point (B, n), of the map (B, latent channels, h, w), of both in one vector
(B, D), as `LatentLayout` packs them.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from hldm.autoencoder.convolutional import DrawsImages, ImageEncoder, StyledDecoder, folding_and_sides, map_stem
from hldm.autoencoder.variational import VariationalAutoencoder, to_scale
from hldm.config.autoencoder import GlobalKL, MapGlobalKL
from hldm.geometry import Euclidean, Manifold, point_like
from hldm.layout import LatentLayout
from hldm.nn import Gyroplane


def point_stem(kind: Literal["linear", "gyroplane"], manifold: Manifold, channels: int) -> nn.Module:
    """(B, n) normal coordinates of a point → (B, channels): an affine map, or signed distances to gyroplanes."""
    return Gyroplane(manifold, channels) if kind == "gyroplane" else nn.Linear(manifold.channels, channels)


def point_head(features: int, sides: tuple[int, int], channels: int) -> nn.Module:
    """(B, features, h, w) → (B, 2n): mean and log variance of the point, from all positions."""
    return nn.Sequential(nn.SiLU(), nn.Flatten(), nn.Linear(features * math.prod(sides), 2 * channels))


class RunningScale(nn.Module):
    """v → v · rms/√(mean square), the mean over coordinates and batch; in evaluation the running mean of training's.

    One point has no other coordinates to be compared with, as a map has: scaled by itself it would lie on a sphere.

    Args:
        rms: > 0.
        momentum: weight of the latest batch in the running mean.
    """

    mean_square: Tensor

    def __init__(self, rms: float, momentum: float = 0.1) -> None:
        super().__init__()
        self.rms, self.momentum = rms, momentum
        self.register_buffer("mean_square", torch.ones(()))

    def forward(self, v: Tensor) -> Tensor:
        """(B, n) → (B, n)."""
        mean_square = self.mean_square
        if self.training:
            mean_square = v.square().mean()
            self.mean_square.lerp_(mean_square.detach(), self.momentum)
        return v * (self.rms * (mean_square + 1e-12).rsqrt())


class GlobalKLAutoencoder(DrawsImages, VariationalAutoencoder):
    """Convolutions → posterior of one point of H^n → convolutions: `KLAutoencoder` without a map.

        loss = −log p(x | z) + kl_weight · KL(q(z | x) ‖ prior),   Bernoulli likelihood on the grey levels

    The decoder sees the point by its signed distances to hyperplanes. A linear map lays them out over the positions
    that the decoder starts from, and they scale and shift the channels of every ResNet block. On a flat manifold, and
    as c → 0, this is a convolutional VAE with one latent vector.

    Args:
        settings: the section `autoencoder`.
        manifold: where the point lives, of `settings.latent_channels` channels.
        decoder_stem: the layer that takes the point into the decoder.
        image_shape: (C, H, W).
    """

    def __init__(
        self,
        settings: GlobalKL,
        *,
        manifold: Manifold,
        decoder_stem: Literal["linear", "gyroplane"],
        image_shape: tuple[int, ...],
    ) -> None:
        folding, sides = folding_and_sides(settings, image_shape)
        super().__init__(settings, layout=LatentLayout.of_point(manifold), image_shape=image_shape)
        channels, style = settings.feature_channels, settings.style_channels
        self.encoder = ImageEncoder(settings, folding, channels, double_z=False)
        self.decoder = StyledDecoder(settings, folding, channels)
        self.posterior_head = point_head(channels, sides, settings.latent_channels)
        self.scaled = nn.Identity() if settings.latent_rms is None else RunningScale(settings.latent_rms)
        self.decoder_stem = point_stem(decoder_stem, manifold, style)
        # a point has no positions: a linear map gives the decoder features to start from at each of them
        self.lay_out = nn.Sequential(
            nn.SiLU(), nn.Linear(style, channels * math.prod(sides)), nn.Unflatten(1, (channels, *sides))
        )

    def posterior_parameters(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images → (loc, scale), each (B, n): normal coordinates of the mean, and standard deviations."""
        loc, log_variance = self.posterior_head(self.encoder(images)).chunk(2, dim=1)
        return self.scaled(loc), to_scale(log_variance)

    def decode(self, v: Tensor) -> Tensor:
        """Normal coordinates (B, n) → Bernoulli logits of the pixels, (B, C, H, W)."""
        style = self.decoder_stem(v)
        return self.decoder(self.lay_out(style), style)


class MapGlobalKLAutoencoder(DrawsImages, VariationalAutoencoder):
    """A map of points for detail beside one point for the whole image: `KLAutoencoder` with a style.

        loss = −log p(x | z) + kl_weight · KL(q(z | x) ‖ prior),   z = (map, point) in a product of manifolds

    The map enters the decoder as in `KLAutoencoder`. The point enters by the decoder's normalisation layers: its signed
    distances to hyperplanes scale and shift the channels of every ResNet block. The point lives on one ball with the
    curvature of the map's balls, and on flat space where there are none. On flat manifolds, and as c → 0, both parts
    are Gaussian.

    The posterior is the wrapped normal only: `RiemannianNormal` has one scale per factor, which all positions of a flat
    map would be forced to share.

    Args:
        settings: the section `autoencoder`.
        manifold: where one point of the map lives, of `settings.latent_channels` channels; not read with `flat_map`
            but for the point's curvature.
        decoder_stem: the layer that takes points into the decoder, of both parts.
        image_shape: (C, H, W).
    """

    def __init__(
        self,
        settings: MapGlobalKL,
        *,
        manifold: Manifold,
        decoder_stem: Literal["linear", "gyroplane"],
        image_shape: tuple[int, ...],
    ) -> None:
        folding, sides = folding_and_sides(settings, image_shape)
        of_map = Euclidean(settings.latent_channels) if settings.flat_map else manifold
        point = point_like(manifold, settings.global_channels)
        super().__init__(settings, layout=LatentLayout.of_both(of_map, sides, point), image_shape=image_shape)
        channels = settings.latent_channels
        features = 2 * channels + settings.feature_channels
        self.encoder = ImageEncoder(settings, folding, features, double_z=False)
        self.decoder = StyledDecoder(settings, folding, channels)
        self.posterior_head = nn.Conv2d(features, 2 * channels, 1)
        self.point_head = point_head(features, sides, settings.global_channels)
        self.decoder_stem = map_stem(decoder_stem, of_map)
        self.point_stem = point_stem(decoder_stem, point, settings.style_channels)

    def posterior_parameters(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images → (loc, scale), each (B, D): normal coordinates of the mean, and standard deviations."""
        features = self.encoder(images)
        of_map, of_point = self.posterior_head(features).chunk(2, dim=1), self.point_head(features).chunk(2, dim=1)
        loc, log_variance = (self.layout.pack(*both) for both in zip(of_map, of_point, strict=True))
        return loc, to_scale(log_variance)

    def decode(self, v: Tensor) -> Tensor:
        """Normal coordinates (B, D) → Bernoulli logits of the pixels, (B, C, H, W)."""
        of_map, of_point = self.layout.unpack(v)
        return self.decoder(self.decoder_stem(of_map), self.point_stem(of_point))
