"""How fast kept latents are read, over what the U-Net of LSUN bedrooms can use of them on a GPU.

    python benchmarks/latents.py [--rows 100000] [--folder …]     2.5 GB of disk for a minute, which are deleted

Files are of the form of the published model: one tensor of 3 × 64 × 64 per image in float16, read in batches of 48 at
random rows, as training reads them, by one thread. "Cold": nothing of them is in the system's memory before (as far as
it obeys `posix_fadvise`); "warm": all of it is; "ahead": as training does it, while the process computes. What the
U-Net needs is counted: the peak of the GPU in bfloat16 over the FLOPs of an image in a training step, which no training
reaches; a seventh of it was measured on an H100.
"""

import argparse
import os
import platform
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DModel

from hldm.autoencoder import Encoded
from hldm.config.gpus import GPUS
from hldm.files import in_words
from hldm.training.counts import ROWS, counted_module
from hldm.training.latents import Form, OnDisk

BATCH = 48
SHAPE = (3, 64, 64)


def unet_flops() -> int:
    """FLOPs of an image in a training step of the published U-Net of LSUN bedrooms (Rombach et al. 2022, table 12)."""
    with torch.device("meta"):
        unet = UNet2DModel(
            sample_size=64,
            in_channels=3,
            out_channels=3,
            block_out_channels=(224, 448, 672, 896),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            layers_per_block=2,
            attention_head_dim=32,
        )
        v, t = torch.empty(ROWS, *SHAPE), torch.empty(ROWS)
    found = counted_module(unet, lambda: [unet(v, t).sample])
    assert found.parameters == 274_056_163, "the published size"
    return found.flops


def written(folder: Path, rows: int) -> OnDisk:
    """Files of random numbers."""
    latents = OnDisk(folder, Form(rows, SHAPE, 1, "float16", 512), torch.device("cpu"))
    noise = torch.randn(latents.form.shard_rows, *SHAPE, generator=torch.Generator().manual_seed(0))
    for shard in latents.missing():
        latents.write(shard, Encoded(noise[: len(latents.form.of_shard(shard))]))
    return latents


def forget(latents: OnDisk) -> None:
    """Ask the system to drop the files from its memory."""
    for shard in range(latents.form.shards):
        with latents.file(shard).open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def rate(latents: OnDisk, steps: int, seed: int, work: float | None = None) -> float:
    """Images per second of `steps` batches; with `work` seconds of something else in each step, of waiting alone."""
    order = torch.randperm(latents.form.rows, generator=torch.Generator().manual_seed(seed))
    chosen = [order[step * BATCH : (step + 1) * BATCH] for step in range(steps)]
    batches = map(latents.rows, chosen) if work is None else latents.batches(chosen)
    waited = 0.0
    for _ in range(steps):
        begin = time.perf_counter()
        next(batches)
        waited += time.perf_counter() - begin
        time.sleep(work or 0.0)
    return steps * BATCH / waited


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to try; a temporary one by default")
    arguments = parser.parse_args()
    flops = unet_flops()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        latents = written(Path(folder), arguments.rows)
        steps = min(400, arguments.rows // BATCH - 1)
        begin = time.perf_counter()
        assert not latents.missing()
        verified = latents.form.bytes / (time.perf_counter() - begin)
        forget(latents)
        cold = OnDisk(latents.folder, latents.form, latents.device)
        rates = {"cold": rate(cold, steps, 1)}
        np.concatenate([cold.rows(part).loc[:, 0, 0, 0].numpy() for part in torch.arange(arguments.rows).split(4096)])
        rates["warm"] = rate(cold, steps, 2)
        rates["ahead"] = rate(cold, min(steps, 100), 3, work=0.02)
    where = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores"
    print(f"{date.today()}, {where}, torch {torch.__version__}")
    print(f"{arguments.rows:,} rows, {in_words(latents.form.bytes)}; verified at {in_words(round(verified))}/s")
    print(f"published U-Net: {flops / 1e9:.0f} GFLOPs an image in a training step")
    print(f"{'':8}{'images/s':>10}{'MB/s':>8}" + "".join(f"{f'over {gpu}':>14}" for gpu in ("a100", "h100")))
    for name, images in rates.items():
        needs = [GPUS[gpu].bfloat16 / flops for gpu in ("a100", "h100")]
        over = "".join(f"{images / need:>13.0f}x" for need in needs)
        print(f"{name:8}{images:>10.0f}{images * latents.form.row_bytes / 1e6:>8.0f}{over}")
    print("over: times what the U-Net could use at the GPU's peak; it uses a seventh of that")


if __name__ == "__main__":
    main()
