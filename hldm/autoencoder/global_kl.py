"""KL autoencoders with a global point: one latent point for the whole image, alone or beside a map of points.

Legend: images (B, C, H, W) in [0, 1]; features (B, F, h, w) of the encoder; style (B, S), what the decoder sees of the
point. `v` are normal coordinates: of the point (B, n), of the map (B, latent channels, h, w), of both in one vector
(B, D), see `Packing`.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from hldm.autoencoder.convolutional import Frame, ImageEncoder, StyledDecoder, latent_shape
from hldm.autoencoder.convolutional import decoder_stem as make_stem
from hldm.autoencoder.kl import to_scale
from hldm.autoencoder.variational import VariationalAutoencoder
from hldm.geometry import Euclidean, Manifold, Packing, map_and_point, point_like
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


class GlobalKLAutoencoder(VariationalAutoencoder):
    """Convolutions → posterior of one point of H^n → convolutions: `KLAutoencoder` without a map.

        loss = −log p(x | z) + kl_weight · KL(q(z | x) ‖ prior),   Bernoulli likelihood on the grey levels

    The point's signed distances to hyperplanes are what the decoder sees of it: a linear map lays them out over the
    positions that it starts from, and they scale and shift the channels of every ResNet block. On a flat manifold, and
    as c → 0, this is a convolutional VAE with one latent vector.

    Args:
        latent_channels: n, coordinates of the point.
        block_channels: one entry per level; each level but the last halves the side.
        layers_per_block: ResNet blocks per level.
        patch_size: see `KLAutoencoder`, as for the next four.
        padded_side: of the square that images are padded to.
        posterior: "wrapped" or "riemannian".
        prior_scale: σ₀ > 0.
        kl_weight: ≥ 0.
        feature_channels: F, what the encoder says at each position before the point is made of it, and what the decoder
            is given at each position.
        style_channels: S, hyperplanes that the decoder measures the point's distance to.
        latent_rms: > 0, root mean square of the normal coordinates of all locations, see `RunningScale`; None leaves
            the encoder free.
        manifold: where the point lives; its channels must be `latent_channels`.
        decoder_stem: "linear" or "gyroplane".
        image_shape: (C, H, W) of the images.
    """

    def __init__(
        self,
        latent_channels: int,
        block_channels: list[int],
        layers_per_block: int,
        patch_size: int,
        padded_side: int,
        posterior: Literal["wrapped", "riemannian"],
        prior_scale: float,
        kl_weight: float,
        feature_channels: int,
        style_channels: int,
        latent_rms: float | None = None,
        *,
        manifold: Manifold,
        decoder_stem: Literal["linear", "gyroplane"],
        image_shape: tuple[int, int, int],
    ) -> None:
        frame = Frame(image_shape, patch_size, padded_side)
        features = latent_shape(frame, block_channels, feature_channels)
        super().__init__(manifold, posterior, prior_scale, kl_weight, image_shape, (latent_channels,))
        self.encoder = ImageEncoder(frame, feature_channels, block_channels, layers_per_block, double_z=False)
        self.decoder = StyledDecoder(frame, feature_channels, block_channels, layers_per_block, style_channels)
        self.posterior_head = point_head(feature_channels, features[1:], latent_channels)
        self.scaled = nn.Identity() if latent_rms is None else RunningScale(latent_rms)
        self.decoder_stem = point_stem(decoder_stem, manifold, style_channels)
        # a point has no positions: what the decoder starts from is laid out by a linear map
        self.spread = nn.Sequential(
            nn.SiLU(), nn.Linear(style_channels, math.prod(features)), nn.Unflatten(1, features)
        )

    def posterior_parameters(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images → (loc, scale), each (B, n): normal coordinates of the mean, and standard deviations."""
        loc, log_variance = self.posterior_head(self.encoder(images)).chunk(2, dim=1)
        return self.scaled(loc), to_scale(log_variance)

    def decode(self, v: Tensor) -> Tensor:
        """Normal coordinates (B, n) → Bernoulli logits of the pixels, (B, C, H, W)."""
        style = self.decoder_stem(v)
        return self.decoder(self.spread(style), style)


class MapGlobalKLAutoencoder(VariationalAutoencoder):
    """A map of points for detail beside one point for the whole image: `KLAutoencoder` with a style.

        loss = −log p(x | z) + kl_weight · KL(q(z | x) ‖ prior),   z = (map, point) in a product of manifolds

    The map enters the decoder as in `KLAutoencoder`. The point enters by the decoder's normalisation layers: its signed
    distances to hyperplanes scale and shift the channels of every ResNet block. The point lives on one ball with the
    curvature of the map's balls, and on flat space where there are none. On flat manifolds, and as c → 0, both parts
    are Gaussian.

    Args:
        latent_channels: coordinates of one point of the map.
        block_channels: one entry per level; each level but the last halves the side.
        layers_per_block: ResNet blocks per level.
        patch_size: see `KLAutoencoder`, as for the next four.
        padded_side: of the square that images are padded to.
        posterior: "wrapped"; a Riemannian posterior is not isotropic over all positions of a flat map, and this one
            would be.
        prior_scale: σ₀ > 0, of both parts.
        kl_weight: ≥ 0, of both parts.
        feature_channels: F, what the encoder says at each position beside the map's posterior, for the point.
        style_channels: S, hyperplanes that the decoder measures the point's distance to.
        global_channels: n, coordinates of the point.
        flat_map: whether the map is flat whatever `manifold` is, so that only the point is hyperbolic.
        manifold: where a point of the map lives; its channels must be `latent_channels`.
        decoder_stem: "linear" or "gyroplane", of both parts.
        image_shape: (C, H, W) of the images.
    """

    packing: Packing

    def __init__(
        self,
        latent_channels: int,
        block_channels: list[int],
        layers_per_block: int,
        patch_size: int,
        padded_side: int,
        posterior: Literal["wrapped"],
        prior_scale: float,
        kl_weight: float,
        feature_channels: int,
        style_channels: int,
        global_channels: int,
        flat_map: bool,
        *,
        manifold: Manifold,
        decoder_stem: Literal["linear", "gyroplane"],
        image_shape: tuple[int, int, int],
    ) -> None:
        frame = Frame(image_shape, patch_size, padded_side)
        sides = latent_shape(frame, block_channels, latent_channels)[1:]
        of_map = Euclidean(latent_channels) if flat_map else manifold
        of_both = map_and_point(of_map, sides, point := point_like(manifold, global_channels))
        super().__init__(of_both, posterior, prior_scale, kl_weight, image_shape, (of_both.channels,))
        self.packing = Packing(of_map, sides, global_channels)
        features = 2 * latent_channels + feature_channels
        self.encoder = ImageEncoder(frame, features, block_channels, layers_per_block, double_z=False)
        self.decoder = StyledDecoder(frame, latent_channels, block_channels, layers_per_block, style_channels)
        self.posterior_head = nn.Conv2d(features, 2 * latent_channels, 1)
        self.point_head = point_head(features, sides, global_channels)
        self.decoder_stem = make_stem(decoder_stem, of_map, latent_channels)
        self.point_stem = point_stem(decoder_stem, point, style_channels)

    def posterior_parameters(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images → (loc, scale), each (B, D): normal coordinates of the mean, and standard deviations."""
        features = self.encoder(images)
        of_map, of_point = self.posterior_head(features).chunk(2, dim=1), self.point_head(features).chunk(2, dim=1)
        loc, log_variance = (self.packing.pack(*both) for both in zip(of_map, of_point, strict=True))
        return loc, to_scale(log_variance)

    def decode(self, v: Tensor) -> Tensor:
        """Normal coordinates (B, D) → Bernoulli logits of the pixels, (B, C, H, W)."""
        of_map, of_point = self.packing.unpack(v)
        return self.decoder(self.decoder_stem(of_map), self.point_stem(of_point))
