"""The two stages of latent diffusion as the loop sees them."""

import torch
from torch import Tensor, nn

from hldm.data import Split
from hldm.images import to_unit
from hldm.model import LatentDiffusion, LatentModel
from hldm.training.loop import Stage
from hldm.training.randomness import batch_indices, stream


class FirstStage(Stage):
    """Images → autoencoder.

    Args:
        split: the images to train on.
    """

    name = "first_stage"

    def __init__(self, model: LatentModel, split: Split, *, seed: int, batch_size: int) -> None:
        self.model: nn.Module = model.autoencoder
        self.autoencoder = model.autoencoder
        self.split, self.seed, self.batch_size = split.to(model.device), seed, batch_size
        self.device = model.device

    def batch(self, step: int) -> Tensor:
        """The images that this step sees, as the autoencoder takes them."""
        chosen = batch_indices(self.seed, self.name, step, self.batch_size, len(self.split))
        return to_unit(self.split.read(chosen).to(self.device))

    def loss(self, step: int) -> dict[str, Tensor]:
        noise = stream(self.seed, f"{self.name}/noise", step, self.device)
        return self.autoencoder.losses(self.batch(step), noise)._asdict()


class DiffusionStage(Stage):
    """Latents → denoiser and conditioning, with the autoencoder frozen. Each step draws its latents anew.

    Args:
        encoded: what the autoencoder says of all training images, each (N, c, h, w), on the model's device.
        labels: int64 (N,), likewise.
    """

    name = "diffusion"

    def __init__(
        self, model: LatentDiffusion, encoded: tuple[Tensor, ...], labels: Tensor, *, seed: int, batch_size: int
    ) -> None:
        self.model: nn.Module = nn.ModuleDict({"denoiser": model.denoiser, "conditioning": model.conditioning})
        self.diffusion = model
        self.encoded = encoded
        self.labels, self.seed, self.batch_size = labels, seed, batch_size

    def loss(self, step: int) -> dict[str, Tensor]:
        chosen = batch_indices(self.seed, self.name, step, self.batch_size, len(self.labels)).to(self.labels.device)
        noise = stream(self.seed, f"{self.name}/noise", step, self.labels.device)
        with torch.no_grad():
            v = self.diffusion.autoencoder.draw(tuple(x[chosen] for x in self.encoded), noise)
        return {"loss": self.diffusion.diffusion_loss(v, self.labels[chosen], noise)}


@torch.no_grad()
def encode(model: LatentModel, images: Tensor, batch_size: int = 500) -> tuple[Tensor, ...]:
    """images (N, *image shape) → `Autoencoder.encode` of them all, each (N, *latent shape), on the model's device."""
    parts = [model.autoencoder.encode(to_unit(part.to(model.device))) for part in images.split(batch_size)]
    # in torch's usual order of axes whatever the encoder's, as that of the layers decides about last bits
    return tuple(torch.cat(found).contiguous() for found in zip(*parts, strict=True))


@torch.no_grad()
def encode_split(
    model: LatentModel, split: Split, chosen: Tensor | None = None, batch_size: int = 500
) -> tuple[Tensor, ...]:
    """`encode` of a split's images, each (N, *latent shape), read a batch at a time.

    Args:
        chosen: indices of the images to encode, all by default; the rows of the others are zero.
    """
    chosen = torch.arange(len(split)) if chosen is None else chosen
    encoded: tuple[Tensor, ...] = ()
    for part in chosen.split(batch_size):
        found = model.autoencoder.encode(to_unit(split.read(part).to(model.device)))
        encoded = encoded or tuple(x.new_zeros(len(split), *x.shape[1:]) for x in found)
        for whole, x in zip(encoded, found, strict=True):
            whole[part] = x
    return encoded
