"""Published autoencoders of diffusers, as they are: Stable Diffusion's AutoencoderKL, and VQModel of latent diffusion.

Legend: images (B, C, H, W) in [0, 1]; `v` latents (B, latent channels, h, w), their own normal coordinates, as space is
flat.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL, VQModel
from torch import Generator, Tensor

from hldm.autoencoder.base import Autoencoder
from hldm.autoencoder.convolutional import Frame
from hldm.errors import UserError
from hldm.geometry import Manifold

CLASSES = {"AutoencoderKL": AutoencoderKL, "VQModel": VQModel}


class PublishedAutoencoder(Autoencoder):
    """An autoencoder that comes trained. Grey images are repeated over its three channels, and its output averaged.

    It gives images without a likelihood: of the first stage, the reconstruction error is all that is reported.

    Args:
        architecture: content of the folder's config.json.
        latent_channels: of its latents.
        padded_side: images are padded with black to this height and width, a multiple of what its levels halve.
        manifold: flat, with `latent_channels` channels.
        decoder_stem: "linear"; it has none of its own.
        image_shape: (C, H, W) of the images.
    """

    likelihood = "normal"

    def __init__(
        self,
        architecture: Mapping[str, Any],
        latent_channels: int,
        padded_side: int,
        *,
        manifold: Manifold,
        decoder_stem: str,
        image_shape: tuple[int, int, int],
    ) -> None:
        frame = Frame(image_shape, 1, padded_side)
        side = frame.side // 2 ** (len(architecture["block_out_channels"]) - 1)
        super().__init__(manifold, image_shape, (latent_channels, side, side))
        self.frame = frame
        self.channels: int = architecture.get("in_channels", 3)
        if self.channels != image_shape[0] and image_shape[0] != 1:
            raise UserError(
                f"The autoencoder of first_stage takes images of {self.channels} channels, and those of the data set "
                f"have {image_shape[0]}. Choose another first_stage, or another dataset."
            )
        self.model = CLASSES[architecture["_class_name"]].from_config(dict(architecture))

    def load(self, folder: Path) -> None:
        """Take the weights of a folder of diffusers, safetensors only, without asking a network.

        Raises:
            UserError: the file is damaged or of another architecture.
        """
        try:
            # from_pretrained, since it knows the names that older versions gave to weights
            trained = type(self.model).from_pretrained(
                folder, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
            )
            self.model.load_state_dict(trained.state_dict())
        except (OSError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"The weights of first_stage={folder} cannot be used: {reason} Copy it anew.") from error

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images → (mean, standard deviation) of the latents, or the latents alone where they will be quantised."""
        x = self.frame.fold(images)
        encoded = self.model.encode(x.expand(-1, self.channels, -1, -1))
        if isinstance(self.model, VQModel):
            return (encoded.latents,)
        return encoded.latent_dist.mean, encoded.latent_dist.std

    def draw(self, encoded: tuple[Tensor, ...], generator: Generator) -> Tensor:
        """A sample of each posterior; nothing is drawn where latents will be quantised."""
        if len(encoded) == 1:
            return encoded[0]
        mean, std = encoded
        return mean + std * torch.randn(mean.shape, generator=generator, device=mean.device)

    def decode(self, v: Tensor) -> Tensor:
        """Latents → images (B, C, H, W), in [0, 1] but for what the decoder exceeds it by."""
        x = self.model.decode(v).sample
        return self.frame.unfold((x + 1) / 2 if self.image_shape[0] == self.channels else (x.mean(1, True) + 1) / 2)

    def to_images(self, v: Tensor) -> Tensor:
        return self.decode(v).clamp(0, 1)

    def losses(self, images: Tensor, generator: Generator) -> NamedTuple:
        raise AssertionError("a published autoencoder is not trained")

    def test_terms(self, images: Tensor, encoded: tuple[Tensor, ...], generator: Generator) -> dict[str, Tensor]:
        return {}

    def test_figures(self, means: Mapping[str, Tensor]) -> dict[str, float]:
        return {}
