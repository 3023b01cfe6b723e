"""Autoencoders whose encoder gives a distribution of latents: the posterior, the prior and the evidence bound.

Legend: images (B, *image shape); `v` normal coordinates of latents, (B, *latent shape), with the coordinates of a point
along axis 1; `z` the points themselves.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from hldm.autoencoder.base import Encoded, Losses, TrainableAutoencoder
from hldm.config.autoencoder import Posterior
from hldm.distributions import ManifoldDistribution, RiemannianNormal, WrappedNormal
from hldm.layout import LatentLayout


class VariationalAutoencoder(TrainableAutoencoder):
    """Image → posterior on the manifold → image.

        loss = −log p(x | z) + kl_weight · KL(q(z | x) ‖ prior)

    The posterior is a wrapped normal, with a scale per coordinate, or a Riemannian normal, with one per point. The
    prior is the centred one of the same family.

    Args:
        settings: the posterior, the prior and the weight.
        layout: what a latent is made of, and where it lives.
        image_shape: of one image.
    """

    kl_estimator: Literal["low_variance", "monte_carlo"] = "low_variance"
    """How the training loss estimates the KL term from one sample."""

    def __init__(self, settings: Posterior, *, layout: LatentLayout, image_shape: tuple[int, ...]) -> None:
        super().__init__(layout, image_shape)
        self.posterior = settings.posterior
        self.prior_scale = settings.prior_scale
        self.kl_weight = settings.kl_weight

    @abstractmethod
    def posterior_parameters(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images → (loc, scale), both shaped like a latent: normal coordinates of the mean, and standard deviations."""

    def encode(self, images: Tensor) -> Encoded:
        """Images → mean and standard deviations of their posteriors."""
        return Encoded(*self.posterior_parameters(images))

    def draw(self, encoded: Encoded, generator: Generator | Tensor) -> Tensor:
        """A sample of each posterior."""
        return self._posterior(encoded).rsample_tangent(generator)

    def distribution(self, loc: Tensor, scale: Tensor) -> ManifoldDistribution:
        """The posterior q(z | x) with these parameters."""
        # scales are positive by construction, and a diverging loss ends training: nothing to look at in every step
        if self.posterior == "riemannian":
            return RiemannianNormal(self.manifold, loc, scale.mean(1, keepdim=True), dim=1, validate_args=False)
        return WrappedNormal(self.manifold, loc, scale, dim=1, validate_args=False)

    def prior(self, like: Tensor) -> ManifoldDistribution:
        """The prior of latents shaped like `like`, (B, *latent shape)."""
        return self.distribution(torch.zeros_like(like), torch.ones_like(like)).centred(self.prior_scale)

    def losses(self, images: Tensor, generator: Generator) -> Losses:
        """One-sample estimate of the training loss; the noise comes from `generator` alone."""
        noise = torch.randn(
            (len(images), *self.latent_shape), generator=generator, dtype=images.dtype, device=images.device
        )
        return self(images, noise)

    def forward(self, images: Tensor, noise: Tensor) -> Losses:
        """The losses as a function of tensors alone, noise ~ N(0, 1) of shape (B, *latent shape).

        This is what `compile()` of the module compiles: generators would break the graph.
        """
        return self.losses_of(images, self.encode(images), noise)

    def losses_of(self, images: Tensor, encoded: Encoded, noise: Generator | Tensor) -> Losses:
        """The losses of images whose posteriors are known."""
        q = self._posterior(encoded)
        sample = q.draw(noise)
        parameters = self.decode(sample.v)
        reconstruction = self.negative_log_likelihood(parameters, images) / len(images)
        kl_of = q.kl_to_centred if self.kl_estimator == "low_variance" else q.kl_monte_carlo
        kl = kl_of(self.prior_scale, sample).sum() / len(images)
        loss = reconstruction + self.kl_weight * kl
        return Losses({"loss": loss, "reconstruction": reconstruction, "kl": kl}, self.mean_of(parameters))

    def test_terms(self, images: Tensor, encoded: Encoded, generator: Generator) -> dict[str, Tensor]:
        """Both terms of the evidence bound, in nats per image."""
        terms = self.losses_of(images, encoded, generator).terms
        return {"elbo_reconstruction": -terms["reconstruction"], "elbo_kl": terms["kl"]}

    def test_figures(self, means: Mapping[str, Tensor]) -> dict[str, float]:
        """The terms, and elbo, the bound that they make."""
        figures = {name: float(mean) for name, mean in means.items()}
        return {**figures, "elbo": figures["elbo_reconstruction"] - figures["elbo_kl"]}

    def log_likelihood(self, v: Tensor, images: Tensor) -> Tensor:
        """log p(x | z) of every latent for every image, or for its own one, without an array of the size of all pairs.

        Args:
            v: (J, *latent shape), or (S, B, *latent shape) where each image has S latents of its own.
            images: (B, *image shape).

        Returns:
            (J, B) or (S, B).
        """
        latents = len(self.latent_shape)
        parameters = self.decode(v.flatten(0, -latents - 1)).flatten(1)
        x = self.targets(images).flatten(1)
        shared = v.ndim == latents + 1
        if shared:
            products = parameters @ x.T
        else:
            parameters = parameters.unflatten(0, v.shape[:2])
            products = torch.einsum("sbd,bd->sb", parameters, x)
        if self.likelihood == "bernoulli":
            constant = F.softplus(parameters).sum(-1)
            return products - (constant.unsqueeze(-1) if shared else constant)
        squares = parameters.square().sum(-1)
        distances2 = (squares.unsqueeze(-1) if shared else squares) - 2 * products + x.square().sum(-1)
        return -0.5 * distances2 - 0.5 * math.log(2 * math.pi) * x.shape[1]

    def _posterior(self, encoded: Encoded) -> ManifoldDistribution:
        assert encoded.scale is not None
        return self.distribution(encoded.loc, encoded.scale)


def to_scale(log_variance: Tensor) -> Tensor:
    """Log variances that an encoder puts out → standard deviations."""
    # the clamp of the reference code, tightened: e^±10 would leave float32 on the ball
    return torch.exp(0.5 * log_variance.clamp(-12.0, 4.0))
