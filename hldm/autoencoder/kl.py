"""Stable Diffusion's KL autoencoder with its bottleneck on a manifold.

Legend: images (B, C, H, W) in [0, 1]; `v` normal coordinates of the latents, (B, latent channels, h, w), one point per
spatial position; `z` the points themselves.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from hldm.autoencoder.convolutional import Frame, ImageDecoder, ImageEncoder, latent_shape
from hldm.autoencoder.convolutional import decoder_stem as make_stem
from hldm.autoencoder.variational import VariationalAutoencoder
from hldm.geometry import Manifold


class KLAutoencoder(VariationalAutoencoder):
    """Encoder → posterior on the manifold → decoder, with a small weight on the KL term (Rombach et al. 2022, app. G).

        loss = −log p(x | z) + kl_weight · KL(q(z | x) ‖ prior),   Bernoulli likelihood on the grey levels

    On a flat manifold this is the KL autoencoder of latent diffusion. What a geometry changes is the posterior (a
    normal becomes a wrapped or a Riemannian normal) and, where `decoder_stem` says so, the layer that takes a point
    into the decoder (an affine map becomes distances to gyroplanes with parameters of the same shape).

    Args:
        latent_channels: coordinates of one latent point.
        block_channels: one entry per level; each level but the last halves the side.
        layers_per_block: ResNet blocks per level.
        patch_size: side of the pixel blocks that are folded into channels before the first level and unfolded after the
            last: 2 makes every convolution at the full side four times cheaper.
        padded_side: images are padded with black to this height and width, so that levels and patches divide them.
        posterior: "wrapped" (diagonal scale) or "riemannian" (isotropic per point).
        prior_scale: σ₀ of the centred wrapped or Riemannian prior, > 0.
        kl_weight: weight of the KL term, ≥ 0.
        latent_rms: > 0, root mean square of the normal coordinates of every image's locations, which are scaled to it;
            None leaves the encoder free, which can shrink its latents until curvature no longer acts.
        manifold: where the latents live; its channels must be `latent_channels`.
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
        latent_rms: float | None = None,
        *,
        manifold: Manifold,
        decoder_stem: Literal["linear", "gyroplane"],
        image_shape: tuple[int, int, int],
    ) -> None:
        frame = Frame(image_shape, patch_size, padded_side)
        shape = latent_shape(frame, block_channels, latent_channels)
        super().__init__(manifold, posterior, prior_scale, kl_weight, image_shape, shape)
        self.encoder = ImageEncoder(frame, latent_channels, block_channels, layers_per_block, double_z=True)
        self.decoder = ImageDecoder(frame, latent_channels, block_channels, layers_per_block)
        self.latent_rms = latent_rms
        self.posterior_head = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.decoder_stem = make_stem(decoder_stem, manifold, latent_channels)

    def posterior_parameters(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images → (loc, scale), both shaped like a latent: normal coordinates of the mean, and standard deviations."""
        loc, log_variance = self.posterior_head(self.encoder(images)).chunk(2, dim=1)
        if self.latent_rms is not None:
            loc = loc * (self.latent_rms * (loc.square().mean((1, 2, 3), keepdim=True) + 1e-12).rsqrt())
        return loc, to_scale(log_variance)

    def decode(self, v: Tensor) -> Tensor:
        """Normal coordinates → Bernoulli logits of the pixels, (B, C, H, W)."""
        return self.decoder(self.decoder_stem(v))


def to_scale(log_variance: Tensor) -> Tensor:
    """What an encoder says → standard deviations."""
    # the clamp of the reference code, tightened: e^±10 would leave float32 on the ball
    return torch.exp(0.5 * log_variance.clamp(-12.0, 4.0))
