"""Weights and resume states on disk: written whole or not at all, and read without running code from the file."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from hldm.errors import UserError
from hldm.files import write_atomically


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the state dict of `model` as safetensors; what several modules share is written once."""
    write_atomically(path, lambda file: save_model(model, str(file)))


def load_weights(path: Path, model: nn.Module, *, part: bool = False) -> None:
    """Read weights that `save_weights` wrote.

    Args:
        part: whether the file may hold more children than `model` has. Those that it has must be in the file.

    Raises:
        UserError: the file is missing, damaged, or belongs to another architecture.
    """
    if not path.is_file():
        raise UserError(f"There are no weights at {path}. Train the run first: python train.py with its settings.")
    try:
        missing, unexpected = load_model(model, path, strict=not part)
        own = tuple(f"{name}." for name, _ in model.named_children())
        if wrong := [*missing, *(name for name in unexpected if name.startswith(own))]:
            raise RuntimeError(f"{wrong[0]} is in one of file and model only")
    except (SafetensorError, RuntimeError) as error:
        # the first line names the tensor or the defect; the rest is a listing of hundreds of names
        reason = str(error).strip().splitlines()
        raise UserError(
            f"The weights in {path} cannot be used: {' '.join(line.strip() for line in reason[:2])[:300]}. The file is "
            "damaged or from another version of the model. Move the run directory away and train the run again."
        ) from error


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a resume state (tensors, numbers, strings and containers of them)."""
    write_atomically(path, lambda file: torch.save(state, file))


def load_state(path: Path) -> dict[str, Any] | None:
    """Read a resume state; None where there is none yet.

    Raises:
        UserError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets: zip, pickle, key and runtime errors
        raise UserError(
            f"The resume state {path} is damaged ({type(error).__name__}). Delete this file to start the stage again."
        ) from error
    return state
