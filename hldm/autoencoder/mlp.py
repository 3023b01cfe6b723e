"""The Poincaré VAE of Mathieu et al. (2019): one hidden layer on either side of one point of the manifold.

Legend: images (B, *image shape); `v` normal coordinates of the latents, (B, n); `z` the points themselves.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hldm.autoencoder.variational import VariationalAutoencoder
from hldm.errors import UserError
from hldm.geometry import Euclidean, Manifold
from hldm.nn import Gyroplane, MobiusLinear

GREY = 1e-5
"""Grey levels are kept within [GREY, 1 − GREY] where the likelihood is Bernoulli, as the authors do."""


class MLPAutoencoder(VariationalAutoencoder):
    """Linear → ReLU → posterior of one latent vector → first layer of the decoder → ReLU → linear.

    Geometry enters in three places: the posterior, `encoder_head`, and the decoder's first layer.

    Args:
        latent_channels: n, coordinates of the latent point.
        hidden: width of both hidden layers.
        posterior: "wrapped" (a scale per coordinate) or "riemannian" (one scale in [0.1, 7]).
        prior_scale: σ₀ of the centred prior of the same family, > 0.
        kl_weight: β, ≥ 0.
        kl_estimator: "monte_carlo" (log q − log p at the sample, as Mathieu et al. where space is curved) or
            "low_variance"; both are the closed form where it is flat.
        encoder_head: what ends in the mean: "wrapped" (a linear map to normal coordinates) or "mobius".
        gyroplane_form: "paper" or "pvae", see `hldm.nn.Gyroplane`.
        likelihood: "bernoulli" on grey levels, or "normal" with unit variance.
        manifold: where the latents live; its channels must be `latent_channels`.
        decoder_stem: "linear" (the authors' wrapped decoder), "gyroplane" or "mobius".
        image_shape: of one image.

    On a flat manifold, and as c → 0, this is the VAE of Kingma & Welling (2014).
    """

    def __init__(
        self,
        latent_channels: int,
        hidden: int,
        posterior: Literal["wrapped", "riemannian"],
        prior_scale: float,
        kl_weight: float,
        kl_estimator: Literal["monte_carlo", "low_variance"],
        encoder_head: Literal["wrapped", "mobius"],
        gyroplane_form: Literal["paper", "pvae"],
        likelihood: Literal["bernoulli", "normal"],
        *,
        manifold: Manifold,
        decoder_stem: Literal["linear", "gyroplane", "mobius"],
        image_shape: tuple[int, ...],
    ) -> None:
        super().__init__(manifold, posterior, prior_scale, kl_weight, image_shape, (latent_channels,))
        self.likelihood = likelihood
        self.kl_estimator = "low_variance" if manifold.is_flat else kl_estimator
        pixels = torch.Size(image_shape).numel()
        self.encoder = nn.Linear(pixels, hidden)
        self.loc_head = (
            MobiusLinear(Euclidean(hidden), manifold)
            if encoder_head == "mobius"
            else nn.Linear(hidden, latent_channels)
        )
        self.scale_head = nn.Linear(hidden, latent_channels)
        self.decoder_stem: nn.Module
        if decoder_stem == "gyroplane":
            self.decoder_stem = Gyroplane(manifold, hidden, form=gyroplane_form)
        elif decoder_stem == "mobius":
            self.decoder_stem = MobiusLinear(manifold, _wide(manifold, hidden))
        else:
            self.decoder_stem = nn.Linear(latent_channels, hidden)
        self.decoder = nn.Linear(hidden, pixels)

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
