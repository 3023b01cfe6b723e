"""The latents of all training images: where they are kept, and made once for all runs that share them.

<outputs>/latents/<key>/   see `hldm.training.latents.OnDisk`; the key is of first stage × data × preprocessing
"""

import hashlib
import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import torch

from hldm.config.schema import RunConfig
from hldm.data import Dataset
from hldm.errors import UserError
from hldm.files import in_words, write_text_atomically
from hldm.model import LatentModel
from hldm.pipeline.first_stage import waiting_lock
from hldm.pipeline.log import RunLog
from hldm.resources import free_memory
from hldm.run.identity import FIRST_STAGE_OF_LATENTS, FIRST_STAGE_WEIGHTS, first_stage_folder
from hldm.training import DiffusionStage, encode, images_used, ranks
from hldm.training.checkpoint import content_hash
from hldm.training.latents import Anew, Form, InMemory, Latents, OnDisk, fill, form_of, rounded

VERSION = 1
"""Of what files of latents hold; another one is another key."""

SPARE = 1.05
"""So many times its size has to be free where something is written to a disk."""


def training_latents(model: LatentModel, dataset: Dataset, config: RunConfig, log: RunLog) -> Latents:
    """The latents that the second stage is trained on, of a first stage that is trained and frozen.

    They are the same to the last bit in memory and on a disk; encoded in each step they are the same up to rounding.

    Raises:
        UserError: they do not fit where `training.latent_cache` wants them.
    """
    training, split = config.training, dataset.train
    settings = training.diffusion
    assert settings is not None
    half = training.latent_precision == "float16"
    used = images_used(config.seed, DiffusionStage.name, settings.steps, settings.batch_size, len(split))
    form = form_of(model, split, training.latent_precision)
    memory = _free_memory(model.device) // ranks.size()
    is_auto = training.latent_cache == "auto"
    on_disk = None
    if training.latent_cache == "disk" or (is_auto and len(used) == len(split)):
        on_disk = OnDisk(folder_of(model, dataset, config), form, model.device)
    place: str = training.latent_cache
    if is_auto:
        place = ranks.together(lambda: chosen_place(form, len(used), memory, on_disk and on_disk.folder))
    if place == "off":
        return Anew(model, split, half=half)
    if place == "disk":
        assert on_disk is not None
        make(on_disk, model, dataset, Path(config.first_stage or first_stage_folder(config)), log)
        fits = is_auto and 4 * _in_memory(form, form.rows) <= memory
        return InMemory(on_disk.whole()) if fits else on_disk
    if (needed := _in_memory(form, len(used))) > memory:
        raise UserError(
            f"training.latent_cache=ram needs {in_words(needed)} for the latents of {len(used):,} images, and "
            f"{in_words(memory)} are free. Type training.latent_cache=auto, or disk."
        )
    return InMemory(rounded(encode(model, split, used), half=half), used)


def chosen_place(form: Form, used: int, memory: int, folder: Path | None) -> Literal["off", "ram", "disk"]:
    """Where "auto" keeps latents, of which a run uses so many: where they fit, and never refused.

    Args:
        form: what they look like on a disk.
        memory: free bytes of the device.
        folder: where they would be on a disk; None where the run does not see all images. Each is used once at most
            then, and nothing is gained by keeping it for others.
    """
    if folder is not None:
        room = free_disk(folder) + sum(file.stat().st_size for file in folder.glob("*.npy"))
        if SPARE * form.bytes <= room:
            return "disk"
    return "ram" if 2 * _in_memory(form, used) <= memory else "off"


def make(latents: OnDisk, model: LatentModel, dataset: Dataset, first_stage: Path, log: RunLog) -> None:
    """Encode what is not on the disk yet. One process does that at a time, and others wait for it.

    Args:
        first_stage: its folder, which is noted beside the latents.

    Raises:
        UserError: the disk is too small.
        Stopped: see `waiting_lock`; what is written is gone on from.
    """
    form, split = latents.form, dataset.train

    def announced() -> list[int]:
        missing = latents.missing()
        if missing:
            refuse(latents.folder, needed := sum(len(form.of_shard(shard)) for shard in missing) * form.row_bytes)
            write_text_atomically(latents.folder / FIRST_STAGE_OF_LATENTS, str(first_stage))
            print(f"    encoding {form.rows:,} images once: {in_words(needed)} in {latents.folder}", flush=True)
        return missing

    if not ranks.together(latents.missing):
        return  # reading needs no lease
    with ExitStack() as held:
        ranks.together(lambda: held.enter_context(waiting_lock(latents.folder, "latents")) and None)
        missing = ranks.together(announced)
        fill(latents, missing, model, split, lambda done: log.progress("latents", done, form.rows),
             is_writer=ranks.is_first())  # fmt: skip
    ranks.check()


def folder_of(model: LatentModel, dataset: Dataset, config: RunConfig) -> Path:
    """Where the latents of this first stage on these data are kept."""
    autoencoder = model.autoencoder
    known = {
        "version": VERSION,
        "weights": content_hash(autoencoder.state_dict()),
        "autoencoder": config.autoencoder.dump(),
        "geometry": config.geometry.dump(),
        "curvature": config.curvature.dump(),
        "data": dataset.train.fingerprint,
        "kept_as": config.training.latent_precision,
        "device": model.device.type,  # kinds of devices round differently
    }
    key = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
    return Path(config.paths.outputs) / "latents" / key


def refuse_small_disk(model: LatentModel, dataset: Dataset, config: RunConfig) -> None:
    """Before a first stage is trained: refuse a disk that is too small for the latents of all training images.

    Raises:
        UserError: it is.
    """
    is_trained = config.first_stage is not None or (first_stage_folder(config) / FIRST_STAGE_WEIGHTS).is_file()
    if config.has_diffusion and config.training.latent_cache == "disk" and not is_trained:
        was = model.training
        form = form_of(model.eval(), dataset.train, config.training.latent_precision)
        model.train(was)
        ranks.together(lambda: refuse(Path(config.paths.outputs), form.bytes))


def refuse(folder: Path, needed: int) -> None:
    """Raise a UserError where the disk of a folder has not so many bytes."""
    if (free := free_disk(folder)) < SPARE * needed:
        raise UserError(
            f"training.latent_cache=disk needs {in_words(needed)} in {folder}, and {in_words(free)} are free there. "
            "Type training.latent_cache=auto, which takes what there is, training.latent_precision=float16, which "
            "takes half, or paths.outputs=… on another disk."
        )


def free_disk(folder: Path) -> int:
    """Free bytes of the disk that a folder is on, or will be."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def _in_memory(form: Form, rows: int) -> int:
    """Bytes of so many rows in float32."""
    return rows * form.row_bytes * (2 if form.kept_as == "float16" else 1)


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = free_memory()
    return 2**63 if free is None else free
