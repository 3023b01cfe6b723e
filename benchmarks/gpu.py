"""Training at size on one GPU: step times against diffusers' own U-Net, MFU, what geometry costs, hours of CIFAR-10.

    python benchmarks/gpu.py [--steps 30] [--only cell …] [--device cuda|cpu] [--small]

Each row trains some steps in the training loop of `train.py`, optimiser and average included, on drawn images and at
the experiment's own batch; steps per second are of the last half of them. `theirs` is diffusers' U-Net of the same
274,056,163 weights trained as its script for unconditional generation does it: bfloat16 autocast, AdamW, clipped
gradients, EMAModel. MFU counts the model's own FLOPs over the GPU's peak in the data sheet. VGG16's weights are drawn.
--device cpu --small is a rehearsal; choose rows with --only, as first stages take minutes there.
"""

import argparse
import gc
import math
import platform
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from photographs import SMALL, drawn_vgg
from torch import Tensor

LSUN = ("experiment=lsun_bedrooms-ldm-vq-4", "dataset.path=.")
CIFAR = ("experiment=cifar10",)
BF16 = ("training.precision=bfloat16",)
LAST = ("hardware.channels_last=true",)
COMPILED = ("hardware.compile=true",)
BALL = ("geometry=poincare",)

CELLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "theirs, bf16": ("theirs", LSUN),
    "denoiser, bf16": ("diffusion", (*LSUN, *BF16)),
    "denoiser, bf16, ball": ("diffusion", (*LSUN, *BF16, *BALL)),
    "denoiser, bf16, channels last": ("diffusion", (*LSUN, *BF16, *LAST)),
    "denoiser, float32": ("diffusion", LSUN),
    "first stage, bf16": ("first_stage", (*LSUN, *BF16)),
    "first stage, bf16, ball": ("first_stage", (*LSUN, *BF16, *BALL)),
    "first stage, float32": ("first_stage", LSUN),
    "sampling": ("sampling", LSUN),
    "sampling, ball": ("sampling", (*LSUN, *BALL)),
    "cifar10 first stage, bf16": ("first_stage", (*CIFAR, *BF16)),
    "cifar10 first stage, bf16, ball": ("first_stage", (*CIFAR, *BF16, *BALL)),
    "cifar10 denoiser, bf16": ("diffusion", (*CIFAR, *BF16)),
    "cifar10 denoiser, bf16, ball": ("diffusion", (*CIFAR, *BF16, *BALL)),
    "denoiser, bf16, compiled": ("diffusion", (*LSUN, *BF16, *COMPILED)),
    "theirs, bf16, compiled": ("theirs", (*LSUN, *COMPILED)),
    "denoiser, bf16, ball, compiled": ("diffusion", (*LSUN, *BF16, *BALL, *COMPILED)),
    "cifar10 denoiser, bf16, compiled": ("diffusion", (*CIFAR, *BF16, *COMPILED)),
}
"""Row → (what is run, settings). What is compiled comes last, as it takes a minute each."""


def composed(words: tuple[str, ...], options: argparse.Namespace, folder: Path) -> Any:
    """The configuration of a row."""
    from hldm.config.compose import compose

    small = ()
    if options.small:
        small = ("training.first_stage.batch_size=2", "training.diffusion.batch_size=2", "diffusion.sampler.steps=2")
        small += SMALL if "dataset.path=." in words else ()
    return compose(
        [
            *words,
            *small,
            "tracking=none",
            f"hardware.device={options.device}",
            f"training.first_stage.perceptual_backbone={folder / 'vgg.pth'}",
            f"training.first_stage.steps={options.steps}",
            f"training.diffusion.steps={options.steps}",
            "training.log_every=1",
            "training.validate_every=null",
            f"paths.outputs={folder}",
        ]
    )


def drawn(words: tuple[str, ...], many: int) -> Any:
    """A data set of as many drawn images."""
    from hldm.data import Dataset, InMemorySplit

    side, classes = (256, 1) if words[: len(LSUN)] == LSUN else (32, 10)
    images = torch.randint(0, 256, (many, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = InMemorySplit(images, torch.arange(many) % classes)
    return Dataset("drawn", (3, side, side), tuple(f"class {k}" for k in range(classes)), split, split, split)


def clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def ours(model: Any, config: Any, dataset: Any, part: str, folder: Path) -> list[float]:
    """The time after each step of a stage."""
    from hldm.pipeline.build import optimization, prepare_training
    from hldm.pipeline.first_stage import build_stage
    from hldm.training import DiffusionStage, encode, train

    prepare_training(model, config)
    settings = getattr(config.training, part)
    if part == "first_stage":
        stage: Any = build_stage(model, dataset.train, config)
    else:
        model.autoencoder.eval().requires_grad_(False)
        encoded = encode(model, dataset.train.images, batch_size=8)
        model.fit_latents(encoded.loc, scale=torch.tensor(config.diffusion.latent_scale or 1.0))
        labels = dataset.train.labels.to(model.device)
        stage = DiffusionStage(model, encoded, labels, seed=0, batch_size=settings.batch_size)
    times: list[float] = []
    losses: list[float] = []

    def log(step: int, figures: dict[str, float]) -> None:
        times.append(clock(model.device))
        losses.append(figures["loss"])

    train(
        stage,
        **{**optimization(config.training, settings), "checkpoint_every": 10**9, "checkpoint_minutes": None},
        ema_decay=None if part == "first_stage" else settings.ema_decay,
        state_path=folder / "none.pt",
        on_start=lambda step: None,
        log=log,
    )
    assert math.isfinite(sum(losses))
    return times


def theirs(unet: Any, config: Any) -> list[float]:
    """The time after each step of diffusers' script for unconditional generation, on the same latents' shape."""
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    device, hardware = unet.device, config.hardware
    if hardware.channels_last:
        unet.to(memory_format=torch.channels_last)
    ema = EMAModel(unet.parameters(), decay=0.9999, use_ema_warmup=True)
    run = torch.compile(unet) if hardware.compile else unet
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    schedule = DDPMScheduler(num_train_timesteps=1000)
    rows = config.training.diffusion.batch_size
    latents = torch.randn(rows, 3, unet.config.sample_size, unet.config.sample_size, device=device)
    times = []
    for _ in range(config.training.diffusion.steps):
        noise = torch.randn_like(latents)
        t = torch.randint(0, 1000, (rows,), device=device)
        noisy = schedule.add_noise(latents, noise, t)
        with torch.autocast(device.type, torch.bfloat16):
            found = run(noisy, t).sample
        torch.nn.functional.mse_loss(found.float(), noise).backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(unet.parameters())
        times.append(clock(device))
    return times


def sampled(model: Any, rows: int) -> list[float]:
    """The times before and after images are drawn and decoded."""
    model.eval().requires_grad_(False)
    times = []
    for _ in range(2):
        times.append(clock(model.device))
        images: Tensor = model.sample(
            torch.zeros(rows, dtype=torch.int64, device=model.device), torch.Generator(model.device).manual_seed(0)
        )
        assert images.float().std() > 0
    return [*times, clock(model.device)]


def row(name: str, options: argparse.Namespace, folder: Path) -> str:
    """The line of the table."""
    from hldm.pipeline.build import build_model, choose_device
    from hldm.pipeline.export import unet_of
    from hldm.pipeline.speed import speed_of

    part, words = CELLS[name]
    config = composed(words, options, folder)
    device = choose_device(config.hardware)  # deterministic where it can be, as in a run
    stage = "first_stage" if part == "first_stage" else "diffusion"
    batch = getattr(config.training, stage).batch_size
    dataset = drawn(words, batch)
    model: Any = build_model(config, dataset).to(device)
    speed = speed_of(stage, model, config)
    weights = sum(p.numel() for p in (model.autoencoder if part == "first_stage" else model.denoiser).parameters())
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    if part == "theirs":
        unet = unet_of(model).to(device)
        weights = sum(p.numel() for p in unet.parameters())
        del model
        gc.collect()
        times = theirs(unet.train().requires_grad_(True), config)
    elif part == "sampling":
        times = sampled(model, rows := 2 if options.small else 16)
    else:
        times = ours(model, config, dataset, part, folder)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")
    if part == "sampling":
        found = f"{rows} | {times[-1] - times[-2]:.2f} (all steps) | {rows / (times[-1] - times[-2]):.2f} | "
    else:
        half = len(times) // 2
        gaps = sorted(b - a for a, b in zip(times[half:-1], times[half + 1 :], strict=True))
        step = (times[-1] - times[half]) / (len(times) - 1 - half)
        precision = "bfloat16" if part == "theirs" else config.training.precision
        mfu = replace(speed, precision=precision).figures(1 / step).get("mfu")
        found = (
            f"{batch} | {step:.4f} (least {gaps[0]:.4f}) | {batch / step:.1f} | {'' if mfu is None else f'{mfu:.3f}'}"
        )
    return f"| {name} | {weights / 1e6:.2f} M | {found} | {memory:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--only", nargs="*", default=list(CELLS), help="these rows, by their names")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="narrow networks and two images")
    options = parser.parse_args()
    where = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    print(f"{date.today()}, {where}, torch {torch.__version__}, {options.steps} steps")
    print("| | weights | images | seconds per step | images per second | MFU | largest memory, GiB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn_vgg(folder / "vgg.pth")
        for cell in options.only:
            begin = time.perf_counter()
            try:
                print(row(cell, options, folder), flush=True)
            except Exception:  # the other rows are still worth their GPU: this one is said, and the status is 1
                failed = True
                print(f"| {cell} | failed |\n{traceback.format_exc(limit=-6)}", flush=True)
            gc.collect()
            torch._dynamo.reset()
            if options.device == "cuda":
                torch.cuda.empty_cache()
            print(f"    {cell}: {time.perf_counter() - begin:.0f} s in all", file=sys.stderr, flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
