"""What memory a run takes: a bound from below for what is refused, a guess for how many run at once. Without torch."""

from collections.abc import Iterable, Iterator

from hldm.config.autoencoder import Convolutions, Published
from hldm.config.diffusion import UNet
from hldm.config.schema import RunConfig
from hldm.errors import UserError

FLOAT = 4
"""Bytes of a number."""

CERTAIN = 2
"""Only what needs so many times the memory there is, by a bound from below, is refused."""

BESIDE = 1.25 * 2**30
"""Bytes of a process with its libraries and data: finished runs of the default had a peak of 1.3 to 1.7 GiB."""

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


def refuse_more_than(total: int, config: RunConfig) -> None:
    """Raise a UserError where the run cannot fit into `total` bytes, whatever else is true of it."""
    problems = [
        f"{key}={value} needs at least {least / 2**30:,.0f} GiB of memory with the channels and sides of this model, "
        f"and this machine has {total / 2**30:,.1f} GiB. "
        + (f"Type {key}={fits} or less." if fits else f"Fewer channels are needed: {channels} has too many.")
        for key, value, least, channels in needs(config)
        if least > CERTAIN * total
        for fits in [int(value * total / least / CERTAIN)]
    ]
    if problems:
        raise UserError.of(problems)


def needs(config: RunConfig) -> Iterator[tuple[str, int, float, str]]:
    """(setting, its value, bytes at least, the setting of the channels) of both stages' steps and of sampling.

    A step keeps what normalisation, SiLU and convolution read in both halves of every ResNet block, six tensors
    (B, channels, side, side), and weights, gradient and two moments of two convolutions' 3 × 3 × channels². Sampling
    keeps one such tensor at a time. What else a model holds comes on top: about 300 of the 830 MiB that the default
    denoiser takes for 1,000 images are counted.
    """
    autoencoder, denoiser, training = config.autoencoder, config.denoiser, config.training
    side = None
    if isinstance(autoencoder, Convolutions):
        side = autoencoder.padded_side // autoencoder.patch_size
        if config.first_stage is None:
            size = training.first_stage.batch_size
            least = _step(size, autoencoder.block_channels, side, autoencoder.layers_per_block)
            yield "training.first_stage.batch_size", size, least, "autoencoder.block_channels"
        side //= 2 ** (len(autoencoder.block_channels) - 1)
    elif isinstance(autoencoder, Published):
        side = autoencoder.padded_side // 2 ** (
            len((autoencoder.architecture or {}).get("block_out_channels", [0])) - 1
        )
    if side is None or not isinstance(denoiser, UNet) or not config.has_diffusion:
        return
    if training.diffusion is not None:
        size = training.diffusion.batch_size
        least = _step(size, denoiser.block_channels, side, denoiser.layers_per_block)
        yield "training.diffusion.batch_size", size, least, "denoiser.block_channels"
    if config.metrics.extractors:
        size = min(config.metrics.sampling_batch_size, config.metrics.samples)
        least = FLOAT * size * denoiser.block_channels[0] * side**2
        yield "metrics.sampling_batch_size", size, least, "denoiser.block_channels"


def _step(batch_size: int, block_channels: tuple[int, ...], side: int, layers: int) -> float:
    """Bytes that a training step of an encoder and a decoder keeps at least."""
    blocks = 2 * layers + 1  # of a level, on the way down and up
    kept = sum(channels * (side / 2**level) ** 2 for level, channels in enumerate(block_channels))
    weights = sum(9 * channels**2 for channels in block_channels)
    return FLOAT * blocks * (6 * batch_size * kept + 8 * weights)
