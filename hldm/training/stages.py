"""The two stages of latent diffusion as the loop sees them."""

from collections.abc import Iterator
from itertools import count

import torch
from torch import Generator, Tensor, nn

from hldm.autoencoder import Encoded, TrainableAutoencoder
from hldm.data import Split
from hldm.images import to_unit
from hldm.model import LatentDiffusion, LatentModel
from hldm.training import ranks
from hldm.training.latents import InMemory, Latents
from hldm.training.loop import Stage
from hldm.training.randomness import batch_indices, stream


class FirstStage(Stage):
    """Images → autoencoder.

    Args:
        split: the images to train on.
    """

    name = "first_stage"

    def __init__(self, model: LatentModel, split: Split, *, seed: int, batch_size: int) -> None:
        assert isinstance(model.autoencoder, TrainableAutoencoder), "a published autoencoder is not trained"
        self.model: nn.Module = model.autoencoder
        self.autoencoder = model.autoencoder
        self.split, self.seed, self.batch_size = split.to(model.device), seed, batch_size
        self.device = model.device
        self._next = -1
        self._batches: Iterator[Tensor] = iter(())

    def batch(self, step: int) -> Tensor:
        """The images that this step sees, as the autoencoder takes them. Those of the steps after it are read ahead."""
        if step != self._next:
            self._batches = ranks.batches(self.split, (self._chosen(further) for further in count(step)))
        self._next = step + 1
        return to_unit(next(self._batches).to(self.device, non_blocking=True))

    def _chosen(self, step: int) -> Tensor:
        return batch_indices(self.seed, self.name, step, self.batch_size, len(self.split))

    def noise(self, step: int) -> Generator:
        """The source of all noise of this step."""
        return stream(self.seed, f"{self.name}/noise", step, self.device)

    def loss(self, step: int) -> dict[str, Tensor]:
        return self.autoencoder.losses(self.batch(step), self.noise(step)).terms


class DiffusionStage(Stage):
    """Latents → denoiser and conditioning, with the autoencoder frozen. Each step draws its latents anew.

    The curvature of embeddings is learned with the autoencoder or not at all: a Riemannian step on points needs a
    metric that holds still.

    Args:
        latents: what the autoencoder says of all training images.
        labels: int64 (N,), on the model's device.
    """

    name = "diffusion"

    def __init__(
        self, model: LatentDiffusion, latents: Latents | Encoded, labels: Tensor, *, seed: int, batch_size: int
    ) -> None:
        self.model: nn.Module = nn.ModuleDict({"denoiser": model.denoiser, "conditioning": model.conditioning})
        if model.conditioning.curvature is not None:
            model.conditioning.curvature.requires_grad_(False)
        self.diffusion = model
        self.latents = InMemory(latents) if isinstance(latents, Encoded) else latents
        self.labels, self.seed, self.batch_size = labels, seed, batch_size
        self._next = -1
        self._batches: Iterator[Encoded] = iter(())

    @property
    def curved(self) -> nn.Module:
        return self.diffusion

    def batch(self, step: int) -> Tensor:
        """Indices of the images that this step sees, on the CPU."""
        return batch_indices(self.seed, self.name, step, self.batch_size, len(self.labels))

    def loss(self, step: int) -> dict[str, Tensor]:
        if step != self._next:
            self._batches = self.latents.batches(self.batch(further) for further in count(step))
        self._next = step + 1
        noise = stream(self.seed, f"{self.name}/noise", step, self.labels.device)
        part, labels = next(self._batches), self.labels[self.batch(step).to(self.labels.device)]
        return {"loss": self.loss_of(part, labels, noise)}

    def loss_of(self, part: Encoded, labels: Tensor, noise: Generator) -> Tensor:
        """The loss of B latents with these moments and labels (B,), a scalar; each latent is drawn anew."""
        posterior_noise = None
        if self.diffusion.process.starts_from_posterior_noise:
            posterior_noise = torch.randn(part.loc.shape, generator=noise, device=part.loc.device)
        with torch.no_grad():
            v = self.diffusion.autoencoder.draw(part, noise if posterior_noise is None else posterior_noise)
        return self.diffusion.diffusion_loss(v, labels, noise, posterior_noise)
