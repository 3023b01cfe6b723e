"""Several processes work on one run, its ranks, and get what one process gets.

All ranks do the same with the same batches and the same noise, but the networks: of every batch, a rank sends its own
rows through them, and gets the rows of the others from the others. So whatever looks at a whole batch (noise that is
paired with latents, codebooks, statistics) is right by construction, and sampling and evaluation are shared too. A rank
on its own rows has other last bits than one process with all of them; that is all the difference there is.

Backwards, a rank knows what its own rows do. `Gather` adds up over ranks what the loss says of each row, so that the
mean over ranks of a parameter's gradient is the whole gradient, also of parameters outside of the networks.
"""

import dataclasses
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from datetime import timedelta
from os import devnull, environ
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from hldm.data import Split
from hldm.errors import Stopped, UserError
from hldm.run import stop
from hldm.run.ranks import FOLDER, GONE, Place, place

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""For the first rank may wait for a first stage that another run trains. A rank that died is noticed at once."""

MEETING = timedelta(minutes=10)
"""That ranks wait for each other at the beginning: nodes of a job do not start at one moment."""

SHARED = ("encoder", "decoder")
"""Names of the networks of an autoencoder."""

_place = Place()
_scratch: Path | None = None
_is_whole = False


@contextmanager
def group() -> Iterator[Place]:
    """Join the other ranks while the block lasts; alone where there are none."""
    global _place, _scratch
    own = place()
    if own.size == 1 or dist.is_initialized():
        yield _place
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(own.local % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    with _lost():
        store, rank, world = next(rendezvous(own.rendezvous, own.rank, own.size, timeout=MEETING))
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
    quiet = nullcontext() if own.is_first else redirect_stdout(open(devnull, "w"))  # noqa: SIM115 - until it ends
    given = environ.get(FOLDER)
    with quiet, nullcontext(given) if given else tempfile.TemporaryDirectory(prefix="hldm-rank-") as folder:
        _place, _scratch = own, Path(folder)
        try:
            yield own
        finally:
            _place, _scratch = Place(), None
            if sys.exc_info()[0] is None:  # else others may be gone, and nobody is waited for
                dist.destroy_process_group()


def size() -> int:
    """How many ranks there are."""
    return _place.size


def is_first() -> bool:
    """Whether this is the rank that writes."""
    return _place.is_first


def local_device() -> torch.device:
    """The GPU of this rank."""
    return torch.device("cuda", _place.local % torch.cuda.device_count()) if size() > 1 else torch.device("cuda")


def scratch() -> Path:
    """The folder in which a rank other than the first writes what nobody reads."""
    assert _scratch is not None
    return _scratch


def together(make: Callable[[], T]) -> T:
    """What `make` gives, or raises, on the first rank; the others do not call it."""
    if size() == 1:
        return make()
    said: list[Any] = [None]
    if is_first():
        try:
            said = [(make(), None)]
        except BaseException as raised:
            said = [(None, raised)]
    with _lost():
        dist.broadcast_object_list(said, device=torch.device("cpu"))
    value, error = said[0]
    if error is not None:
        raise error
    return value


def anywhere(flag: bool) -> bool:
    """Whether `flag` is true on any rank."""
    if size() == 1:
        return flag
    found = torch.tensor(float(flag))
    with _lost():
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found)


def check() -> None:
    """Stop on all ranks where one has been asked to.

    Raises:
        Stopped: it has.
    """
    if anywhere(stop.requested()):
        stop.check()
        raise Stopped("another rank was asked to stop")


@torch.no_grad()
def align(module: nn.Module) -> None:
    """Give every rank the first one's parameters and buffers."""
    if size() == 1:
        return
    for tensor in (*module.parameters(), *module.buffers()):
        whole = tensor.detach().contiguous()
        with _lost():
            dist.broadcast(whole, 0)
        tensor.copy_(whole)


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over ranks. They are of one number format and on one device."""
    if size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    with _lost():
        dist.all_reduce(flat)
    flat /= size()
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def average_gradients(module: nn.Module) -> None:
    """The gradient of the whole batch, from those that the ranks have."""
    average([parameter.grad for parameter in module.parameters() if parameter.grad is not None])


@contextmanager
def whole() -> Iterator[None]:
    """Every rank sends all rows through the networks in the block, as where derivatives by their inputs are taken."""
    global _is_whole
    before, _is_whole = _is_whole, True
    try:
        yield
    finally:
        _is_whole = before


def divided(function: Callable[[Tensor], tuple[Tensor, ...]], rows: Tensor) -> tuple[Tensor, ...]:
    """function(rows), of which each rank computes its own rows; the function mixes nothing between rows."""
    if size() == 1 or len(rows) < size():
        return function(rows)
    own = _own(len(rows))
    return tuple(_gathered(part, own, len(rows)) for part in function(rows[own]))


def batches(split: Split, chosen: Iterable[Tensor]) -> Iterator[Tensor]:
    """Those of `Split.batches`. Of files, each rank reads and decodes its own rows, and gets those of the others."""
    if size() == 1 or _is_whole or isinstance(split.whole(), Tensor):
        yield from split.batches(chosen)
        return
    lengths: deque[int] = deque()

    def own_rows() -> Iterator[Tensor]:
        for indices in chosen:
            lengths.append(len(indices))
            yield indices if len(indices) < size() else indices[_own(len(indices))]

    for images in split.batches(own_rows()):
        rows = lengths.popleft()
        yield images if rows < size() else _gathered(images, _own(rows), rows)


def share_networks(model: nn.Module) -> None:
    """Let the ranks share what the networks of a `LatentModel` do; nothing happens where there is one rank."""
    for network in networks_of(model):
        share_rows(network)


def networks_of(model: nn.Module) -> Iterator[nn.Module]:
    """Encoder, decoder and denoiser of a `LatentModel`, as far as it has them."""
    autoencoder: Any = model.autoencoder
    owners = (autoencoder, getattr(autoencoder, "model", None), model)
    for owner, names in zip(owners, (SHARED, SHARED, ("denoiser",)), strict=True):
        for name in names:
            if isinstance(part := getattr(owner, name, None), nn.Module):
                yield part


def share_rows(module: nn.Module) -> None:
    """Let each rank send its own rows through the module, which mixes nothing between them."""
    if size() == 1:
        return
    rows = 0  # of the batch that is on its way; 0: every rank has all

    def before(module: nn.Module, args: Any, kwargs: Any) -> Any:
        nonlocal rows
        rows = next(len(part) for part in (*args, *kwargs.values()) if isinstance(part, Tensor) and part.ndim)
        if _is_whole or rows < size():
            rows = 0
            return None
        own = _own(rows)
        return rows_of(args, rows, own), rows_of(kwargs, rows, own)

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        if not rows:
            return None
        own = _own(rows)
        if isinstance(output, Tensor):
            return Gather.apply(output, own, rows)
        return type(output)(Gather.apply(part, own, rows) for part in output)

    module.register_forward_pre_hook(before, with_kwargs=True)
    module.register_forward_hook(after, with_kwargs=True)


class Gather(torch.autograd.Function):
    """Own rows (b, …) → those of all ranks (B, …); backwards, what all ranks say of the own rows is added up."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, own: slice, rows: int) -> Tensor:
        ctx.own = own
        return _gathered(part, own, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradient.contiguous().clone()
        with _lost():
            dist.all_reduce(gradient)
        return gradient[ctx.own], None, None


def _gathered(part: Tensor, own: slice, rows: int) -> Tensor:
    every = part.new_zeros(rows, *part.shape[1:])
    every[own] = part.detach()
    with _lost():
        dist.all_reduce(every)  # zeros elsewhere: nothing is rounded
    return every


def _own(rows: int) -> slice:
    """This rank's share of so many rows."""
    return slice(rows * _place.rank // _place.size, rows * (_place.rank + 1) // _place.size)


def rows_of(value: Any, rows: int, own: slice) -> Any:
    """The own rows of all tensors in the arguments of a network that have a row for each of the batch."""
    if isinstance(value, Tensor):
        return value[own] if value.ndim and len(value) == rows else value
    if isinstance(value, tuple | list):
        return type(value)(rows_of(part, rows, own) for part in value)
    if isinstance(value, dict):
        return {name: rows_of(part, rows, own) for name, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **rows_of(fields, rows, own))
    return value


@contextmanager
def _lost() -> Iterator[None]:
    """A failure to reach another rank, in words; that one has the reason."""
    try:
        yield
    except RuntimeError as error:
        stop.check()  # it may have ended because it was asked to, as this one has been
        raise UserError(f"{GONE}: {' '.join(str(error).split())[:200]}") from error
