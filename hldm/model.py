"""The whole model in one place: image ⇄ point on a manifold ⇄ noise.

Legend: images (B, C, H, W), uint8 or in [0, 1]; `v` normal coordinates of latents (B, *latent shape) as the autoencoder
has them; `v / latent_scale` is what the diffusion process sees, on the manifold whose curvature was rescaled with it.
"""

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor, nn

from hldm.autoencoder import Autoencoder, VariationalAutoencoder
from hldm.conditioning import Conditioning, Subjects
from hldm.diffusion import Denoiser, Process, Sampler, log_density
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
        return self.autoencoder.device

    @abstractmethod
    def sample_latents(self, subjects: Subjects, generator: Generator) -> Tensor:
        """One latent per label or prompt, as normal coordinates of the autoencoder's manifold."""

    @torch.no_grad()
    def sample(self, subjects: Subjects, generator: Generator) -> Tensor:
        """One image per label or prompt, uint8; a vector is left as it is, float32."""
        return self.images(self.sample_latents(subjects, generator))

    @torch.no_grad()
    def images(self, v: Tensor) -> Tensor:
        """Normal coordinates (B, *latent shape) → images, uint8; a vector is left as it is, float32."""
        images = self.autoencoder.to_images(v)
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

    `latent_scale` is the root mean square of the latents' normal coordinates, 1 until `fit_latents` measured it:
    one number, or one for each part where a latent is a map beside a point.
    """

    latent_scale: Tensor

    def __init__(
        self,
        autoencoder: Autoencoder,
        denoiser: Denoiser,
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
        self.layout = autoencoder.layout
        self.register_buffer("latent_scale", self.layout.unit_scale())
        # (the scale, its version, the manifold): in a tuple, and so no submodule
        self._rescaled: tuple[Tensor, int, Manifold] | None = None

    @property
    def evaluations(self) -> int:
        return self.sampler.evaluations

    @torch.no_grad()
    def fit_latents(self, v: Tensor, noise: Tensor | None = None, scale: Tensor | None = None) -> None:
        """Set `latent_scale` so that each part of v (N, *latent shape) has unit mean square when divided by it.

        Args:
            noise: what v was drawn with, for a process that starts from it.
            scale: the latent scale, where it is known.
        """
        self.latent_scale.copy_(self.layout.fitted_scale(v) if scale is None else scale)
        if noise is not None:
            self.process.fit_pairing(noise, v / self.layout.per_coordinate(self.latent_scale))

    def diffusion_manifold(self) -> Manifold:
        """Where the process runs: that of latents divided by `latent_scale`.

        It is built once for every value of the scale; a curvature that is learned stays shared with the autoencoder's.
        """
        scale = self.latent_scale
        if self._rescaled is None or self._rescaled[0] is not scale or self._rescaled[1] != scale._version:
            self._rescaled = (scale, scale._version, self.layout.rescaled(scale))
        return self._rescaled[2]

    def diffusion_loss(self, v: Tensor, labels: Tensor, generator: Generator, noise: Tensor | None = None) -> Tensor:
        """The process's loss on latents v with labels (B,), all noise from `generator` but what v was drawn with."""
        condition = self.conditioning.for_training(labels, generator)
        scaled = v / self.layout.per_coordinate(self.latent_scale)
        return self.process.loss(
            self.diffusion_manifold(),
            lambda x, t: self.denoiser(x, t, condition),
            scaled,
            generator,
            labels if self.uses_labels else None,
            *([] if noise is None else [noise]),  # which no other process knows of
        )

    @torch.no_grad()
    def sample_latents(self, subjects: Subjects, generator: Generator) -> Tensor:
        guidance = self.conditioning.for_sampling(subjects)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            return guidance(lambda condition: self.denoiser(x, t, condition))

        shape = (len(subjects), *self.layout.shape)
        v = self.sampler.sample(self.process, self.diffusion_manifold(), predict, shape, generator)
        return v * self.layout.per_coordinate(self.latent_scale)

    @torch.no_grad()
    def log_density(self, v: Tensor, subjects: Subjects, steps: int, generator: Generator) -> Tensor:
        """log p(v | subjects) without guidance, (B,) in nats, in the Riemannian volume of the autoencoder's manifold.

        Lengths there are s = `latent_scale` times those that the process sees, so log p = log p(v/s) − D log s with D
        coordinates of one latent; log p(v/s) is that of `hldm.diffusion.log_density`.
        """
        condition = self.conditioning.for_sampling(subjects).condition

        def predict(x: Tensor, t: Tensor) -> Tensor:
            return self.denoiser(x, t, condition)

        scale = self.layout.per_coordinate(self.latent_scale)
        log_p = log_density(self.process, self.diffusion_manifold(), predict, v / scale, steps, generator)
        return log_p - scale.log().expand_as(v[0]).sum()
