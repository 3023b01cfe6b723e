"""What memory a run takes: a bound from below for what is refused, a guess for how many run at once. Without torch."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hldm.config.autoencoder import MLP, VQ, Convolutions, Published, StyledKL
from hldm.config.conditioning import TextConditioning
from hldm.config.diffusion import CrossAttention, MapGlobal, MLPDenoiser, PublishedUNet, UNet
from hldm.config.published import least_numbers
from hldm.config.schema import RunConfig
from hldm.console import shown
from hldm.errors import UserError

FLOAT = 4
"""Bytes of a number."""

CERTAIN = 2
"""Only what needs so many times the memory there is, by a bound from below, is refused."""

MOST_OF_GPUS = 2**39
"""Bytes that no GPU has: more than three times an H200's."""

BESIDE = 1.25 * 2**30
"""Bytes of a process with its libraries and data: finished runs of the default had a peak of 1.3 to 1.7 GiB."""

TRAINED = 4 * FLOAT
"""Bytes of a number that is trained: itself, its gradient and two moments."""

MODULE = 4096
"""Bytes that a block of layers takes as objects of Python, however few numbers it has."""

SHARE = 3
"""How much more a step takes than its bound from below: see `needs`."""


def usual(configs: Iterable[RunConfig], peaks: Iterable[int]) -> int:
    """Bytes that the largest of these runs takes, as far as it is known.

    Args:
        peaks: MiB that finished runs of the same study took at most; they count where there are any.
    """
    if known := list(peaks):
        return max(known) * 2**20
    bounds = [least for config in configs for _, _, least, _ in needs(config)]
    return int(BESIDE + SHARE * max(bounds, default=0))


def refuse_more_than(total: int | None, config: RunConfig) -> None:
    """Raise a UserError where the run cannot fit, whatever else is true of it.

    Args:
        total: bytes of this machine's memory; None where it works on a GPU, or elsewhere.
    """
    have = "and no GPU has that. " if total is None else f"and this machine has {total / 2**30:,.1f} GiB. "
    total = MOST_OF_GPUS if total is None else total
    problems = [
        f"{key}={value} needs at least {least / 2**30:,.0f} GiB of memory with the channels and sides of this model, "
        + have
        + (f"Type {key}={fits} or less." if fits else f"Not even one image fits: make {sizes} smaller.")
        for key, value, least, sizes in needs(config)
        if least > CERTAIN * total
        for fits in [int(value * total / least / CERTAIN)]
    ]
    said = [
        (fits, f"{key}={shown(value)} makes weights that need at least {least / 2**30:,.0f} GiB of memory, {have}"
               + (f"Type {key}={fits} or less." if fits else "Take a smaller model."))
        for key, value, least, power in weights(config)
        if least > CERTAIN * total
        for fits in [int(value * (total / least / CERTAIN) ** (1 / power)) if isinstance(value, int) else 0]
    ]  # fmt: skip
    # one that is too large makes others too large that would be right beside a smaller one
    problems += [sentence for fits, sentence in said if fits or not any(other for other, _ in said)]
    if problems:
        raise UserError.of(problems)


def needs(config: RunConfig) -> Iterator[tuple[str, int, float, str]]:
    """(setting, its value, bytes at least, settings of sizes) of both stages' steps and of sampling.

    A step keeps what normalisation, SiLU and convolution read in both halves of every ResNet block, six tensors
    (B, channels, side, side), and weights, gradient and two moments of two convolutions' 3 × 3 × channels². B is
    `training.microbatch` where that is less than the batch; of a block that is computed again one tensor is kept, and
    in bfloat16 half of each. Sampling keeps one such tensor at a time. What else a model holds comes on top: about 300
    of the 830 MiB that the default denoiser takes for 1,000 images are counted.
    """
    autoencoder, denoiser, training = config.autoencoder, config.denoiser, config.training
    side = None
    if isinstance(autoencoder, Convolutions):
        side = autoencoder.padded_side // autoencoder.patch_size
        if config.first_stage is None:
            key, size = _at_once("first_stage", training.first_stage.batch_size, training.microbatch)
            yield key, size, _step(config, size, autoencoder, side), _sizes("autoencoder")
        side //= 2 ** (len(autoencoder.block_channels) - 1)
    elif isinstance(autoencoder, Published):
        side = autoencoder.padded_side // 2 ** (
            len((autoencoder.architecture or {}).get("block_out_channels", [0])) - 1
        )
    if side is None or not isinstance(denoiser, UNet) or not config.has_diffusion:
        return
    if training.diffusion is not None:
        key, size = _at_once("diffusion", training.diffusion.batch_size, training.microbatch)
        yield key, size, _step(config, size, denoiser, side), _sizes("denoiser")
    if config.metrics.extractors:
        size = min(config.metrics.sampling_batch_size, config.metrics.samples)
        least = FLOAT * size * denoiser.block_channels[0] * side**2
        yield "metrics.sampling_batch_size", size, least, "autoencoder.padded_side or denoiser.block_channels"


def _at_once(stage: str, batch_size: int, microbatch: int | None) -> tuple[str, int]:
    """How many images go through a network at once, and the setting that says so."""
    if microbatch is not None and microbatch < batch_size:
        return "training.microbatch", microbatch
    return f"training.{stage}.batch_size", batch_size


def _sizes(network: str) -> str:
    return f"autoencoder.padded_side, {network}.block_channels or {network}.layers_per_block"


def weights(config: RunConfig) -> Iterator[tuple[str, Any, float, int]]:
    """(setting, its value, bytes at least, power of the value that they grow with) of all that makes weights alone.

    Counted from settings: nothing is built, as that is what takes the memory. What is left out only lowers the bound.
    """
    autoencoder, denoiser, text = config.autoencoder, config.denoiser, config.conditioning
    latent = autoencoder.latent_channels
    last = 1
    if isinstance(autoencoder, Published) and autoencoder.architecture:
        yield _of_published("first_stage", config.first_stage, autoencoder.architecture, FLOAT)
    elif isinstance(autoencoder, MLP):
        last = autoencoder.hidden
        yield "autoencoder.hidden", last, TRAINED * last * 2 * (config.dataset.image_side or 1) ** 2, 1
    elif isinstance(autoencoder, Convolutions):
        last = autoencoder.block_channels[-1]
    if not autoencoder.is_published:
        yield "autoencoder.latent_channels", latent, TRAINED * last * latent, 1
    if isinstance(autoencoder, VQ):
        size = autoencoder.codebook_size
        yield "autoencoder.codebook_size", size, FLOAT * size * latent, 1
    if isinstance(autoencoder, StyledKL):
        for name in ("feature_channels", "style_channels"):
            value = getattr(autoencoder, name)
            yield f"autoencoder.{name}", value, TRAINED * last * value, 1
    if not config.has_diffusion:
        return
    if isinstance(denoiser, PublishedUNet) and denoiser.architecture:
        yield _of_published("denoiser.folder", denoiser.folder, denoiser.architecture, TRAINED)
    if isinstance(denoiser, MLPDenoiser | CrossAttention | MapGlobal):
        # of a residual block: two layers of 2 × width², and 3 × width² for its modulation
        yield "denoiser.width", denoiser.width, TRAINED * 7 * denoiser.width**2, 2
        least = max(MODULE, TRAINED * 7 * denoiser.width**2) * denoiser.blocks
        yield "denoiser.blocks", denoiser.blocks, least, 1
    if isinstance(text, TextConditioning):
        # of a layer of a transformer: four matrices of attention, and eight of its feed-forward network
        layer = 0 if text.pretrained is not None else TRAINED * 12 * text.channels**2
        yield "conditioning.channels", text.channels, max(layer, TRAINED * text.channels), 2
        if layer:
            yield "conditioning.layers", text.layers, max(MODULE, layer) * text.layers, 1


def _of_published(key: str, folder: str | None, content: Mapping[str, Any], each: int) -> tuple[str, Any, float, int]:
    """The same of a config.json of diffusers."""
    return key, folder, float(each * least_numbers(content)), 1


def _step(config: RunConfig, rows: int, network: Convolutions | UNet, side: int) -> float:
    """Bytes that a training step of an encoder and a decoder keeps at least, with so many images at once."""
    blocks = 2 * network.layers_per_block + 1  # of a level, on the way down and up
    kept = sum(channels * (side / 2**level) ** 2 for level, channels in enumerate(network.block_channels))
    weights = sum(9 * channels**2 for channels in network.block_channels)
    tensors = 1 if config.hardware.recompute else 6
    each = FLOAT / 2 if config.training.precision == "bfloat16" else FLOAT
    return blocks * (each * tensors * rows * kept + FLOAT * 8 * weights)
