"""What runs will take on a GPU that is named: memory, disk and hours, from counts of what their networks do."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from hldm.config.gpus import GPUS, Gpu
from hldm.config.schema import RunConfig
from hldm.errors import UserError
from hldm.files import in_words
from hldm.paths import import_path
from hldm.run.directory import RunDirectory
from hldm.study.plan import RECENT, Point

ASSUMED = 0.15
"""Share of the peak that training takes until it was measured: the published U-Net's on an H100 (docs/training.md)."""

TRAINED, AVERAGED, FROZEN = 16, 4, 4
"""Bytes for a parameter: weight, gradient and two moments; its average; one that is not trained."""

HALVED = 0.55
"""Of what is kept for backwards, in bfloat16: norms keep some of it in float32."""

KEPT_BY_BLOCKS = 0.25
"""Of what is kept for backwards, where blocks are computed again: what goes in, and one block at a time."""

BESIDE = 1.2
"""So many times what is kept, for what comes and goes meanwhile."""

CONTEXT = 1e9
"""Bytes that CUDA and its libraries take."""

AGAIN = 4 / 3
"""So many times the work, where the forward pass is done twice."""

STAGES = ("first_stage", "diffusion")


@dataclass(frozen=True)
class Needs:
    """What a run takes.

    Attributes:
        memory: stage → bytes of the GPU.
        disk: bytes.
        hours: stage → hours.
        fitting: stage → the largest number of images that fit at once, of stages that do not fit as they are.
    """

    memory: Mapping[str, float]
    disk: float
    hours: Mapping[str, float]
    fitting: Mapping[str, int]


def needs(config: RunConfig, counts: Mapping[str, Any], shares: Mapping[str, float]) -> Needs:
    """What a run takes on the GPU of `hardware.gpu_model`.

    Args:
        counts: what `hldm.pipeline.counts` says of it.
        shares: stage → share of the peak that it takes.
    """
    assert config.hardware.gpu_model is not None
    gpu, training, hardware = GPUS[config.hardware.gpu_model], config.training, config.hardware
    memory, hours, fitting = {}, {}, {}
    for stage in STAGES:
        settings, taken = getattr(training, stage), counts[stage]
        if taken is None or settings is None or (stage == "first_stage" and config.first_stage is not None):
            continue
        fixed, each = _memory(config, stage, counts)
        own = -(-settings.batch_size // hardware.processes)  # of a batch that processes share
        rows = min(own, training.microbatch or own)
        memory[stage] = fixed + rows * each
        if memory[stage] > gpu.memory * 1e9:
            fitting[stage] = max(0, int((gpu.memory * 1e9 - fixed) / each))
        work = taken["flops"] * settings.steps * settings.batch_size
        work *= AGAIN if hardware.recompute or rows < own else 1
        peak = gpu.peak(training.precision) * hardware.processes
        hours[stage] = work / (peak * shares.get(stage, ASSUMED)) / 3600
    if "diffusion" in hours:
        encoding = counts["images"] * counts["encode_flops"] / (gpu.float32 * ASSUMED * hardware.processes) / 3600
        hours["diffusion"] += encoding
    return Needs(memory, _disk(config, counts), hours, fitting)


def _memory(config: RunConfig, stage: str, counts: Mapping[str, Any]) -> tuple[float, float]:
    """Bytes whatever the batch, and for each image that goes through at once."""
    taken, is_second = counts[stage], stage == "diffusion"
    fixed = CONTEXT + taken["parameters"] * (TRAINED + (AVERAGED if is_second else 0))
    fixed += counts["frozen_parameters"] * FROZEN if is_second else 0
    each = taken["kept_bytes"] * BESIDE
    each *= HALVED if config.training.precision == "bfloat16" else 1
    return fixed, each * (KEPT_BY_BLOCKS if config.hardware.recompute else 1)


def _disk(config: RunConfig, counts: Mapping[str, Any]) -> float:
    """Latents, the run's weights and the best ones, and two resume states of the larger stage."""
    second, training = counts["diffusion"], config.training
    parameters = counts["frozen_parameters"] + (second["parameters"] if second else 0)
    states = max(counts[stage]["parameters"] for stage in STAGES if counts[stage])
    kept = 4 * parameters * (1 if training.validate_every is None else 2) + 2 * (TRAINED + AVERAGED) * states
    sees_all = second and training.diffusion and training.diffusion.steps * training.diffusion.batch_size
    if training.latent_cache == "disk" or (training.latent_cache == "auto" and (sees_all or 0) >= counts["images"]):
        kept += counts["latent_bytes"]
    return float(kept)


def ask(configs: Iterable[RunConfig]) -> list[dict[str, Any]]:
    """What `hldm.pipeline.counts` says of these runs, which takes seconds.

    Raises:
        UserError: it cannot be counted.
    """
    asked = subprocess.run(
        [sys.executable, "-P", "-m", "hldm.pipeline.counts"],
        input=json.dumps([config.dump() for config in configs]),
        env={**os.environ, **import_path(), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    if asked.returncode:
        raise UserError(f"What the runs take cannot be counted: {asked.stderr.strip()[-500:]}")
    found: list[dict[str, Any]] = json.loads(asked.stdout.splitlines()[-1])
    return found


def measured(outputs: Path, config: RunConfig) -> dict[str, float]:
    """Stage → the share of the peak that the last run took on this model of GPU in this number format."""
    statuses = sorted(outputs.glob("*/*/status.json"), key=lambda file: file.stat().st_mtime)
    shares: dict[str, float] = {}
    for file in statuses[-RECENT:]:
        try:
            speed = RunDirectory(file.parent).status.get("speed") or {}
        except UserError:
            continue
        for stage, found in speed.items():
            if (found.get("gpu"), found.get("precision")) == (config.hardware.gpu_model, config.training.precision):
                shares[stage] = found["mfu"]
    return shares


def print_counted(plan: Iterable[Point], console: Console) -> None:
    """What the runs that are to be done take, where a model of GPU is named; runs that take the same have one line."""
    points = [point for point in plan if point.is_to_run and point.config.hardware.gpu_model]
    if not points:
        return
    kinds: dict[str, list[Point]] = {}
    for point in points:
        kinds.setdefault(_kind(point.config), []).append(point)
    configs = [same[0].config for same in kinds.values()]
    for line in dict.fromkeys(map(_read_first, configs)):
        if line:
            console.print(line, soft_wrap=True)
    total = 0.0
    for config, same, counts in zip(configs, kinds.values(), ask(configs), strict=True):
        shares = measured(Path(config.paths.outputs), config)
        found = needs(config, counts, shares)
        total += len(same) * sum(found.hours.values())
        for line in _lines(config, same, counts, found, shares):
            console.print(line, soft_wrap=True)
    if len(points) > 1:
        console.print(f"{len(points)} runs one after the other: about {hours_in_words(total)}.", soft_wrap=True)


def _read_first(config: RunConfig) -> str | None:
    """What has to be read before anything can be counted, where that may take long."""
    dataset = config.dataset
    if not dataset.reads_files or dataset.is_sized:
        return None
    return (
        f"Only its files tell how many images {getattr(dataset, 'path', None) or 'the data set'} has: they are looked "
        "through first, as runs do, for which what is found is kept."
    )


def _kind(config: RunConfig) -> str:
    """Equal for runs that take the same, but for a seed or a curvature."""
    data = config.model_copy(update={"seed": 0, "study": "main"}).dump()
    del data["curvature"], data["metrics"], data["tracking"]
    return json.dumps(data, sort_keys=True)


def _lines(
    config: RunConfig, same: list[Point], counts: Mapping[str, Any], found: Needs, shares: Mapping[str, float]
) -> Iterable[str]:
    gpu = _gpu(config)
    who = same[0].identity.name + (f" and {len(same) - 1} more, each" if len(same) > 1 else "")
    stages = ", ".join(
        f"{stage.replace('_', ' ')} {in_words(round(found.memory[stage]))} and {hours_in_words(found.hours[stage])} "
        f"({in_words_of_flops(counts[stage]['flops'])} an image)"
        for stage in found.hours
    )
    basis = "measured there" if found.hours.keys() <= shares.keys() else f"an estimate at {ASSUMED:.0%} of the peak"
    disk = in_words(round(found.disk))
    yield f"{who} on one {gpu.words} ({gpu.memory} GB): {stages}; {disk} of disk. By counts, {basis}."
    for stage, rows in found.fitting.items():
        remedy = (
            f"type training.microbatch={rows}, hardware.recompute=true or training.precision=bfloat16"
            if rows
            else "take a GPU with more memory, or a smaller model"
        )
        yield f"The {stage.replace('_', ' ')} does not fit there as it is: {remedy}."


def _gpu(config: RunConfig) -> Gpu:
    assert config.hardware.gpu_model is not None
    return GPUS[config.hardware.gpu_model]


def hours_in_words(hours: float) -> str:
    """Such as "40 minutes", "3.5 hours" or "6 days"."""
    if hours < 1.5:
        return f"{max(1, round(60 * hours))} minutes" if hours > 1 / 60 else "a minute"
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"


def in_words_of_flops(flops: float) -> str:
    """Such as "129 MFLOPs"."""
    for unit, size in (("T", 1e12), ("G", 1e9)):
        if flops >= size:
            return f"{flops / size:.3g} {unit}FLOPs"
    return f"{flops / 1e6:.3g} MFLOPs"
