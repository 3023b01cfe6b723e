"""Tiny autoencoders in the folder format of diffusers."""

import json
from pathlib import Path

ARCHITECTURE = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.33.0",
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
    "block_out_channels": [8, 8, 8],
    "norm_num_groups": 4,
    "latent_channels": 4,
}


def described(folder: Path, **changes: object) -> Path:
    """A folder that looks like a published autoencoder to whoever does not read its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**ARCHITECTURE, **changes}))
    (folder / "diffusion_pytorch_model.safetensors").touch()
    return folder
