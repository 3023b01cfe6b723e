"""The two stages of latent diffusion as the loop sees them."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from hldm.autoencoder import Autoencoder, Encoded, TrainableAutoencoder
from hldm.data import Split
from hldm.images import to_unit
from hldm.model import LatentDiffusion
from hldm.training.loop import Stage
from hldm.training.randomness import batch_indices, stream


class FirstStage(Stage):
    """Images → autoencoder.

    Args:
        split: the images to train on.
    """

    name = "first_stage"

    def __init__(self, autoencoder: TrainableAutoencoder, split: Split, *, seed: int, batch_size: int) -> None:
        self.model: nn.Module = autoencoder
        self.autoencoder, self.device = autoencoder, autoencoder.device
        self.split, self.seed, self.batch_size = split.to(self.device), seed, batch_size

    def batch(self, step: int) -> Tensor:
        """The images that this step sees, as the autoencoder takes them."""
        chosen = batch_indices(self.seed, self.name, step, self.batch_size, len(self.split))
        return to_unit(self.split.read(chosen).to(self.device))

    def noise(self, step: int) -> Generator:
        """The source of all noise of this step."""
        return stream(self.seed, f"{self.name}/noise", step, self.device)

    def loss(self, step: int) -> dict[str, Tensor]:
        return self.autoencoder.losses(self.batch(step), self.noise(step)).terms


class DiffusionStage(Stage):
    """Latents → denoiser and conditioning, with the autoencoder frozen. Each step draws its latents anew.

    Args:
        encoded: what the autoencoder says of all training images, on the model's device.
        labels: int64 (N,), on the same device.
    """

    name = "diffusion"

    def __init__(self, model: LatentDiffusion, encoded: Encoded, labels: Tensor, *, seed: int, batch_size: int) -> None:
        self.model: nn.Module = nn.ModuleDict({"denoiser": model.denoiser, "conditioning": model.conditioning})
        self.diffusion = model
        self.encoded = encoded
        self.labels, self.seed, self.batch_size = labels, seed, batch_size

    def loss(self, step: int) -> dict[str, Tensor]:
        chosen = batch_indices(self.seed, self.name, step, self.batch_size, len(self.labels)).to(self.labels.device)
        noise = stream(self.seed, f"{self.name}/noise", step, self.labels.device)
        with torch.no_grad():
            v = self.diffusion.autoencoder.draw(self.encoded.rows(chosen), noise)
        return {"loss": self.diffusion.diffusion_loss(v, self.labels[chosen], noise)}


def encode(autoencoder: Autoencoder, images: Tensor, batch_size: int = 500) -> Encoded:
    """`Autoencoder.encode` of images (N, *image shape): (N, *latent shape) on the autoencoder's device."""
    return _encode(autoencoder, images.__getitem__, torch.arange(len(images)), len(images), batch_size)


def encode_split(
    autoencoder: Autoencoder, split: Split, chosen: Tensor | None = None, batch_size: int = 500
) -> Encoded:
    """`Autoencoder.encode` of a split's images, read a batch at a time: (N, *latent shape) on the autoencoder's device.

    Args:
        chosen: indices of the images to encode, all by default; the rows of the others are zero.
    """
    chosen = torch.arange(len(split)) if chosen is None else chosen
    return _encode(autoencoder, split.read, chosen, len(split), batch_size)


@torch.no_grad()
def _encode(
    autoencoder: Autoencoder, read: Callable[[Tensor], Tensor], chosen: Tensor, total: int, batch_size: int
) -> Encoded:
    whole: Encoded | None = None
    for part in chosen.split(batch_size):
        loc, scale = autoencoder.encode(to_unit(read(part).to(autoencoder.device)))
        if whole is None:
            # in torch's usual order of axes whatever the encoder's, as that of the layers decides about last bits
            shape = (total, *loc.shape[1:])
            whole = Encoded(loc.new_zeros(shape), None if scale is None else scale.new_zeros(shape))
        whole.loc[part] = loc
        if whole.scale is not None and scale is not None:
            whole.scale[part] = scale
    assert whole is not None, "there are images"
    return whole
