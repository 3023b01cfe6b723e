"""Time of a training step and of sampling with curved latents and hyperbolic layers, over the Euclidean model.

    python benchmarks/diffusion.py [--rounds 20]     default sizes, a few minutes

Contenders: each geometry with the default latent (map, kl), and each with every other hyperbolic switch on, at
curvature 1. A training step is one of the diffusion stage (draw, noise, path, U-Net, backward, Muon); sampling is 64
images by the default solver, guidance and decoding included. All take turns in one process, and minima of processor
time on one thread are reported, so that other work on the machine weighs as little as it can; the ratio is over the
first row. Float32.
"""

import argparse
import math
import platform
import time
from collections.abc import Callable
from datetime import date

import torch

from hldm.config.compose import compose
from hldm.data import Dataset, InMemorySplit
from hldm.model import LatentDiffusion
from hldm.pipeline.build import build_model, optimization
from hldm.training import DiffusionStage, encode
from hldm.training.ema import Ema
from hldm.training.optimizer import Optimizer

ON = ["denoiser.stem=gyroplane", "denoiser.attention=hyperbolic_distance", "conditioning.hyperbolic=true"]
CONTENDERS = {
    "euclidean": ["geometry=euclidean"],
    "poincare": ["geometry=poincare"],
    "hybrid": ["geometry=hybrid"],
    "euclidean, distance attention": ["geometry=euclidean", "denoiser.attention=euclidean_distance"],
    "euclidean, switches on": ["geometry=euclidean", *ON],
    "poincare, switches on": ["geometry=poincare", *ON],
    "hybrid, switches on": ["geometry=hybrid", *ON],
}
SAMPLES = 64


def turns(overrides: list[str], dataset: Dataset) -> dict[str, Callable[[], object]]:
    """A training step and a sampling of one contender."""
    config = compose([*overrides, "tracking=none"])
    model = build_model(config, dataset)
    assert isinstance(model, LatentDiffusion)
    encoded = encode(model, dataset.train)
    model.fit_latents(encoded.loc)
    settings = config.training.diffusion
    assert settings is not None
    stage = DiffusionStage(model, encoded, dataset.train.labels, seed=0, batch_size=settings.batch_size)
    optimizer = Optimizer(stage.model.parameters(), optimization(config.training, settings)["make_optimizer"])
    average = Ema(stage.model, settings.ema_decay)
    labels = torch.arange(SAMPLES) % dataset.classes

    def train() -> None:
        optimizer.zero_grad()
        stage.loss(0)["loss"].backward()
        optimizer.clip(settings.clip_norm)
        optimizer.step()
        average.update(stage.model)

    return {"training step": train, "sampling": lambda: model.sample(labels, torch.Generator().manual_seed(0))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (512, 1, 28, 28), generator=g, dtype=torch.uint8)  # time depends on shapes only
    labels = torch.arange(512) % 10
    train, test = InMemorySplit(images, labels), InMemorySplit(images[:16], labels[:16])
    empty = InMemorySplit(images[:0], labels[:0])
    dataset = Dataset("noise", (1, 28, 28), tuple("0123456789"), train=train, validation=empty, test=test)
    contenders = {name: turns(overrides, dataset) for name, overrides in CONTENDERS.items()}
    best = {(name, work): math.inf for name in contenders for work in ("training step", "sampling")}
    for turn in range(arguments.rounds + 1):
        for name, works in contenders.items():
            for work, run in works.items():
                start = time.process_time()
                run()
                if turn:  # the first warms up
                    best[name, work] = min(best[name, work], 1000 * (time.process_time() - start))
    print(
        f"{date.today()}, {platform.machine()} {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, "
        f"1 thread, {arguments.rounds} rounds"
    )
    print(f"{'':30} {'training step':>20} {'sampling':>20}")
    for name in contenders:
        cells = [
            f"{best[name, work]:.0f} ms ({best[name, work] / best['euclidean', work]:.2f} ×)"
            for work in ("training step", "sampling")
        ]
        print(f"{name:30} {cells[0]:>20} {cells[1]:>20}")


if __name__ == "__main__":
    main()
