"""A script that learns features of digits without labels, and writes them with their quality and hash.

    python -m hldm.training.unlabelled_digits                        # over the bundled file
    python -m hldm.training.unlabelled_digits --out other.safetensors --seed 1

SimCLR (Chen et al. 2020): two views of one digit shall be more alike than views of different ones. Views differ by
what does not make a digit another one of the same hand, a turn, a size, a place, so everything else that tells digits
apart is kept. Blur, noise and erasing are left out, as features that do not see them cannot judge samples. Correlation
between features costs (the covariance term of VICReg, Bardes et al. 2022): alone, the first loss fills 9 directions of
64 and neighbours are of the same class less often.

Trained on the first 55,000 training digits. The last 5,000 say how good the features are, by labels that training
never sees: nearest neighbours, and a linear probe. The test digits are not looked at. The same machine, versions and
threads give the same weights.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from hldm.config.dataset import MNIST
from hldm.data import mnist
from hldm.metrics.neighbours import nearest_labels
from hldm.metrics.unlabelled import BUNDLED_WEIGHTS, FEATURES, UnlabelledNetwork
from hldm.training.digit_classifier import distorted, save_network

BATCH_SIZE = 256
LEARNING_RATE = 3e-3
TEMPERATURE = 0.2
DECORRELATION = 0.2
"""Weight of the covariance term."""
NEIGHBOURS = 5
VALIDATION_IMAGES = 5000


def contrastive_loss(a: Tensor, b: Tensor) -> Tensor:
    """NT-Xent of two views (B, D) each, a scalar: Chen et al. (2020), eq. 1, at temperature 0.2."""
    z = F.normalize(torch.cat([a, b]), dim=1)
    similarity = (z @ z.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    return F.cross_entropy(similarity, torch.arange(len(z)).roll(len(a)))


def correlation(features: Tensor) -> Tensor:
    """1/D Σ_{i≠j} ρ_ij² over the correlations of features (B, D), a scalar: Bardes et al. (2022), eq. 4, scaled."""
    rho = torch.corrcoef(features.T)
    return (rho - rho.diag().diag()).square().sum() / len(rho)


def train(images: Tensor, *, epochs: int, seed: int) -> UnlabelledNetwork:
    """Features of uint8 (N, 1, 28, 28) images, learned in `epochs` passes over them."""
    generator = Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # torch's own initialisation takes no generator
        network = UnlabelledNetwork().to(memory_format=torch.channels_last)
        # the loss looks at a projection, so that the features need not forget what it ignores
        projection = nn.Sequential(nn.Linear(FEATURES, 128), nn.ReLU(), nn.Linear(128, 128))
    steps_per_epoch = len(images) // BATCH_SIZE
    parameters = [*network.parameters(), *projection.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * steps_per_epoch)
    start = time.perf_counter()
    for epoch in range(epochs):
        network.train()
        order = torch.randperm(len(images), generator=generator)[: steps_per_epoch * BATCH_SIZE]
        total_loss = 0.0
        for batch in order.view(-1, BATCH_SIZE):
            views = torch.cat([distorted(images[batch], generator), distorted(images[batch], generator)])
            features = network(views)
            loss = contrastive_loss(*projection(features).chunk(2)) + DECORRELATION * correlation(features)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total_loss += loss.item()
        seconds = time.perf_counter() - start
        print(f"epoch {epoch + 1}/{epochs}  loss {total_loss / steps_per_epoch:.4f}  {seconds:.0f} s", flush=True)
    return calibrated(network, images)


@torch.no_grad()
def calibrated(network: UnlabelledNetwork, images: Tensor) -> UnlabelledNetwork:
    """The network in evaluation mode, with means and variances of these very images rather than of their views."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
    network.train()
    for batch in images.split(1000):
        network(batch)
    return network.eval()


@torch.no_grad()
def features_of(network: UnlabelledNetwork, images: Tensor) -> Tensor:
    """float64 (N, D)."""
    return torch.cat([network(batch) for batch in images.split(1000)]).double()


def probe_accuracy(features: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor) -> float:
    """Share of `others` (M, D) that a linear map fitted to `features` (N, D) by least squares classifies rightly."""
    design = torch.cat([features, features.new_ones(len(features), 1)], 1)
    weights = torch.linalg.lstsq(design, F.one_hot(labels).to(features)).solution
    guesses = (torch.cat([others, others.new_ones(len(others), 1)], 1) @ weights).argmax(1)
    return (guesses == other_labels).double().mean().item()


def main(argv: list[str] | None = None) -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(prog="python -m hldm.training.unlabelled_digits", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=BUNDLED_WEIGHTS, help="the safetensors file to write")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    digits = mnist(MNIST(folder=None, validation_images=VALIDATION_IMAGES))
    network = train(digits.train.first(), epochs=arguments.epochs, seed=arguments.seed)
    seen, unseen = (features_of(network, split.first()) for split in (digits.train, digits.validation))
    labels, unseen_labels = digits.train.labels, digits.validation.labels
    figures = {
        "probe_accuracy": probe_accuracy(seen, labels, unseen, unseen_labels),
        "neighbours_accuracy": (nearest_labels(unseen, seen, labels, NEIGHBOURS) == unseen_labels)
        .double()
        .mean()
        .item(),
    }
    sha256 = save_network(
        network,
        arguments.out,
        **figures,
        command=f"python -m hldm.training.unlabelled_digits --epochs {arguments.epochs} --seed {arguments.seed}",
        torch=torch.__version__,
        threads=torch.get_num_threads(),
    )
    print(
        f"validation digits: linear probe {figures['probe_accuracy']:.2%}, {NEIGHBOURS} nearest neighbours "
        f"{figures['neighbours_accuracy']:.2%}; sha256 {sha256}, written to {arguments.out}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
