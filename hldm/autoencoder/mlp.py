"""The Poincaré VAE of Mathieu et al. (2019): one hidden layer on either side of one point of the manifold.

Legend: images (B, *image shape); `v` normal coordinates of the latents, (B, n); `z` the points themselves.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hldm.autoencoder.variational import VariationalAutoencoder
from hldm.config.autoencoder import MLP
from hldm.errors import UserError
from hldm.geometry import Euclidean, Manifold
from hldm.layout import LatentLayout
from hldm.nn import Gyroplane, MobiusLinear

GREY = 1e-5
"""Grey levels are kept within [GREY, 1 − GREY] where the likelihood is Bernoulli, as the authors do."""


class MLPAutoencoder(VariationalAutoencoder):
    """Linear → ReLU → posterior of one latent vector → first layer of the decoder → ReLU → linear.

    Geometry enters in three places: the posterior, the encoder's last layer, and the decoder's first one. A Riemannian
    posterior has one scale, kept in [0.1, 7]. Both estimators of the KL term are the closed form where space is flat.
    On a flat manifold, and as c → 0, this is the VAE of Kingma & Welling (2014).

    Args:
        settings: the section `autoencoder`.
        manifold: where the latents live, of `settings.latent_channels` channels.
        decoder_stem: the decoder's first layer: "linear" (the authors' wrapped decoder), "gyroplane" or "mobius".
        image_shape: of one image, or of one vector.
    """

    def __init__(
        self,
        settings: MLP,
        *,
        manifold: Manifold,
        decoder_stem: Literal["linear", "gyroplane", "mobius"],
        image_shape: tuple[int, ...],
    ) -> None:
        super().__init__(settings, layout=LatentLayout.of_point(manifold), image_shape=image_shape)
        self.likelihood = settings.likelihood
        self.kl_estimator = "low_variance" if manifold.is_flat else settings.kl_estimator
        pixels, hidden, channels = torch.Size(image_shape).numel(), settings.hidden, settings.latent_channels
        self.encoder = nn.Linear(pixels, hidden)
        self.loc_head = (
            MobiusLinear(Euclidean(hidden), manifold)
            if settings.encoder_head == "mobius"
            else nn.Linear(hidden, channels)
        )
        self.scale_head = nn.Linear(hidden, channels)
        self.decoder_stem: nn.Module
        if decoder_stem == "gyroplane":
            self.decoder_stem = Gyroplane(manifold, hidden, form=settings.gyroplane_form)
        elif decoder_stem == "mobius":
            self.decoder_stem = MobiusLinear(manifold, _wide(manifold, hidden))
        else:
            self.decoder_stem = nn.Linear(channels, hidden)
        self.decoder = nn.Linear(hidden, pixels)

    @property
    def last_layer(self) -> Tensor:
        """The weight of the decoder's last layer."""
        return self.decoder.weight

    def posterior_parameters(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images → (loc, scale), each (B, n): normal coordinates of the mean, and standard deviations."""
        x = F.relu(self.encoder(images.flatten(1)))
        scale = F.softplus(self.scale_head(x)) + 1e-5
        if self.posterior == "riemannian":
            scale = scale.mean(1, keepdim=True).clamp(0.1, 7.0).expand_as(scale)
        return self.loc_head(x), scale

    def decode(self, v: Tensor) -> Tensor:
        """Normal coordinates (B, n) → logits or means, (B, *image shape)."""
        return self.decoder(F.relu(self.decoder_stem(v))).unflatten(1, self.image_shape)

    @torch.no_grad()
    def begin(self, mean_image: Tensor) -> None:
        """Start the output at the mean image: at its logits where the likelihood is Bernoulli."""
        mean = mean_image.flatten()
        self.decoder.bias.copy_(torch.logit(mean, GREY) if self.likelihood == "bernoulli" else mean)

    def targets(self, images: Tensor) -> Tensor:
        """The images as the likelihood is evaluated on them."""
        return images.clamp(GREY, 1 - GREY) if self.likelihood == "bernoulli" else images


def _wide(manifold: Manifold, channels: int) -> Manifold:
    """A manifold of the same curvature with that many channels."""
    leaves = manifold.leaves()
    if len(leaves) == 1 and leaves[0].balls == 1:
        return leaves[0].like(channels)
    if manifold.is_flat:
        return Euclidean(channels)
    raise UserError(
        "decoder_stem=mobius is defined on one ball, not on a product. Use geometry=poincare with balls=1, or "
        "geometry.decoder_stem=gyroplane."
    )
