"""What `first_stage=…` names: a run of ours, or a folder in diffusers' format, of which only data are read.

A published folder has config.json beside diffusion_pytorch_model.safetensors.
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


def located(name: str) -> Path:
    """The absolute path: relative ones are looked for where the command was typed, then beside train.py."""
    places = (expanded(name).absolute(), root() / name)
    return next((place for place in places if place.is_dir()), places[0])


def is_run(path: Path) -> bool:
    """Whether the folder is a run of ours rather than a published autoencoder."""
    return (path / "config.yaml").is_file()


def architecture(path: Path) -> dict[str, Any] | None:
    """The content of config.json of a published folder, or what a run remembers of it; None where there is neither."""
    file = path / ("config.yaml" if is_run(path) else "config.json")
    try:
        text = file.read_text(encoding="utf-8")
        content = yaml.safe_load(text) if is_run(path) else json.loads(text)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"first_stage={path}: its {file.name} cannot be read ({type(error).__name__}). Copy the folder anew."
        ) from error
    if is_run(path):
        content = content.get("autoencoder") if isinstance(content, Mapping) else None
        content = content.get("architecture") if isinstance(content, Mapping) else None
    return dict(content) if isinstance(content, Mapping) else None


def latent_channels(content: Mapping[str, Any]) -> int:
    """Channels of the latents of a published autoencoder with this config.json."""
    return int(content.get("vq_embed_dim") or content.get("latent_channels") or 4)
