"""The convolutions that all autoencoders of pictures share: Stable Diffusion's encoder and decoder.

Legend: images (B, C, H, W) in [0, 1]; features (B, channels, h, w), one position of the latent map at each place.
"""

from typing import Literal

import torch.nn.functional as F
from diffusers.models.autoencoders.vae import Decoder, Encoder
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from hldm.config.autoencoder import Convolutions, StyledKL
from hldm.errors import UserError
from hldm.geometry import Manifold
from hldm.nn import Gyroplane


class PixelFolding:
    """Pixels ⇄ what the convolutions see: padded with black to a square, and folded into channels.

    Folding 2 × 2 pixels makes every convolution at the full side four times cheaper.

    Args:
        image_shape: (C, H, W).
        patch_size: side of the pixel blocks that become one position.
        padded_side: of the square.

    Raises:
        UserError: the images are larger than the square.
    """

    def __init__(self, image_shape: tuple[int, ...], *, patch_size: int, padded_side: int) -> None:
        channels, self.height, self.width = image_shape
        side = max(self.height, self.width)
        if padded_side < side:
            raise UserError(
                f"autoencoder.padded_side={padded_side} is less than the {self.height} × {self.width} pixels of an "
                "image. Give the next multiple that fits, such as "
                f"autoencoder.padded_side={-(-side // 8) * 8}."
            )
        self.patch_size = patch_size
        self.channels = channels * patch_size**2
        self.side = padded_side // patch_size
        self.right, self.bottom = padded_side - self.width, padded_side - self.height

    def fold(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] → (B, channels, side, side) in [−1, 1]."""
        left, top = self.right // 2, self.bottom // 2
        x = F.pad(2 * images - 1, (left, self.right - left, top, self.bottom - top), value=-1.0)
        return F.pixel_unshuffle(x, self.patch_size)

    def unfold(self, x: Tensor) -> Tensor:
        """(B, channels, side, side) → (B, C, H, W), numbers unchanged."""
        left, top = self.right // 2, self.bottom // 2
        return F.pixel_shuffle(x, self.patch_size)[..., top : top + self.height, left : left + self.width]

    def sides_after(self, levels: int) -> tuple[int, int]:
        """(h, w) of the map behind so many levels, each of which but the last halves the side."""
        side = self.side // 2 ** (levels - 1)
        return side, side


def folding_and_sides(settings: Convolutions, image_shape: tuple[int, ...]) -> tuple[PixelFolding, tuple[int, int]]:
    """How pixels are folded, and (h, w) of the map that the encoder makes of them."""
    folding = PixelFolding(image_shape, patch_size=settings.patch_size, padded_side=settings.padded_side)
    return folding, folding.sides_after(len(settings.block_channels))


class ImageEncoder(Encoder):
    """Images → features, with `out_channels` of them, or twice as many where `double_z`."""

    def __init__(self, settings: Convolutions, folding: PixelFolding, out_channels: int, *, double_z: bool) -> None:
        channels = settings.block_channels
        levels = ("DownEncoderBlock2D",) * len(channels)
        super().__init__(
            folding.channels,
            out_channels,
            levels,
            channels,
            settings.layers_per_block,
            settings.groups,
            double_z=double_z,
        )
        self.folding = folding

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.folding.fold(images))


class ImageDecoder(Decoder):
    """Features → the likelihood's parameters, (B, C, H, W)."""

    def __init__(self, settings: Convolutions, folding: PixelFolding, in_channels: int) -> None:
        channels = settings.block_channels
        levels = ("UpDecoderBlock2D",) * len(channels)
        super().__init__(in_channels, folding.channels, levels, channels, settings.layers_per_block, settings.groups)
        self.folding = folding

    def forward(self, features: Tensor) -> Tensor:
        return self.folding.unfold(super().forward(features))


class StyledDecoder(ImageDecoder):
    """An `ImageDecoder` whose normalisation layers are scaled and shifted by a vector, the style of an image.

    h ← GroupNorm(h)·(1 + a(style)) + b(style)   in every ResNet block        Perez et al. (2018), FiLM
    """

    def __init__(self, settings: StyledKL, folding: PixelFolding, in_channels: int) -> None:
        super().__init__(settings, folding, in_channels)
        for block in self.modules():
            if isinstance(block, ResnetBlock2D):
                # what the constructor of the block does where the decoder lets it
                block.time_embedding_norm = "scale_shift"
                block.time_emb_proj = nn.Linear(settings.style_channels, 2 * block.out_channels)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:  # type: ignore[override]  # a style besides
        """(B, in_channels, h, w) and (B, style_channels) → (B, C, H, W)."""
        x = self.mid_block(self.conv_in(features), style)
        for block in self.up_blocks:
            x = block(x, style)
        return self.folding.unfold(self.conv_out(self.conv_act(self.conv_norm_out(x))))


class DrawsImages:
    """An autoencoder whose decoder is an `ImageDecoder`."""

    decoder: ImageDecoder

    @property
    def last_layer(self) -> Tensor:
        """The weight of the decoder's last convolution."""
        weight: Tensor = self.decoder.conv_out.weight
        return weight


def map_stem(kind: Literal["linear", "gyroplane"], manifold: Manifold) -> nn.Module:
    """The layer that takes normal coordinates (B, C, h, w) into the decoder, with as many features."""
    channels = manifold.channels
    return Gyroplane(manifold, channels, dim=1) if kind == "gyroplane" else nn.Conv2d(channels, channels, 1)
