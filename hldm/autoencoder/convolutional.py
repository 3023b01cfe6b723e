"""The convolutions that all autoencoders with a map of latents share: Stable Diffusion's encoder and decoder.

Legend: images (B, C, H, W) in [0, 1]; features (B, channels, h, w), one position of the latent map at each place.
"""

from typing import Literal

import torch.nn.functional as F
from diffusers.models.autoencoders.vae import Decoder, Encoder
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from hldm.errors import UserError
from hldm.geometry import Manifold
from hldm.nn import Gyroplane

GROUPS = 8
"""Channels of every level are normalised in so many groups."""


class Frame:
    """Pixels ⇄ what the convolutions see: padded with black to a square, and folded into channels.

    Args:
        image_shape: (C, H, W).
        patch_size: side of the pixel blocks that become one position.
        padded_side: of the square.
    """

    def __init__(self, image_shape: tuple[int, int, int], patch_size: int, padded_side: int) -> None:
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


def latent_shape(frame: Frame, block_channels: list[int], latent_channels: int) -> tuple[int, int, int]:
    """(latent channels, h, w): each level but the last halves the side."""
    side = frame.side // 2 ** (len(block_channels) - 1)
    return latent_channels, side, side


class ImageEncoder(Encoder):
    """Images → features, with `out_channels` of them, or twice as many where `double_z`."""

    def __init__(
        self, frame: Frame, out_channels: int, block_channels: list[int], layers_per_block: int, *, double_z: bool
    ) -> None:
        levels = ("DownEncoderBlock2D",) * len(block_channels)
        super().__init__(
            frame.channels, out_channels, levels, tuple(block_channels), layers_per_block, GROUPS, double_z=double_z
        )
        self.frame = frame

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.frame.fold(images))


class ImageDecoder(Decoder):
    """Features → the likelihood's parameters, (B, C, H, W)."""

    def __init__(self, frame: Frame, in_channels: int, block_channels: list[int], layers_per_block: int) -> None:
        levels = ("UpDecoderBlock2D",) * len(block_channels)
        super().__init__(in_channels, frame.channels, levels, tuple(block_channels), layers_per_block, GROUPS)
        self.frame = frame

    def forward(self, features: Tensor) -> Tensor:
        return self.frame.unfold(super().forward(features))


class StyledDecoder(ImageDecoder):
    """An `ImageDecoder` whose normalisation layers are scaled and shifted by a vector, the style of an image.

        h ← GroupNorm(h)·(1 + a(style)) + b(style)   in every ResNet block        Perez et al. (2018), FiLM

    Args:
        style_channels: S.
    """

    def __init__(
        self, frame: Frame, in_channels: int, block_channels: list[int], layers_per_block: int, style_channels: int
    ) -> None:
        super().__init__(frame, in_channels, block_channels, layers_per_block)
        for block in self.modules():
            if isinstance(block, ResnetBlock2D):
                # what the constructor of the block does where the decoder lets it
                block.time_embedding_norm = "scale_shift"
                block.time_emb_proj = nn.Linear(style_channels, 2 * block.out_channels)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:  # type: ignore[override]  # a style besides
        """(B, in_channels, h, w) and (B, S) → (B, C, H, W)."""
        x = self.mid_block(self.conv_in(features), style)
        for block in self.up_blocks:
            x = block(x, style)
        return self.frame.unfold(self.conv_out(self.conv_act(self.conv_norm_out(x))))


def decoder_stem(kind: Literal["linear", "gyroplane"], manifold: Manifold, channels: int) -> nn.Module:
    """The layer that takes normal coordinates (B, channels, h, w) into the decoder, with as many features."""
    return Gyroplane(manifold, channels, dim=1) if kind == "gyroplane" else nn.Conv2d(channels, channels, 1)
