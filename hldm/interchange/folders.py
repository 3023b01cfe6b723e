"""Folders of diffusers: one model, or a whole pipeline with a model in each sub-folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
from diffusers import LDMPipeline
from safetensors import SafetensorError
from torch import nn

from hldm.errors import UserError
from hldm.interchange.compvis import Converted, some

CLASSES = ("AutoencoderKL", "VQModel", "UNet2DModel", "UNet2DConditionModel")
"""Models of diffusers that can be a part of ours."""


def load_component(folder: Path, *, only_safetensors: bool = True) -> nn.Module:
    """The model of a folder with all its tensors, on the CPU, without asking a network.

    Args:
        only_safetensors: otherwise a file that torch.save wrote is read where there is no other, with `weights_only`.

    Raises:
        UserError: it holds no model that is known, or its tensors are not those of the model.
    """
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is no folder of a model of diffusers: it has no config.json that names one."
        ) from error
    if name not in CLASSES:
        raise UserError(f"{folder} holds a {name}. Of diffusers {', '.join(CLASSES)} are read.")
    try:
        model, info = getattr(diffusers, name).from_pretrained(
            folder,
            use_safetensors=True if only_safetensors else None,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"The weights in {folder} cannot be used: {reason} Copy the folder anew.") from error
    for what, key in (("are unknown", "unexpected_keys"), ("are missing", "missing_keys")):
        if info[key]:
            raise UserError(f"{len(info[key])} tensors of the {name} in {folder} {what}: {some(info[key])}.")
    found: nn.Module = model.eval()
    return found


def resaved(folder: Path, out: Path) -> list[str]:
    """Write a model's folder, or all models of a pipeline's, again in safetensors.

    Returns:
        A sentence for each of them, and for each part that is left out.

    Raises:
        UserError: there is no model in it, or one has not all of its tensors.
    """
    if (folder / "config.json").is_file():
        model: Any = load_component(folder, only_safetensors=False)
        model.save_pretrained(out)
        return [f"{type(model).__name__}: {len(model.state_dict())} tensors."]
    found = sorted(path.parent for path in folder.glob("*/config.json"))
    report = []
    for part in found:
        name = json.loads((part / "config.json").read_text(encoding="utf-8")).get("_class_name")
        if name in CLASSES:
            report += [f"{part.name}/: {sentence}" for sentence in resaved(part, out / part.name)]
        else:
            report.append(f"Left out: {part.name}/, which is no {', '.join(CLASSES[:-1])} or {CLASSES[-1]}.")
    if not any((out / part.name).is_dir() for part in found):
        raise UserError(f"{folder} has no model of diffusers in it: a config.json there, or in a folder inside.")
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        if (folder / name).is_file():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, out / name)
            report.append(f"{name}: copied.")
    return report


def save_pipeline(converted: Converted, out: Path) -> None:
    """Write what was converted, in safetensors: a pipeline that diffusers samples from where all parts are there."""
    unet, first_stage, scheduler, _ = converted
    if unet is not None and first_stage is not None and scheduler is not None:
        LDMPipeline(vqvae=first_stage, unet=unet, scheduler=scheduler).save_pretrained(out, safe_serialization=True)
        return
    parts: dict[str, Any] = {"unet": unet, "vqvae": first_stage, "scheduler": scheduler}
    for name, part in parts.items():
        if part is not None:
            part.save_pretrained(out / name)
