"""Stable Diffusion's KL autoencoder with its bottleneck on a manifold.

Legend: images (B, C, H, W) in [0, 1]; `v` normal coordinates of the latents, (B, latent channels, h, w), one point per
spatial position; `z` the points themselves.
"""

from typing import Literal

from torch import Tensor, nn

from hldm.autoencoder.convolutional import DrawsImages, ImageDecoder, ImageEncoder, folding_and_sides, map_stem
from hldm.autoencoder.variational import VariationalAutoencoder, to_scale
from hldm.config.autoencoder import KL
from hldm.geometry import Manifold
from hldm.layout import LatentLayout


class KLAutoencoder(DrawsImages, VariationalAutoencoder):
    """Encoder → posterior on the manifold → decoder, with a small weight on the KL term (Rombach et al. 2022, app. G).

        loss = −log p(x | z) + kl_weight · KL(q(z | x) ‖ prior),   Bernoulli likelihood on the grey levels

    On a flat manifold this is the KL autoencoder of latent diffusion. What a geometry changes is the posterior (a
    normal becomes a wrapped or a Riemannian normal) and, where `decoder_stem` says so, the layer that takes a point
    into the decoder (an affine map becomes distances to gyroplanes with parameters of the same shape).

    Args:
        settings: the section `autoencoder`.
        manifold: where one latent point lives, of `settings.latent_channels` channels.
        decoder_stem: the layer that takes a point into the decoder.
        image_shape: (C, H, W).
    """

    def __init__(
        self,
        settings: KL,
        *,
        manifold: Manifold,
        decoder_stem: Literal["linear", "gyroplane"],
        image_shape: tuple[int, ...],
    ) -> None:
        folding, sides = folding_and_sides(settings, image_shape)
        super().__init__(settings, layout=LatentLayout.of_map(manifold, sides), image_shape=image_shape)
        channels = settings.latent_channels
        self.encoder = ImageEncoder(settings, folding, channels, double_z=True)
        self.decoder = ImageDecoder(settings, folding, channels)
        self.latent_rms = settings.latent_rms
        self.posterior_head = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.decoder_stem = map_stem(decoder_stem, manifold)

    def posterior_parameters(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images → (loc, scale), both shaped like a latent: normal coordinates of the mean, and standard deviations."""
        loc, log_variance = self.posterior_head(self.encoder(images)).chunk(2, dim=1)
        if self.latent_rms is not None:
            loc = loc * (self.latent_rms * (loc.square().mean((1, 2, 3), keepdim=True) + 1e-12).rsqrt())
        return loc, to_scale(log_variance)

    def decode(self, v: Tensor) -> Tensor:
        """Normal coordinates → Bernoulli logits of the pixels, (B, C, H, W)."""
        return self.decoder(self.decoder_stem(v))
