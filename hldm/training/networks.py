"""How the networks of a model work while they are trained: number format, rows at once, what is kept for backwards.

The networks are encoder, decoder and denoiser, as the ranks know them. What stands outside of them (posteriors,
distances on manifolds, losses) sees whole batches in float32; layers inside that compute on a manifold do so in float32
too, see `hldm.geometry.ops.full_precision`.

All of this holds where gradients are wanted. Without them (latents, samples, metrics) networks work as they always do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hldm.model import LatentModel
from hldm.training.ranks import networks_of, rows_of

recomputed = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
"""A function whose inner values are computed again backwards instead of kept; nothing in the networks is random."""


@dataclass(frozen=True)
class Way:
    """How networks work.

    Attributes:
        is_half: whether matrix products and convolutions are in bfloat16, with weights and sums in float32.
        microbatch: rows that go through a network at once; the others' inner values are computed again backwards. The
            gradient is that of the whole batch up to rounding, also where a loss looks at the whole batch. None: all.
        recomputes: whether the inner values of blocks are computed again backwards.
        is_channels_last: whether feature maps and kernels lie in memory with their channels last.
    """

    is_half: bool = False
    microbatch: int | None = None
    recomputes: bool = False
    is_channels_last: bool = False


def set_way(model: LatentModel, way: Way) -> None:
    """Let the networks of a model work so from now on; copies of them do, too."""
    for network in networks_of(model):
        if way.recomputes:
            _recompute_blocks(network)
        if way.is_channels_last:
            network.to(memory_format=torch.channels_last)
        if way.is_half or way.microbatch or way.is_channels_last:
            # of the network itself, so that a copy has one of its own; a function, as torch.compile wants it
            network.__dict__.update(way=way, forward=MethodType(_forward, network))


def _forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What the network's class says, in the network's way."""
    way: Way = self.__dict__["way"]
    plain: Callable[..., Any] = MethodType(type(self).forward, self)
    if not torch.is_grad_enabled():
        return plain(*args, **kwargs)

    def step(*args: Any, **kwargs: Any) -> Any:
        if not way.is_half:
            return plain(*args, **kwargs)
        device = next(self.parameters()).device.type
        with torch.autocast(device, torch.bfloat16):
            return _each(plain(*args, **kwargs), Tensor.float)

    if way.is_channels_last:
        args = tuple(_channels_last(part) for part in args)
    rows = next(len(part) for part in (*args, *kwargs.values()) if isinstance(part, Tensor) and part.ndim)
    if way.microbatch is None or rows <= way.microbatch:
        return step(*args, **kwargs)
    parts = []
    for first in range(0, rows, way.microbatch):
        own = slice(first, first + way.microbatch)
        parts.append(recomputed(step, *rows_of(args, rows, own), **rows_of(kwargs, rows, own)))
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return type(parts[0])(torch.cat(part) for part in zip(*parts, strict=True))


def _recompute_blocks(network: nn.Module) -> None:
    """Switch on what blocks of diffusers have for it, under the name that diffusers gives it."""
    for module in network.modules():
        if hasattr(module, "gradient_checkpointing"):
            # no attributes that torch's types know
            module.__dict__.update(gradient_checkpointing=True, _gradient_checkpointing_func=recomputed)


def _channels_last(value: Any) -> Any:
    is_map = isinstance(value, Tensor) and value.ndim == 4
    return value.contiguous(memory_format=torch.channels_last) if is_map else value


def _each(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A tensor, or each one of a tuple, changed."""
    return change(output) if isinstance(output, Tensor) else type(output)(change(part) for part in output)
