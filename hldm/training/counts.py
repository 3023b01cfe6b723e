"""What a training step takes, counted without doing it: FLOPs, parameters, and what is kept for backwards.

Networks are sent through on torch's meta device, where tensors have shapes and no numbers. FLOPs are two for each
multiplication that is added, of matrix products, convolutions and attention, forwards and backwards, as
`torch.utils.flop_counter` has them; elementwise work is left out, as is what is computed a second time to save memory.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hldm.autoencoder import Autoencoder, TrainableAutoencoder
from hldm.diffusion import Denoiser
from hldm.model import LatentDiffusion, LatentModel
from hldm.nn import Condition
from hldm.training import ranks
from hldm.training.randomness import stream

ROWS = 2
"""Images that are sent through; figures are for one of them."""


@dataclass(frozen=True)
class StageCount:
    """What a stage takes.

    Attributes:
        flops: of one image in a training step, forwards and backwards.
        parameters: that are trained.
        kept_bytes: of inner values that are kept for backwards, for one image, in float32.
    """

    flops: int
    parameters: int
    kept_bytes: int


@dataclass(frozen=True)
class Counts:
    """What the training of a model takes; a stage that it does not have is None.

    Attributes:
        encode_flops: of the first stage's encoder for one image.
        frozen_parameters: of the first stage while the second one is trained.
    """

    first_stage: StageCount | None
    diffusion: StageCount | None
    encode_flops: int
    frozen_parameters: int


def count(model: LatentModel) -> Counts:
    """Both stages of a model on any device, which is left as it is; of one rank where there are several."""
    with ranks.whole():
        return _count(model)


def _count(model: LatentModel) -> Counts:
    autoencoder = model.autoencoder
    frozen = sum(p.numel() for p in autoencoder.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        on_meta(autoencoder).encode(images_of(autoencoder))
    encode_flops = counter.get_total_flops() // ROWS
    return Counts(
        count_first_stage(autoencoder) if isinstance(autoencoder, TrainableAutoencoder) else None,
        count_diffusion(model) if isinstance(model, LatentDiffusion) else None,
        encode_flops,
        frozen,
    )


def count_first_stage(autoencoder: TrainableAutoencoder) -> StageCount:
    """Encoder and decoder of an autoencoder that is trained, without the networks of its losses: they are small."""
    twin = on_meta(autoencoder).requires_grad_(True)

    def forward() -> list[Tensor]:
        encoded = twin.encode(images_of(twin))
        return [twin.decode(encoded.loc), *(part for part in encoded if part is not None)]

    return counted_module(twin, forward)


def count_diffusion(model: LatentDiffusion) -> StageCount:
    """The denoiser. What a conditioning of its own, such as a text transformer, takes is small beside it."""
    twin: Denoiser = on_meta(model.denoiser)
    labels = torch.zeros(ROWS, dtype=torch.long, device=model.device)
    with torch.no_grad():
        condition = model.conditioning.for_training(labels, stream(0, "count", device=model.device))
    shapes = _to_meta(condition)
    v = torch.empty(ROWS, *model.layout.shape, device="meta")
    found = counted_module(twin, lambda: [twin(v, torch.empty(ROWS, device="meta"), shapes)])
    others = sum(p.numel() for p in model.conditioning.parameters() if p.requires_grad)
    return dataclasses.replace(found, parameters=found.parameters + others)


def counted_module(module: nn.Module, forward: Callable[[], list[Tensor]]) -> StageCount:
    """What a module on the meta device takes for one of `ROWS` images, all of which `forward` sends through."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    with FlopCounterMode(display=False) as counter:
        with _kept(module) as kept:
            outputs = forward()
        torch.stack([output.sum() for output in outputs if output.requires_grad]).sum().backward()
    return StageCount(counter.get_total_flops() // ROWS, sum(p.numel() for p in parameters), sum(kept.values()) // ROWS)


@contextmanager
def _kept(module: nn.Module) -> Iterator[dict[int, int]]:
    """Storage → bytes, of what is kept for backwards in the block, the module's own tensors left out."""
    own = {tensor.untyped_storage()._cdata for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}
    alive = []  # so that no storage's number is given to another one

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own and storage._cdata not in kept:
            kept[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield kept


def on_meta(module: Any) -> Any:
    """A copy of a module on the meta device, which takes no memory."""
    memo: dict[int, Any] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    twin = copy.deepcopy(module, memo)
    for part in twin.modules():  # it works in the plainest way, whatever `set_way` has made of the module
        for name in ("way", "forward"):
            part.__dict__.pop(name, None)
        if "gradient_checkpointing" in part.__dict__:
            part.__dict__["gradient_checkpointing"] = False
    return twin


def images_of(autoencoder: Autoencoder) -> Tensor:
    """(ROWS, *image shape), without numbers."""
    return torch.empty(ROWS, *autoencoder.image_shape, device="meta")


def _to_meta(condition: Condition) -> Condition:
    fields = {field.name: getattr(condition, field.name) for field in dataclasses.fields(condition)}
    return Condition(**{name: part if part is None else part.to("meta") for name, part in fields.items()})
