"""Files of tensors → name → tensor: safetensors, and what torch.save wrote, of which only tensors are kept.

A checkpoint of Lightning is a pickle that may name any class. torch refuses such a file with `weights_only`. It is read
again then, with every class but those that tensors are made of replaced by one that does nothing.
"""

import pickle
import struct
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hldm.errors import UserError

TENSOR_PARTS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
    **{("torch", f"{kind}Storage"): getattr(torch, f"{kind}Storage") for kind in ("Float", "Double", "Half", "Long")},
    **{("torch", f"{kind}Storage"): getattr(torch, f"{kind}Storage") for kind in ("Int", "BFloat16", "Bool", "Byte")},
}
"""(module, name) of all that a pickle may call."""


class Nothing(dict[Any, Any]):
    """Stands for an object of any other class: it takes whatever a pickle gives it, and does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    def __call__(self, *args: object, **kwargs: object) -> "Nothing":
        return self

    def __setstate__(self, state: object) -> None: ...

    def append(self, item: object) -> None: ...

    def extend(self, items: object) -> None: ...

    def __hash__(self) -> int:  # type: ignore[override]  # it may be a key
        return id(self)


class TensorUnpickler(pickle.Unpickler):
    """Builds tensors, the usual containers and `Nothing`."""

    def find_class(self, module: str, name: str) -> Any:
        return TENSOR_PARTS.get((module, name), Nothing)


def _load(file: Any, **settings: Any) -> Any:
    return TensorUnpickler(file, **settings).load()


TENSORS_ONLY = SimpleNamespace(Unpickler=TensorUnpickler, load=_load, __name__="tensors_only")
"""What torch.load takes for pickle."""


DAMAGED = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(SafetensorError, pickle.UnpicklingError, struct.error),
)
"""What reading a damaged file may end with: a pickle is a program, and may go wrong as one."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, on the CPU, by their names; those of `state_dict` where there is one.

    Raises:
        UserError: it is no file of tensors, or is damaged.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return _tensors_of(_torch_content(path))
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{path} cannot be read as a file of weights ({reason}). Copy it anew; .safetensors, .ckpt, .pt, .pth and "
            ".bin are read."
        ) from error


def _torch_content(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # it names other classes than tensors are made of
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=TENSORS_ONLY)


def _tensors_of(content: Any) -> dict[str, Tensor]:
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    tensors = {name: x.detach() for name, x in state.items() if isinstance(x, Tensor)} if state else {}
    if not tensors:
        raise ValueError("there is no state dict in it")
    return {str(name): x for name, x in tensors.items()}


def check_finite(tensors: Mapping[str, Tensor], where: object) -> None:
    """Let weights pass that can be calculated with.

    Raises:
        UserError: one holds NaN or ±∞.
    """
    for name, x in tensors.items():
        if not x.isfinite().all():
            raise UserError(f"{name} in {where} holds numbers that are not finite. Copy it anew, or export it again.")
