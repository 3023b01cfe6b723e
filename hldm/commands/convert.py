"""Weights of others → a folder of diffusers in safetensors, which every setting that names a folder takes.

    hldm convert source=models/ldm/lsun_beds256/model.ckpt out=weights/lsun
    hldm convert source=ddpm-ema-bedroom-256 out=weights/ddpm

A checkpoint of CompVis/latent-diffusion (.ckpt, .pt, .safetensors), of a whole model or a first stage alone, becomes
the models of diffusers, with the running average of the U-Net's weights; weights=last takes those of the last step. The
width of attention heads and the side of images are read from config.yaml beside it, or from config=…; else they are 32
and 256, as in all of these models.
Of a pickle only tensors are kept, and nothing in it is run. A folder of diffusers is written again in safetensors.
Every tensor is used, or a group that is left out is named.

With images=<folder of pictures> they go through the first stage and back: error, and scale of the latents.

    hldm convert source=<file|folder> out=<folder> [config=<yaml>] [weights=average|last] [images=<folder>]
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hldm import console
from hldm.errors import UserError
from hldm.paths import expanded

HEAD_CHANNELS, IMAGE_SIDE = 32, 256
"""Of all published models without a condition."""


def existing(text: str) -> Path:
    """A file or folder that is there."""
    path = expanded(text)
    if not path.exists():
        raise ValueError(f"{path} does not exist. Give a checkpoint or a folder of diffusers.")
    return path


def empty_folder(text: str) -> Path:
    """A folder that is not there yet, or is empty."""
    path = expanded(text)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} is there already. Name a new folder.")
    return path


def which(text: str) -> str:
    """The average, or the last step's weights."""
    if text not in ("average", "last"):
        raise ValueError("it must be average or last.")
    return text


def main(argv: list[str]) -> None:
    """Convert what the arguments name, write it, and say what became of every tensor."""
    arguments = console.key_values(
        argv,
        {"source": existing, "out": empty_folder, "config": existing, "weights": which, "images": existing},
        usage=__doc__,
        required=("source", "out"),
    )
    source, out = arguments["source"], arguments["out"]
    # torch only now: a wrong argument is answered at once
    from hldm.interchange import convert, read_tensors, resaved, save_pipeline

    if source.is_dir():
        report = resaved(source, out)
    else:
        file = arguments.get("config") or source.with_name("config.yaml")
        converted = convert(
            read_tensors(source),
            **(sizes(file) if file.is_file() else {}),
            averaged=arguments.get("weights", "average") == "average",
        )
        save_pipeline(converted, out)
        report = converted.report
    print(console.paragraphs("\n".join(report)))
    if (images := arguments.get("images")) is not None:
        from hldm.pipeline.pretrained import first_stage_in, round_trip

        print(console.paragraphs(round_trip(first_stage_in(out), images)))
    print(out)


def sizes(file: Path) -> dict[str, int]:
    """What a configuration of CompVis says of the model and no tensor does: width of attention heads, side of images.

    Raises:
        UserError: it is no such file.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        heads = _inside(content, "model.params.unet_config.params.num_head_channels", HEAD_CHANNELS)
        side = _inside(content, "model.params.first_stage_config.params.ddconfig.resolution", None)
        own = _inside(content, "model.params.ddconfig.resolution", IMAGE_SIDE)  # of a first stage alone
        return {"head_channels": int(heads), "image_side": int(side or own)}
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{file} is no configuration of latent diffusion ({type(error).__name__}).") from error


def _inside(content: Any, path: str, default: Any) -> Any:
    for key in path.split("."):
        content = content.get(key) if isinstance(content, Mapping) else None
    return default if content is None else content
