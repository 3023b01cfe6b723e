"""Weights and resume states on disk: written whole or not at all, known by their content, read without running code.

Both carry hashes of what was written, and what is read is compared with them. A resume state ends in a line with its
SHA-256, which torch.load passes over; weights have theirs in the metadata of safetensors. Files of earlier versions
have no hash and are taken as they are.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from hldm.errors import UserError
from hldm.files import is_as_sealed, seal, write_atomically

HASH = "sha256"
"""Entry of the metadata of weights."""


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the state dict of `model` as safetensors; what several modules share is written once."""

    def write(file: Path) -> None:
        save_model(model, str(file))
        tensors = load_file(file)  # without what is there twice
        save_file(tensors, file, metadata={HASH: content_hash(tensors)})

    write_atomically(path, write)


def load_weights(path: Path, model: nn.Module, *, part: bool = False, remedy: str | None = None) -> None:
    """Read weights that `save_weights` wrote.

    Args:
        part: whether the file may hold more children than `model` has. Those that it has must be in the file.
        remedy: what to do where they are not as they should be, which is to train them otherwise.

    Raises:
        UserError: the file is missing, damaged, or belongs to another architecture.
    """
    if not path.is_file():
        to_train = "Train the run first: python train.py with its settings."
        raise UserError(f"There are no weights at {path}. {remedy or to_train}")
    if reason := damage(path):
        raise UserError(f"The weights in {path} are damaged ({reason}). {remedy or _remedy(path)}")
    try:
        missing, unexpected = load_model(model, path, strict=not part)
        own = tuple(f"{name}." for name, _ in model.named_children())
        if wrong := [*missing, *(name for name in unexpected if name.startswith(own))]:
            raise RuntimeError(f"{wrong[0]} is in one of file and model only")
    except (SafetensorError, RuntimeError) as error:
        raise UserError(
            f"The weights in {path} cannot be used: {_in_short(error)}. They are from another version of the model. "
            f"{remedy or _remedy(path)}"
        ) from error


def damage(path: Path) -> str | None:
    """What is wrong with weights on disk, in words; None where they are what was written."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            stated = (file.metadata() or {}).get(HASH)
    except (SafetensorError, OSError) as error:
        return _in_short(error)
    if stated is not None and stated != content_hash(tensors):
        return "their content is not what was written"
    return None


def remove_damaged(path: Path) -> None:
    """Remove weights that are not what was written, and say so: whoever needs them trains them again."""
    if path.is_file() and (reason := damage(path)):
        print(f"    the weights in {path} are damaged ({reason}), and are trained again", flush=True)
        path.unlink()


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a resume state (tensors, numbers, strings and containers of them). The one before it is kept."""

    def write(file: Path) -> None:
        with file.open("wb") as stream:
            torch.save(state, stream)
        seal(file)

    write_atomically(path, write, keep=before(path))


def load_states(path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The resume states that are there, each with its file, the newest first; what cannot be used is said and removed.

    Removing is what makes the next save keep the state that was gone on from.
    """
    for file in (path, before(path)):
        if file.is_file():
            try:
                state = _read(file)
                if (name := not_finite(state)) is not None:
                    raise ValueError(f"{name} is not finite")
            except Exception as error:  # torch raises whatever its unpickler meets: zip, pickle, key and runtime errors
                print(f"    the resume state {file} is damaged and is left out ({_in_short(error)})", flush=True)
                with suppress(OSError):
                    file.unlink()
            else:
                yield file, state


def forget_states(path: Path) -> None:
    """Remove the resume states, which finished weights have taken the place of, as far as there are any."""
    for file in (path, before(path)):
        if file.is_file():
            file.unlink()


def before(path: Path) -> Path:
    """Where the resume state before the one at `path` is kept."""
    return path.with_name(f"{path.stem}.before{path.suffix}")


def not_finite(state: Any) -> str | None:
    """The name of the first tensor in a nested state that holds NaN or ±∞; None where all are finite.

    On a GPU it waits once, for all of them together.
    """
    names: dict[torch.device, list[str]] = defaultdict(list)
    found: dict[torch.device, list[Tensor]] = defaultdict(list)
    for name, tensor in _tensors(state):
        if tensor.is_floating_point() or tensor.is_complex():
            names[tensor.device].append(name)
            found[tensor.device].append(tensor.isfinite().all())
    for device, flags in found.items():
        is_finite = torch.stack(flags)
        if not is_finite.all():
            return names[device][int(is_finite.logical_not().nonzero()[0])]
    return None


def _read(file: Path) -> dict[str, Any]:
    if is_as_sealed(file) is False:
        raise ValueError("its content is not what was written")
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def _tensors(state: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(state, Tensor):
        yield name, state
    elif isinstance(state, Mapping | list | tuple):
        for key, value in state.items() if isinstance(state, Mapping) else enumerate(state):
            yield from _tensors(value, f"{name}.{key}" if name else str(key))


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and contents, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _remedy(path: Path) -> str:
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return f"Move {folder} away and repeat the command that trained it, which does it again."


def _in_short(error: Exception) -> str:
    """The first lines name the tensor or the defect; the rest is a listing of hundreds of names."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(line.strip() for line in lines[:2])[:300].rstrip(".")
