"""Weights of others → a folder of diffusers in safetensors, which every setting that names a folder takes.

    hldm convert source=models/ldm/lsun_beds256/model.ckpt out=weights/lsun
    hldm convert source=ddpm-ema-bedroom-256 out=weights/ddpm

A checkpoint of CompVis/latent-diffusion (.ckpt, .pt, .safetensors), of a whole model or a first stage alone, becomes
the models of diffusers, with the running average of the U-Net's weights; weights=last takes those of the last step. The
width of attention heads and the side of images are read from config.yaml beside it, or from config=…; else they are 32
and 256, as in those of CelebA-HQ, FFHQ and LSUN bedrooms. Settings there that change what the tensors mean are refused.
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
from hldm.files import whole_folder
from hldm.paths import expanded

HEAD_CHANNELS, IMAGE_SIDE = 32, 256
"""Of celebahq256, ffhq256 and lsun_beds256. lsun_churches256 has blocks of another kind, which are refused."""

OTHER_MAPPINGS = ("use_new_attention_order", "use_scale_shift_norm", "resblock_updown")
"""Settings of a U-Net there with which the same tensors mean something else than is read here."""


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
    with whole_folder(arguments["out"]) as folder:
        report = converted(arguments, folder)
    print(console.paragraphs("\n".join(report)))
    print(arguments["out"])


def converted(arguments: Mapping[str, Any], out: Path) -> list[str]:
    """Fill a folder with what the arguments name.

    Returns:
        Sentences: what became of every tensor.
    """
    source, images = arguments["source"], arguments.get("images")
    # torch only now: a wrong argument is answered at once
    from hldm.interchange import convert, has_first_stage, read_tensors, resaved, save_pipeline

    without = UserError(f"images={images} go through a first stage, and {source} has none. Leave images= away.")
    if source.is_dir():
        if images is not None and not has_first_stage(source):
            raise without
        report = resaved(source, out)
    else:
        file = arguments.get("config") or source.with_name("config.yaml")
        parts = convert(
            read_tensors(source),
            **(sizes(file) if file.is_file() else {}),
            averaged=arguments.get("weights", "average") == "average",
        )
        if images is not None and parts.first_stage is None:
            raise without
        save_pipeline(parts, out)
        report = parts.report
    if images is not None:
        from hldm.pipeline.pretrained import first_stage_in, round_trip

        report = [*report, round_trip(first_stage_in(out), images)]
    return report


def sizes(file: Path) -> dict[str, Any]:
    """What a configuration of CompVis says of the model and no tensor does: width of attention heads, side of images,
    and what latents are multiplied by, where that is a number there.

    Raises:
        UserError: it is no such file, or of a model that is another one than its tensors are read as here.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        unet = _inside(content, "model.params.unet_config.params", {})
        heads = int(_inside(unet, "num_head_channels", -1))
        side = _inside(content, "model.params.first_stage_config.params.ddconfig.resolution", None)
        own = _inside(content, "model.params.ddconfig.resolution", IMAGE_SIDE)  # of a first stage alone
        scale = _inside(content, "model.params.scale_factor", None)
        found = {
            "head_channels": heads if heads > 0 else HEAD_CHANNELS,
            "image_side": int(side or own),
            **({} if scale is None else {"scale": float(scale)}),
        }
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{file} is no configuration of latent diffusion ({type(error).__name__}).") from error
    strange = [f"unet_config.params.{name}={unet[name]}" for name in OTHER_MAPPINGS if _inside(unet, name, False)]
    if heads <= 0 and (number := _inside(unet, "num_heads", -1)) != -1:
        strange.append(f"unet_config.params.num_heads={number} without num_head_channels")
    if (target := _inside(content, "model.params.parameterization", "eps")) != "eps":
        strange.append(f"parameterization={target}")
    if strange:
        raise UserError(
            f"{file} describes a model whose tensors mean something else than is read here: {', '.join(strange)}. "
            "diffusers has scripts that convert others; a folder that they write is read."
        )
    return found


def _inside(content: Any, path: str, default: Any) -> Any:
    for key in path.split("."):
        content = content.get(key) if isinstance(content, Mapping) else None
    return default if content is None else content
