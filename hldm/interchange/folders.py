"""Folders of diffusers: one model, or a whole pipeline with a model in each sub-folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
from diffusers import LDMPipeline
from safetensors import SafetensorError
from torch import nn

from hldm.config.published import CLASSES as FIRST_STAGES
from hldm.config.published import FIRST_STAGE_PARTS
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
    parts = {part: _class_of(part) for part in sorted(folder.glob("[!.]*/"))}
    if not any(name in CLASSES for name in parts.values()):
        raise UserError(f"{folder} has no model of diffusers in it: a config.json there, or in a folder inside.")
    report: list[str] = []
    for part, name in parts.items():
        schedule = Path(part.name) / "scheduler_config.json"
        if name in CLASSES:
            report += [f"{part.name}/: {sentence}" for sentence in resaved(part, out / part.name)]
        elif (folder / schedule).is_file():
            _copied(folder / schedule, out / schedule)
            report.append(f"{schedule}: copied.")
        else:
            report.append(f"Left out: {part.name}/, which is no {', '.join(CLASSES[:-1])} or {CLASSES[-1]}.")
    index = folder / "model_index.json"
    if index.is_file():
        # part → [library, class], and [null, null] for a part that there is not
        named = {name for name, value in _content(index).items() if isinstance(value, list) and any(value)}
        if missing := sorted(name for name in named if not (out / name).is_dir()):
            report.append(f"Left out: model_index.json, which names {', '.join(missing)} too.")
        else:
            _copied(index, out / index.name)
            report.append("model_index.json: copied.")
    return report


def has_first_stage(folder: Path) -> bool:
    """Whether a folder is that of a first stage, or of a pipeline with one."""
    return any(_class_of(part) in FIRST_STAGES for part in (folder, *(folder / name for name in FIRST_STAGE_PARTS)))


def _class_of(folder: Path) -> str | None:
    """The class of diffusers that config.json names; None where there is no such file, or it names none.

    Raises:
        UserError: it is damaged.
    """
    file = folder / "config.json"
    name = _content(file).get("_class_name") if file.is_file() else None
    return name if isinstance(name, str) else None


def _content(file: Path) -> dict[str, Any]:
    """What a file of settings says; nothing where it holds no settings.

    Raises:
        UserError: it is damaged.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({type(error).__name__}). Copy the folder anew.") from error
    return content if isinstance(content, dict) else {}


def _copied(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)


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
