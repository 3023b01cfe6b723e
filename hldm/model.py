"""The whole model in one place: image ⇄ point on a manifold ⇄ noise.

Legend: images (B, C, H, W), uint8 or in [0, 1]; `v` normal coordinates of latents (B, c, h, w) as the autoencoder has
them; `v / latent_scale` is what the diffusion process sees, on the manifold whose curvature was rescaled with it.
"""

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor, nn

from hldm.autoencoder import Autoencoder, VariationalAutoencoder
from hldm.conditioning import Conditioning, Subjects
from hldm.diffusion import (
    CrossAttentionDenoiser,
    Denoiser,
    MapGlobalDenoiser,
    MLPDenoiser,
    Process,
    Sampler,
    log_density,
)
from hldm.geometry import Manifold
from hldm.images import to_uint8


class LatentModel(nn.Module, ABC):
    """An autoencoder and a law of its latents to sample from."""

    uses_labels: bool
    """Whether what is asked for changes what is drawn."""

    caption_template: str | None = None
    """The caption that stands for a label, with {} for the class, where the model reads text."""

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """Network evaluations behind one latent."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    @property
    def device(self) -> torch.device:
        return next(self.autoencoder.parameters()).device

    @abstractmethod
    def sample_latents(self, subjects: Subjects, generator: Generator) -> Tensor:
        """One latent per label or prompt, as normal coordinates of the autoencoder's manifold."""

    @torch.no_grad()
    def sample(self, subjects: Subjects, generator: Generator) -> Tensor:
        """One image per label or prompt, uint8; a vector is left as it is, float32."""
        images = self.autoencoder.to_images(self.sample_latents(subjects, generator))
        return to_uint8(images) if len(self.autoencoder.image_shape) > 1 else images


class PriorModel(LatentModel):
    """A variational autoencoder alone: its latents come from its prior, whatever is asked for."""

    uses_labels = False
    autoencoder: VariationalAutoencoder

    def __init__(self, autoencoder: VariationalAutoencoder) -> None:
        super().__init__(autoencoder)

    @property
    def evaluations(self) -> int:
        return 0

    @torch.no_grad()
    def sample_latents(self, subjects: Subjects, generator: Generator) -> Tensor:
        like = torch.empty(len(subjects), *self.autoencoder.latent_shape, device=self.device)
        return self.autoencoder.prior(like).rsample_tangent(generator)


class LatentDiffusion(LatentModel):
    """An autoencoder with a manifold bottleneck, and a diffusion process on its latents (Rombach et al. 2022).

    `latent_scale` is the root mean square of the latents' normal coordinates, 1 until `fit_latent_scale` measured it:
    one number, or one for each part where a latent is a map beside a point.
    """

    latent_scale: Tensor

    def __init__(
        self,
        autoencoder: Autoencoder,
        denoiser: Denoiser | MLPDenoiser | CrossAttentionDenoiser | MapGlobalDenoiser,
        process: Process,
        sampler: Sampler,
        conditioning: Conditioning,
    ) -> None:
        super().__init__(autoencoder)
        self.denoiser = denoiser
        self.process = process
        self.sampler = sampler
        self.conditioning = conditioning
        self.uses_labels = conditioning.uses_labels
        self.caption_template = conditioning.template
        parts = len(autoencoder.parts)
        self.register_buffer("latent_scale", torch.ones(() if parts == 1 else parts))

    @property
    def evaluations(self) -> int:
        return self.sampler.evaluations

    @torch.no_grad()
    def fit_latent_scale(self, v: Tensor) -> None:
        """Set `latent_scale` so that each part has unit mean square when divided by it.

        Latent diffusion takes the standard deviation, about the mean; scaling a ball leaves only its origin in place.
        """
        parts = v.split(self.autoencoder.parts, 1)
        scales = torch.stack([part.square().mean().sqrt() for part in parts])
        self.latent_scale.copy_(scales.view_as(self.latent_scale))

    @property
    def scale(self) -> Tensor:
        """`latent_scale` as it multiplies latents: (), or (D,) where they have parts."""
        if not self.latent_scale.ndim:
            return self.latent_scale
        return self.latent_scale.repeat_interleave(torch.tensor(self.autoencoder.parts, device=self.device))

    def diffusion_manifold(self) -> Manifold:
        """Where the process runs: latents v → v / s need curvature c → c·s² to stay on the same manifold."""
        return self.autoencoder.manifold.rescaled(self.latent_scale)

    def diffusion_loss(self, v: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """The process's loss on latents v with labels (B,), all noise from `generator`."""
        condition = self.conditioning.for_training(labels, generator)
        return self.process.loss(
            self.diffusion_manifold(), lambda x, t: self.denoiser(x, t, condition), v / self.scale, generator
        )

    @torch.no_grad()
    def sample_latents(self, subjects: Subjects, generator: Generator) -> Tensor:
        guidance = self.conditioning.for_sampling(subjects)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            return guidance(lambda condition: self.denoiser(x, t, condition))

        shape = (len(subjects), *self.autoencoder.latent_shape)
        v = self.sampler.sample(self.process, self.diffusion_manifold(), predict, shape, generator)
        return v * self.scale

    @torch.no_grad()
    def log_density(self, v: Tensor, subjects: Subjects, steps: int, generator: Generator) -> Tensor:
        """log p(v | subjects) without guidance, (B,) in nats, in the Riemannian volume of the autoencoder's manifold.

        Lengths there are s = `latent_scale` times those that the process sees, so log p = log p(v/s) − D log s with D
        coordinates of one latent. See `hldm.diffusion.log_density`.
        """
        condition = self.conditioning.for_sampling(subjects).condition

        def predict(x: Tensor, t: Tensor) -> Tensor:
            return self.denoiser(x, t, condition)

        scaled = v / self.scale
        log_p = log_density(self.process, self.diffusion_manifold(), predict, scaled, steps, generator)
        return log_p - self.scale.log().expand_as(v[0]).sum()
