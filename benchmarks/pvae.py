"""Time of a training step of the Poincaré VAE on MNIST, ours and the authors', their data loading included.

    python benchmarks/pvae.py [--compiled]                                our step alone; compiled besides
    python benchmarks/pvae.py --authors FOLDER --authors-python PYTHON    beside the authors'

FOLDER is a checkout of github.com/emilemathieu/pvae. Its code wants a geoopt that ours cannot use, so it runs in an
environment of its own: torch and torchvision as here, geoopt 0.1.1, scikit-learn, seaborn. Both take turns, a few
steps at a time, and minima are reported, so that a busy machine slows both alike. An epoch has 469 steps of either, so
the ratio is that of epochs. d = 2, c = 0.7, batch 128, float32, 2 threads.
"""

import argparse
import gzip
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import torch

STEPS = 10
"""Training steps of one turn."""

Turn = Callable[[], object]


def ours(distribution: str, *, compiled: bool = False) -> Turn:
    """STEPS steps as the training loop makes them."""
    from hldm.config.compose import compose
    from hldm.pipeline.build import build_dataset, build_model, compile_training, optimization
    from hldm.training import FirstStage

    config = compose(["experiment=pvae_mnist", "geometry=poincare", "curvature=0.7", f"distribution={distribution}"])
    dataset = build_dataset(config)
    model = build_model(config, dataset)
    if compiled:
        compile_training(model)
    stage = FirstStage(model, dataset.train, seed=0, batch_size=128)
    optimizer = optimization(config.training, config.training.first_stage)["make_optimizer"](
        model.autoencoder.parameters()
    )
    steps = iter(range(10**9))

    def turn() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            stage.loss(next(steps))["loss"].backward()
            optimizer.step()

    return turn


def authors(python: str, folder: Path, distribution: str, digits: Path) -> Turn:
    """STEPS steps of the published code, in a process of its own."""
    command = [python, __file__, "--authors", str(folder.resolve()), "--serve", distribution]
    environment = {**os.environ, "PYTORCH_JIT": "0"}  # the old geoopt scripts a function that torch no longer has
    process = subprocess.Popen(
        command, env=environment, cwd=digits, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )

    def turn() -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        if process.stdout.readline() != "done\n":
            raise SystemExit("the authors' code has stopped; its message stands above")

    turn()  # started, warm
    return turn


def serve(folder: Path, distribution: str) -> None:
    """A turn of the loop in the authors' main.py for every line that comes in."""
    sys.path[0] = str(folder)
    torch.distributions.Distribution.set_default_validate_args(False)  # the default when the code was written
    from pvae import models, objectives  # type: ignore[import-not-found]  # of --authors

    law = {"wrapped": "WrappedNormal", "riemannian": "RiemannianNormal"}[distribution]
    model = models.VAE_mnist(
        argparse.Namespace(
            manifold="PoincareBall", c=0.7, latent_dim=2, prior=law, posterior=law, enc="Wrapped", dec="Geo", nl="ReLU",
            num_hidden_layers=1, hidden_dim=600, prior_iso=distribution == "riemannian", learn_prior_std=False,
            prior_std=1.0, data_size=[], K=1, obj="vae",
        )
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, amsgrad=True)
    loader, _ = model.getDataLoaders(128, True, "cpu")
    batches = endless(loader)
    for _ in sys.stdin:
        for _ in range(STEPS):
            images, _ = next(batches)
            optimizer.zero_grad()
            _, _, likelihood, kl, loss = objectives.vae_objective(model, images, K=1, beta=1.0, components=True)
            loss.backward()
            optimizer.step()
            _ = loss.item(), -likelihood.mean(0).sum().item(), kl.sum(-1).mean(0).sum().item()
        print("done", flush=True)


def endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def unpack_digits(folder: Path) -> None:
    """Put the bundled digits where torchvision looks for them, under data/."""
    from hldm.data import idx

    raw = folder / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (Path(idx.__file__).parent / "mnist_idx").glob("*.gz"):
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))


def minima(turns: dict[str, Turn], rounds: int) -> dict[str, float]:
    """Milliseconds per step of each, the least of its turns."""
    best = dict.fromkeys(turns, math.inf)
    for _ in range(rounds):
        for name, turn in turns.items():
            start = time.perf_counter()
            turn()
            best[name] = min(best[name], 1000 * (time.perf_counter() - start) / STEPS)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--authors", type=Path, help="a checkout of the authors' repository")
    parser.add_argument("--authors-python", default=sys.executable, help="the Python of their environment")
    parser.add_argument("--compiled", action="store_true", help="our step under torch.compile besides")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.serve:
        return serve(arguments.authors, arguments.serve)
    print(f"{date.today()}, {platform.machine()} {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        unpack_digits(Path(folder))
        for distribution in ("wrapped", "riemannian"):
            turns = {"ours": ours(distribution)}
            if arguments.compiled:
                turns["ours, compiled"] = ours(distribution, compiled=True)
            if arguments.authors:
                turns["authors"] = authors(arguments.authors_python, arguments.authors, distribution, Path(folder))
            best = minima(turns, arguments.rounds)
            theirs = best.get("authors")
            cells = [f"{name} {t:.1f} ms" + (f" ({theirs / t:.1f} ×)" if theirs else "") for name, t in best.items()]
            print(f"{distribution:>12}: {', '.join(cells)}")
    return None


if __name__ == "__main__":
    main()
