"""Folders of diffusers: one model, or a whole pipeline with a model in each sub-folder."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
from diffusers import DDIMScheduler, LDMPipeline
from torch import nn

from hldm.config.published import CLASSES as FIRST_STAGES
from hldm.config.published import FIRST_STAGE_PARTS, SCHEDULE, least_numbers, schedule, settings_in, sound
from hldm.errors import UserError
from hldm.interchange.compvis import Converted, some
from hldm.interchange.tensors import check_finite

CLASSES = ("AutoencoderKL", "VQModel", "UNet2DModel", "UNet2DConditionModel")
"""Models of diffusers that can be a part of ours."""


def load_component(folder: Path, *, only_safetensors: bool = True) -> nn.Module:
    """The model of a folder with all its tensors, on the CPU, without asking a network.

    Args:
        only_safetensors: otherwise a file that torch.save wrote is read where there is no other, with `weights_only`.

    Raises:
        UserError: it holds no model that is known, or its tensors are not those of the model.
    """
    content = settings_in(folder / "config.json") or {}
    name = content.get("_class_name")
    if name is None:
        raise UserError(f"{folder} is no folder of a model of diffusers: it has no config.json that names one.")
    if name not in CLASSES:
        raise UserError(f"{folder} holds a {name}. Of diffusers {', '.join(CLASSES)} are read.")
    with in_words(f"The {name} in {folder}"):
        refuse_larger(sound(content), folder)
        model, info = getattr(diffusers, name).from_pretrained(
            folder,
            use_safetensors=True if only_safetensors else None,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    for what, key in (("are unknown", "unexpected_keys"), ("are missing", "missing_keys")):
        if info[key]:
            raise UserError(f"{len(info[key])} tensors of the {name} in {folder} {what}: {some(info[key])}.")
    check_finite(model.state_dict(), folder)
    found: nn.Module = model.eval()
    return found


def refuse_larger(content: Mapping[str, Any], folder: Path) -> None:
    """Raise ValueError where the weights beside a config.json are too few for it: building it may take all memory."""
    bytes_there = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in (".safetensors", ".bin"))
    if bytes_there and (least := least_numbers(content)) > bytes_there:
        raise ValueError(
            f"config.json describes {least} weights or more, and the files of weights have {bytes_there} bytes"
        )


def load_scheduler(pipeline: Path) -> DDIMScheduler:
    """The noise schedule of a pipeline of diffusers.

    Raises:
        UserError: the folder has none, or diffusers has no such one.
    """
    content = schedule(pipeline / SCHEDULE)
    if content is None:
        raise UserError(f"{pipeline} has no {SCHEDULE}. Copy the folder anew.")
    with in_words(f"The noise schedule in {pipeline / SCHEDULE.parent}"):
        scheduler: DDIMScheduler = DDIMScheduler.from_config(content)
        return scheduler


def build(architecture: Mapping[str, Any]) -> Any:
    """The model that a config.json describes, untrained.

    Raises:
        UserError: diffusers has no such one.
    """
    name = architecture["_class_name"]
    if name not in CLASSES:
        raise UserError(f"{name} is no model that is read. Of diffusers {', '.join(CLASSES)} are.")
    with in_words(f"The {name} that a config.json describes"):
        return getattr(diffusers, name).from_config(dict(architecture))


@contextmanager
def in_words(what: str, remedy: str = "Copy the folder anew.") -> Iterator[None]:
    """Around what is built by a folder of others: whatever diffusers meets there becomes a sentence.

    It trusts these files, so a damaged one ends it with any exception of Python or torch.

    Raises:
        UserError: there was one.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        raise UserError(f"{what} cannot be used: {reason}. {remedy}") from error


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
        settings = Path(part.name) / SCHEDULE.name
        if name in CLASSES:
            report += [f"{part.name}/: {sentence}" for sentence in resaved(part, out / part.name)]
        elif schedule(folder / settings) is not None:
            _copied(folder / settings, out / settings)
            report.append(f"{settings}: copied.")
        else:
            report.append(f"Left out: {part.name}/, which is no {', '.join(CLASSES[:-1])} or {CLASSES[-1]}.")
    index = folder / "model_index.json"
    if index.is_file():
        # part → [library, class], and [null, null] for a part that there is not
        named = {name for name, value in (settings_in(index) or {}).items() if isinstance(value, list) and any(value)}
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
    name = (settings_in(folder / "config.json") or {}).get("_class_name")
    return name if isinstance(name, str) else None


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
