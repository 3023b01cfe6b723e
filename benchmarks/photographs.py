"""Every part of the LSUN experiment on real photographs at full width: it runs, its loss is finite, and what it takes.

    python benchmarks/photographs.py [--steps 20] [--batch 2] [--size full|small] [--device cpu|cuda] [settings …]

256 × 256 crops of the photographs that scikit-learn bundles (china.jpg, flower.jpg), and of scikit-image's where it is
installed, go through `experiment=lsun_bedrooms-ldm-vq-4` in its own training loop with training.microbatch=1 and
hardware.recompute=true: the first stage with LPIPS and the discriminator, the denoiser on its latents with the average
of the weights, and the sampler with the decoder. Each part is a process of its own, whose largest memory is reported.
VGG16's weights, which are not bundled, are drawn: LPIPS costs the same and says nothing. Other words are settings, of
which the twins differ in geometry=… and denoiser.stem=…; --size small is a rehearsal of seconds.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

PARTS = ("first_stage", "denoiser", "sampling")
SMALL = (
    "autoencoder.block_channels=[32,32,32]",
    "autoencoder.layers_per_block=1",
    "autoencoder.codebook_size=64",
    "denoiser.block_channels=[32,32,64,64]",
    "denoiser.layers_per_block=1",
)


def crops(side: int = 256, most: int = 16) -> Tensor:
    """uint8 (N, 3, side, side): squares of photographs, each cut into as many as it has."""
    from sklearn.datasets import load_sample_images

    pictures = list(load_sample_images().images)
    try:
        from skimage import data
    except ImportError:
        pass
    else:
        pictures += [getattr(data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket", "cat")]
    cut = []
    for picture in pictures:
        for top in range(0, picture.shape[0] - side + 1, side):
            for left in range(0, picture.shape[1] - side + 1, side):
                cut.append(np.ascontiguousarray(picture[top : top + side, left : left + side, :3].transpose(2, 0, 1)))
    return torch.from_numpy(np.stack(cut[:most]))


def drawn_vgg(path: Path) -> None:
    """A file in the form of torchvision's VGG16, of its convolutions alone."""
    from torchvision.models import vgg16

    torch.manual_seed(0)
    torch.save({f"features.{name}": x for name, x in vgg16().features.state_dict().items()}, path)


def configured(words: list[str], options: argparse.Namespace, folder: Path) -> Any:
    """The configuration of the experiment with these settings."""
    from hldm.config.compose import compose

    return compose(
        [
            "experiment=lsun_bedrooms-ldm-vq-4",
            "tracking=none",
            f"hardware.device={options.device}",
            "hardware.recompute=true",
            "training.microbatch=1",
            "training.validate_every=null",
            f"training.first_stage.perceptual_backbone={folder / 'vgg.pth'}",
            f"training.first_stage.batch_size={options.batch}",
            f"training.diffusion.batch_size={options.batch}",
            f"training.first_stage.steps={options.steps}",
            f"training.diffusion.steps={options.steps}",
            f"diffusion.sampler.steps={options.steps}",
            f"paths.outputs={folder}",
            *(SMALL if options.size == "small" else ()),
            *words,
        ]
    )


def run_part(part: str, words: list[str], options: argparse.Namespace, folder: Path) -> None:
    """One part, of which it prints the line of the table."""
    from hldm.data import Dataset, InMemorySplit
    from hldm.pipeline.build import build_model, optimization, prepare_training
    from hldm.pipeline.first_stage import build_stage
    from hldm.training import DiffusionStage, encode, train

    torch.set_num_threads(options.threads)
    config = configured(words, options, folder)
    images = crops()
    split = InMemorySplit(images, torch.zeros(len(images), dtype=torch.int64))
    dataset = Dataset("photographs", tuple(images.shape[1:]), ("all",), split, split, split)
    model: Any = build_model(config, dataset).to(options.device)
    prepare_training(model, config)
    weights = sum(p.numel() for p in (model.autoencoder if part == "first_stage" else model.denoiser).parameters())
    stage_settings = config.training.first_stage if part == "first_stage" else config.training.diffusion
    losses: list[float] = []
    began = time.perf_counter()
    if part == "sampling":
        model.eval().requires_grad_(False)
        drawn = model.sample(torch.zeros(1, dtype=torch.int64, device=options.device), torch.Generator(options.device))
        assert drawn.shape[1:] == images.shape[1:]
        assert drawn.float().std() > 0
    else:
        if part == "first_stage":
            stage: Any = build_stage(model, split, config)
        else:
            model.autoencoder.eval().requires_grad_(False)
            encoded = encode(model, images[: options.batch].contiguous(), batch_size=1)
            model.fit_latents(encoded.loc, scale=torch.tensor(config.diffusion.latent_scale))
            labels = torch.zeros(options.batch, dtype=torch.int64, device=options.device)
            stage = DiffusionStage(model, encoded, labels, seed=0, batch_size=options.batch)
        began = time.perf_counter()
        train(
            stage,
            **{**optimization(config.training, stage_settings), "checkpoint_every": 10**9, "log_every": 1},
            ema_decay=None if part == "first_stage" else stage_settings.ema_decay,
            state_path=folder / f"{part}.pt",
            on_start=lambda step: None,
            log=lambda step, figures: losses.append(figures["loss"]),
        )
        assert len(losses) == options.steps
        assert np.isfinite(losses).all()
    seconds = (time.perf_counter() - began) / options.steps
    if options.device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    loss = f"{losses[0]:.3f} → {losses[-1]:.3f}" if losses else ""
    print(
        f"| {part} | {weights / 1e6:.2f} M | {options.steps} | {seconds:.1f} | {peak / 2**30:.1f} | {loss} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", choices=("full", "small"), default="full")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=PARTS, help="this part alone, in this process")
    parser.add_argument("--folder", type=Path, help="of what the parts share")
    parser.add_argument("words", nargs="*", help="settings of the experiment")
    options = parser.parse_args()
    if options.part:
        run_part(options.part, options.words, options, options.folder)
        return
    where = (
        torch.cuda.get_device_name() if options.device == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    )
    print(f"{date.today()}, {where}, {options.threads} threads, batch {options.batch} with microbatch 1")
    print(" ".join(options.words) or "geometry=euclidean", f"({len(crops())} crops)")
    print(
        "| part | weights | steps | seconds per step | largest memory, GiB | loss |\n|---|---|---|---|---|---|",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        drawn_vgg(Path(folder) / "vgg.pth")
        for part in PARTS:
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--part", part, "--folder", folder], check=True)


if __name__ == "__main__":
    main()
