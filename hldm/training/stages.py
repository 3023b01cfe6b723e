"""The two stages of latent diffusion as the loop sees them."""

from collections.abc import Iterator
from itertools import count

import torch
from torch import Generator, Tensor, nn

from hldm.autoencoder import Encoded, TrainableAutoencoder
from hldm.data import Split
from hldm.images import to_unit
from hldm.model import LatentDiffusion, LatentModel
from hldm.run import stop
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
            self._batches = self.split.batches(self._chosen(further) for further in count(step))
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
        encoded: what the autoencoder says of all training images, on the model's device.
        labels: int64 (N,), on the same device.
    """

    name = "diffusion"

    def __init__(self, model: LatentDiffusion, encoded: Encoded, labels: Tensor, *, seed: int, batch_size: int) -> None:
        self.model: nn.Module = nn.ModuleDict({"denoiser": model.denoiser, "conditioning": model.conditioning})
        if model.conditioning.curvature is not None:
            model.conditioning.curvature.requires_grad_(False)
        self.diffusion = model
        self.encoded = encoded
        self.labels, self.seed, self.batch_size = labels, seed, batch_size

    @property
    def curved(self) -> nn.Module:
        return self.diffusion

    def loss(self, step: int) -> dict[str, Tensor]:
        chosen = batch_indices(self.seed, self.name, step, self.batch_size, len(self.labels)).to(self.labels.device)
        noise = stream(self.seed, f"{self.name}/noise", step, self.labels.device)
        part, posterior_noise = self.encoded.rows(chosen), None
        if self.diffusion.process.starts_from_posterior_noise:
            posterior_noise = torch.randn(part.loc.shape, generator=noise, device=part.loc.device)
        with torch.no_grad():
            v = self.diffusion.autoencoder.draw(part, noise if posterior_noise is None else posterior_noise)
        return {"loss": self.diffusion.diffusion_loss(v, self.labels[chosen], noise, posterior_noise)}


@torch.no_grad()
def encode(model: LatentModel, images: Tensor | Split, chosen: Tensor | None = None, batch_size: int = 500) -> Encoded:
    """`Autoencoder.encode` of images (N, *image shape) or of a split, a batch at a time, on the model's device.

    Args:
        chosen: indices of the images to encode, all by default; the rows of the others are zero.
    """
    chosen = torch.arange(len(images)) if chosen is None else chosen
    whole: Encoded | None = None
    for part in chosen.split(batch_size):
        stop.check()
        batch = images.read(part) if isinstance(images, Split) else images[part]
        loc, scale = model.autoencoder.encode(to_unit(batch.to(model.device)))
        if whole is None:
            # in torch's usual order of axes whatever the encoder's, as that of the layers decides about last bits
            shape = (len(images), *loc.shape[1:])
            whole = Encoded(loc.new_zeros(shape), None if scale is None else scale.new_zeros(shape))
        whole.loc[part] = loc
        if whole.scale is not None and scale is not None:
            whole.scale[part] = scale
    assert whole is not None, "there are images"
    return whole
