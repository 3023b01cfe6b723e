"""Rules between sections about the networks: widths, heads, groups and sides."""

import math
from collections.abc import Iterator

from hldm.config.autoencoder import Convolutions, GlobalKL, Published
from hldm.config.diffusion import CrossAttention, UNet
from hldm.config.fits_published import and_denoiser, levels
from hldm.config.schema import RunConfig

USUAL_SIDE = 32
"""The side of images where it is not known."""


def widths(c: RunConfig) -> Iterator[str]:
    """Widths fit their attention heads, and heads have balls where they are hyperbolic."""
    denoiser = c.denoiser
    if isinstance(denoiser, CrossAttention) and denoiser.width % denoiser.heads:
        yield (
            f"denoiser.heads={denoiser.heads} does not divide denoiser.width={denoiser.width}. "
            f"Try denoiser.width={nearest(denoiser.width, denoiser.heads)}."
        )
    if not isinstance(denoiser, UNet):
        return
    head, groups, widths = denoiser.head_channels, denoiser.groups, denoiser.block_channels
    if uneven := [width for width in widths if width % groups]:
        yield (
            f"denoiser.groups={groups} does not divide {uneven[0]} of denoiser.block_channels into groups. "
            f"Try denoiser.groups={math.gcd(groups, *widths)}."
        )
    allowed = [2**level for level in range(len(widths))]
    if unknown := [factor for factor in denoiser.attention_resolutions or () if factor not in allowed]:
        yield (
            f"denoiser.attention_resolutions has {unknown[0]}, and the {len(widths)} levels of denoiser.block_channels "
            f"are {', '.join(map(str, allowed))} times smaller than the latent. Take some of these."
        )
    attending = [width for width, attends in zip(widths, denoiser.attention_levels, strict=True) if attends]
    if c.conditioning.reads_text or denoiser.middle == "attention":
        attending.append(widths[-1])
    if uneven := [width for width in attending if width % head]:
        where = "the last" if uneven[0] == widths[-1] else "one"
        yield (
            f"denoiser.head_channels={head} does not divide {uneven[0]}, {where} of denoiser.block_channels, into "
            f"attention heads. Try denoiser.head_channels={math.gcd(head, *attending)}."
        )
    has_classes = c.has_diffusion and c.conditioning.takes_labels and not c.conditioning.reads_text
    if has_classes and not denoiser.class_embedding:
        yield (
            "denoiser.class_embedding=false tells the network no class, and this conditioning has classes to tell. "
            "Type conditioning=none, or denoiser.class_embedding=true."
        )
    if denoiser.attention == "hyperbolic_distance" and not has_balls(head):
        yield (
            f"denoiser.head_channels={head} cannot be split into balls of 2 to 8 dimensions, which "
            "denoiser.attention=hyperbolic_distance needs (a ball of one dimension is flat). "
            "Try denoiser.head_channels=16."
        )


def sides(c: RunConfig) -> Iterator[str]:
    """Every level can halve the side, and an image fits into it."""
    autoencoder, image = c.autoencoder, c.dataset.image_side
    if isinstance(autoencoder, Convolutions):
        side, patch, groups = autoencoder.padded_side, autoencoder.patch_size, autoencoder.groups
        if uneven := [width for width in autoencoder.block_channels if width % groups]:
            yield (
                f"autoencoder.groups={groups} does not divide {uneven[0]} of autoencoder.block_channels into groups. "
                f"Try autoencoder.groups={math.gcd(groups, *autoencoder.block_channels)}."
            )
        if side % (divisor := foldable(c, autoencoder)):
            yield (
                f"autoencoder.padded_side={side} cannot be folded by autoencoder.patch_size={patch} and halved by the "
                f"levels of the autoencoder{and_denoiser(c)}: it must be a multiple of {divisor}, such as "
                f"autoencoder.padded_side={divisor * max(1, math.ceil(max(side, image or 0) / divisor))}."
            )
    if isinstance(autoencoder, Convolutions | Published) and image and autoencoder.padded_side < image:
        yield (
            f"autoencoder.padded_side={autoencoder.padded_side} is less than the {image} × {image} pixels of an image. "
            f"Give the next multiple that fits, such as autoencoder.padded_side={-(-image // 8) * 8}."
        )


def foldable(c: RunConfig, autoencoder: Convolutions) -> int:
    """What a side is a multiple of that can be folded, and halved by every level but the last of networks that must."""
    return int(autoencoder.patch_size * 2 ** (len(autoencoder.block_channels) - 1 + levels(c) - 1))


def fitting_side(c: RunConfig) -> int:
    """What autoencoder.padded_side=auto means: the next multiple that networks take, 32 where the side is not known."""
    assert isinstance(c.autoencoder, Convolutions)
    divisor = foldable(c, c.autoencoder)
    return divisor * math.ceil((c.dataset.image_side or USUAL_SIDE) / divisor)


def fitting_balls(c: RunConfig) -> int:
    """What geometry.manifold.balls=auto means: planes where latents are a map of an even number of channels, else 1."""
    channels = c.autoencoder.latent_channels
    is_map = isinstance(c.autoencoder, Convolutions) and not isinstance(c.autoencoder, GlobalKL)
    return channels // 2 if is_map and channels % 2 == 0 else 1


def has_balls(channels: int) -> bool:
    """Whether channels can be cut into balls of dimension 2 to 8."""
    return any(channels % n == 0 for n in range(2, 9))


def nearest(value: int, divisor: int) -> int:
    """The multiple of `divisor` that is nearest to `value`."""
    return divisor * max(1, round(value / divisor))
