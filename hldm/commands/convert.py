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

from hldm import console
from hldm.config.weights import check_file_of_weights
from hldm.errors import UserError
from hldm.files import whole_folder
from hldm.paths import expanded


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
    check_source(arguments["source"])
    with whole_folder(arguments["out"]) as folder:
        report = converted(arguments, folder)
    print(console.paragraphs("\n".join(report)))
    print(arguments["out"])


def check_source(source: Path) -> None:
    """Raise a UserError where there can be no weights in what is to be converted. It imports no torch."""
    if not source.is_dir():
        check_file_of_weights(source)
    elif not any((folder / "config.json").is_file() for folder in (source, *source.glob("[!.]*/"))):
        raise UserError(f"{source} has no model of diffusers in it: a config.json there, or in a folder inside.")


def converted(arguments: Mapping[str, Any], out: Path) -> list[str]:
    """Fill a folder with what the arguments name.

    Returns:
        Sentences: what became of every tensor.
    """
    source, images = arguments["source"], arguments.get("images")
    # torch only now: a wrong argument is answered at once
    from hldm.interchange import convert, has_first_stage, read_tensors, resaved, save_pipeline, sizes

    without = UserError(f"images={images} go through a first stage, and {source} has none. Leave images= away.")
    if source.is_dir():
        if images is not None and not has_first_stage(source):
            raise without
        report = resaved(source, out)
    else:
        parts = convert(
            read_tensors(source),
            **sizes(arguments.get("config") or source.with_name("config.yaml")),
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
