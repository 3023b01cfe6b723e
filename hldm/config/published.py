"""What `first_stage=…` and `denoiser.folder=…` name: a run, or a folder in diffusers' format. Only data are read.

A published folder has config.json beside diffusion_pytorch_model.safetensors, or is a pipeline with one inside.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hldm.errors import UserError
from hldm.paths import expanded, root

WEIGHTS = "diffusion_pytorch_model.safetensors"
CLASSES = ("AutoencoderKL", "VQModel")
"""Classes of diffusers that a published folder may hold."""


FIRST_STAGE_PARTS = ("vqvae", "vae")
"""Folders in a pipeline of diffusers, of which one holds the first stage."""


def located(name: str, parts: tuple[str, ...] = FIRST_STAGE_PARTS) -> Path:
    """The absolute path: relative ones are looked for where the command was typed, then beside train.py.

    Args:
        parts: folders of which one is meant where the path is a whole pipeline.
    """
    places = (expanded(name).absolute(), root() / name)
    place = next((place for place in places if place.is_dir()), places[0])
    if any((place / file).is_file() for file in ("config.yaml", "config.json")):
        return place
    return next((place / part for part in parts if (place / part / "config.json").is_file()), place)


def is_run(path: Path) -> bool:
    """Whether the folder is a run of ours rather than a published autoencoder."""
    return (path / "config.yaml").is_file()


UNETS = ("UNet2DModel", "UNet2DConditionModel")


def architecture(path: Path, key: str = "first_stage") -> dict[str, Any] | None:
    """The content of config.json of a published folder, or what a run remembers of it; None where there is neither.

    Args:
        key: the setting that names the folder.
    """
    file = path / ("config.yaml" if is_run(path) else "config.json")
    try:
        text = file.read_text(encoding="utf-8")
        content = yaml.safe_load(text) if is_run(path) else json.loads(text)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"{key}={path}: its {file.name} cannot be read ({type(error).__name__}). Copy the folder anew."
        ) from error
    if is_run(path):
        content = content.get("autoencoder") if isinstance(content, Mapping) else None
        content = content.get("architecture") if isinstance(content, Mapping) else None
    if not isinstance(content, Mapping):
        return None
    try:
        return dict(sound(content)) if content.get("_class_name") in (*CLASSES, *UNETS) else dict(content)
    except ValueError as error:
        raise UserError(f"{key}={path}: in its {file.name} {error}. Copy the folder anew.") from None


def schedule(folder: Path) -> dict[str, Any] | None:
    """The content of scheduler_config.json of the pipeline that a U-Net's folder lies in; None where there is none.

    Raises:
        UserError: it cannot be read.
    """
    file = folder.parent / "scheduler" / "scheduler_config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({type(error).__name__}). Copy it anew.") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no settings of a scheduler. Copy it anew.")
    return content


def scaling(content: Mapping[str, Any]) -> float:
    """What a process multiplies the latents of this config.json by; 1 of a VQModel with its class's default, .18215."""
    factor = content.get("scaling_factor") or 0.18215
    is_number = isinstance(factor, int | float) and factor > 0
    is_default = content.get("_class_name") == "VQModel" and factor == 0.18215
    return 1.0 if is_default or not is_number else float(factor)


COUNTS = ("latent_channels", "vq_embed_dim", "in_channels", "out_channels", "layers_per_block", "norm_num_groups")
LISTS = {"block_out_channels": int, "down_block_types": str, "up_block_types": str}


def sound(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The content of a config.json, of which the settings that decide about sizes make sense.

    Raises:
        ValueError: one of them does not.
    """
    for key in COUNTS:
        value = content.get(key, 1)
        if not (_is_count(value) or (value is None and key == "vq_embed_dim")):
            raise ValueError(f"{key} must be a whole number ≥ 1")
    for key, kind in LISTS.items():
        items = content.get(key)
        if not isinstance(items, list | tuple) or not items or not all(isinstance(item, kind) for item in items):
            raise ValueError(f"{key} must be a list of {'whole numbers ≥ 1' if kind is int else 'names'}")
        if kind is int and not all(map(_is_count, items)):
            raise ValueError(f"{key} must be a list of {'whole numbers ≥ 1' if kind is int else 'names'}")
    if len({len(content[key]) for key in LISTS}) > 1:
        raise ValueError(f"{', '.join(LISTS)} must be of one length")
    return content


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def latent_channels(content: Mapping[str, Any]) -> int:
    """Channels of the latents of a published autoencoder with this config.json."""
    channels: int = content.get("vq_embed_dim") or content.get("latent_channels") or 4
    return channels
