"""Published autoencoders of diffusers, as they are: Stable Diffusion's AutoencoderKL, and VQModel of latent diffusion.

Legend: images (B, C, H, W) in [0, 1]; `v` normal coordinates of latents (B, latent channels, h, w): on flat space the
latents themselves.
"""

from pathlib import Path

import torch
from diffusers import VQModel
from torch import Generator, Tensor

from hldm.autoencoder.base import Autoencoder, Encoded
from hldm.autoencoder.convolutional import PixelFolding
from hldm.config.autoencoder import Published
from hldm.errors import UserError
from hldm.geometry import Manifold, within_radius
from hldm.interchange import build, load_component
from hldm.layout import LatentLayout


class PublishedAutoencoder(Autoencoder):
    """An autoencoder that comes trained, and has no likelihood of images.

    Grey images are repeated over its three channels, and its output is averaged over them.

    On balls a latent z is lifted to the point with normal coordinates v = s·z, cut to √c|v| ≤ `settings.radius`, with s
    the scale that gives it about unit variance (`scaling_factor`, .18215 in Stable Diffusion). The decoder sees v/s. As
    c → 0 nothing is cut.

    Args:
        settings: the section `autoencoder`, with the architecture read from config.json of `first_stage`.
        manifold: of `settings.latent_channels` channels.
        decoder_stem: not read; the decoder is left as it is.
        image_shape: (C, H, W).

    Raises:
        UserError: the images have another number of channels.
    """

    def __init__(
        self, settings: Published, *, manifold: Manifold, decoder_stem: str, image_shape: tuple[int, ...]
    ) -> None:
        architecture = settings.architecture
        assert architecture is not None, "read from first_stage before anything is built"
        folding = PixelFolding(image_shape, patch_size=1, padded_side=settings.padded_side)
        sides = folding.sides_after(len(architecture["block_out_channels"]))
        super().__init__(LatentLayout.of_map(manifold, sides), image_shape)
        self.folding = folding
        self.channels: int = architecture.get("in_channels", 3)
        if self.channels != image_shape[0] and image_shape[0] != 1:
            raise UserError(
                f"The autoencoder of first_stage takes images of {self.channels} channels, and those of the data set "
                f"have {image_shape[0]}. Choose another first_stage, or another dataset."
            )
        self.model = build(architecture)
        self.radius = settings.radius
        self.scaling = 1.0
        if not manifold.is_flat:
            # which folders of VQModel often have from their class's default, where it is wrong
            own = 1.0 if isinstance(self.model, VQModel) else self.model.config.scaling_factor
            self.scaling = settings.scaling or own

    def load(self, folder: Path) -> None:
        """Take the weights of a folder of diffusers, safetensors only, without asking a network.

        Raises:
            UserError: the file is damaged or of another architecture.
        """
        try:
            self.model.load_state_dict(load_component(folder).state_dict())
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"The weights of first_stage={folder} cannot be used: {reason} Copy it anew.") from error

    def encode(self, images: Tensor) -> Encoded:
        """Images → mean and standard deviation of the latents, or the latents alone where they will be quantised."""
        x = self.folding.fold(images)
        encoded = self.model.encode(x.expand(-1, self.channels, -1, -1))
        if isinstance(self.model, VQModel):
            return Encoded(self._lifted(encoded.latents))
        loc, scale = encoded.latent_dist.mean, encoded.latent_dist.std
        return Encoded(self._lifted(loc), scale if self.manifold.is_flat else self.scaling * scale)

    def _lifted(self, latents: Tensor) -> Tensor:
        if self.manifold.is_flat:
            return latents
        return within_radius(self.manifold, self.scaling * latents, self.radius, 1)

    def draw(self, encoded: Encoded, generator: Generator | Tensor) -> Tensor:
        """A sample of each posterior; the latents themselves where they will be quantised."""
        loc, scale = encoded
        if scale is None:
            return loc
        if not isinstance(generator, Tensor):
            generator = torch.randn(loc.shape, generator=generator, device=loc.device)
        v = loc + scale * generator
        return v if self.manifold.is_flat else within_radius(self.manifold, v, self.radius, 1)

    def to_images(self, v: Tensor) -> Tensor:
        """Normal coordinates of latents → images (B, C, H, W) in [0, 1]."""
        x = self.model.decode(v if self.manifold.is_flat else v / self.scaling).sample
        x = (x + 1) / 2 if self.image_shape[0] == self.channels else (x.mean(1, True) + 1) / 2
        return self.folding.unfold(x).clamp(0, 1)
