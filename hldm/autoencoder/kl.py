"""Stable Diffusion's KL autoencoder with its bottleneck on a manifold.

Legend: images (B, C, H, W) in [0, 1]; `v` normal coordinates of the latents, (B, latent channels, h, w), one point per
spatial position; `z` the points themselves.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import Decoder, Encoder
from torch import Tensor, nn

from hldm.autoencoder.base import Autoencoder
from hldm.errors import UserError
from hldm.geometry import Manifold
from hldm.nn import Gyroplane


class KLAutoencoder(Autoencoder):
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
        *,
        manifold: Manifold,
        decoder_stem: Literal["linear", "gyroplane"],
        image_shape: tuple[int, int, int],
    ) -> None:
        channels, height, width = image_shape
        if padded_side < max(height, width):
            raise UserError(
                f"autoencoder.padded_side={padded_side} is less than the {height} × {width} pixels of an image. "
                f"Give the next multiple that fits, such as autoencoder.padded_side={-(-max(height, width) // 8) * 8}."
            )
        latent_side = padded_side // (patch_size * 2 ** (len(block_channels) - 1))
        latent_shape = (latent_channels, latent_side, latent_side)
        super().__init__(manifold, posterior, prior_scale, kl_weight, image_shape, latent_shape)
        self.patch_size = patch_size
        self.padding = (padded_side - width, padded_side - height)
        levels, groups, patch_channels = len(block_channels), 8, channels * patch_size**2
        blocks = {"layers_per_block": layers_per_block, "norm_num_groups": groups}
        self.encoder = Encoder(
            patch_channels, latent_channels, ("DownEncoderBlock2D",) * levels, tuple(block_channels), **blocks
        )
        self.decoder = Decoder(
            latent_channels, patch_channels, ("UpDecoderBlock2D",) * levels, tuple(block_channels), **blocks
        )
        self.posterior_head = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.decoder_stem = (
            Gyroplane(manifold, latent_channels, dim=1)
            if decoder_stem == "gyroplane"
            else nn.Conv2d(latent_channels, latent_channels, 1)
        )

    def posterior_parameters(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images → (loc, scale), both shaped like a latent: normal coordinates of the mean, and standard deviations."""
        right, bottom = self.padding
        x = F.pad(2 * images - 1, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2), value=-1.0)
        moments = self.posterior_head(self.encoder(F.pixel_unshuffle(x, self.patch_size)))
        loc, log_variance = moments.chunk(2, dim=1)
        # the clamp of the reference code, tightened: e^±10 would leave float32 on the ball
        return loc, torch.exp(0.5 * log_variance.clamp(-12.0, 4.0))

    def decode(self, v: Tensor) -> Tensor:
        """Normal coordinates → Bernoulli logits of the pixels, (B, C, H, W)."""
        x = F.pixel_shuffle(self.decoder(self.decoder_stem(v)), self.patch_size)
        right, bottom = self.padding
        _, height, width = self.image_shape
        return x[..., bottom // 2 : bottom // 2 + height, right // 2 : right // 2 + width]
