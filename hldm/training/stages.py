"""The two stages of latent diffusion as the loop sees them."""

import torch
from torch import Tensor, nn

from hldm.model import LatentDiffusion, LatentModel, to_unit
from hldm.training.loop import Stage
from hldm.training.randomness import batch_indices, stream


class FirstStage(Stage):
    """Images → autoencoder.

    Args:
        images: (N, *image shape) as the dataset holds them, on the model's device.
    """

    name = "first_stage"

    def __init__(self, model: LatentModel, images: Tensor, *, seed: int, batch_size: int) -> None:
        self.model: nn.Module = model.autoencoder
        self.autoencoder = model.autoencoder
        self.images, self.seed, self.batch_size = images, seed, batch_size

    def loss(self, step: int) -> dict[str, Tensor]:
        chosen = batch_indices(self.seed, self.name, step, self.batch_size, len(self.images)).to(self.images.device)
        noise = stream(self.seed, f"{self.name}/noise", step, self.images.device)
        return self.autoencoder.losses(to_unit(self.images[chosen]), noise)._asdict()


class DiffusionStage(Stage):
    """Latents → denoiser, with the autoencoder frozen. Each step draws its latents from their posteriors anew.

    Args:
        posterior: (loc, scale) of all training images, each (N, c, h, w), on the model's device.
        labels: int64 (N,), likewise.
    """

    name = "diffusion"

    def __init__(
        self, model: LatentDiffusion, posterior: tuple[Tensor, Tensor], labels: Tensor, *, seed: int, batch_size: int
    ) -> None:
        self.model: nn.Module = model.denoiser
        self.diffusion = model
        self.loc, self.scale = posterior
        self.labels, self.seed, self.batch_size = labels, seed, batch_size

    def loss(self, step: int) -> dict[str, Tensor]:
        chosen = batch_indices(self.seed, self.name, step, self.batch_size, len(self.labels)).to(self.labels.device)
        noise = stream(self.seed, f"{self.name}/noise", step, self.labels.device)
        with torch.no_grad():
            q = self.diffusion.autoencoder.distribution(self.loc[chosen], self.scale[chosen])
            v = q.rsample_tangent(noise)
        return {"loss": self.diffusion.diffusion_loss(v, self.labels[chosen], noise)}


@torch.no_grad()
def encode(
    model: LatentModel, images: Tensor, chosen: Tensor | None = None, batch_size: int = 500
) -> tuple[Tensor, Tensor]:
    """images (N, *image shape) → posterior (loc, scale), each (N, *latent shape), on the model's device.

    Args:
        chosen: indices of the images to encode, all by default; the rows of the others are zero.
    """
    chosen = torch.arange(len(images)) if chosen is None else chosen
    loc = torch.zeros(len(images), *model.autoencoder.latent_shape, device=model.device)
    scale = torch.zeros_like(loc)
    for part in chosen.split(batch_size):
        batch = to_unit(images[part].to(model.device))
        loc[part], scale[part] = model.autoencoder.posterior_parameters(batch)
    return loc, scale
