"""A script that trains the digit classifier of the metrics, and writes it with its accuracy and hash.

    python -m hldm.training.digit_classifier                        # over the bundled file
    python -m hldm.training.digit_classifier --out other.safetensors --seed 1

It sees the training digits without the last 5,000, on which runs choose their settings: it would take digits that it
was trained on for clearer than they are. The test set is looked at once, after the last step. The same machine,
versions and threads give the same weights.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Generator, Tensor, nn

from hldm.config.dataset import MNIST
from hldm.data import mnist
from hldm.metrics.classifier import BUNDLED_WEIGHTS, DigitNetwork, label_accuracy, weights_sha256

BATCH_SIZE = 128
LEARNING_RATE = 5e-3
VALIDATION_IMAGES = 5000


def distorted(images: Tensor, generator: Generator) -> Tensor:
    """Images turned by up to 12°, scaled by up to 12 % and moved by up to 2.8 pixels, each differently.

    Args:
        images: uint8 (N, 1, H, W); the result has the same type and shape.
    """
    turn, scale, right, down = torch.empty(4, len(images)).uniform_(-1, 1, generator=generator)
    turn, scale, right, down = turn * math.pi / 15, 1 + 0.12 * scale, 0.2 * right, 0.2 * down  # in half image sides
    rows = [scale * turn.cos(), -scale * turn.sin(), right, scale * turn.sin(), scale * turn.cos(), down]
    maps = torch.stack(rows, dim=1).view(-1, 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, align_corners=False).round().to(torch.uint8)


def train(images: Tensor, labels: Tensor, *, epochs: int, seed: int) -> DigitNetwork:
    """A classifier of uint8 (N, 1, 28, 28) images with labels (N,), trained for `epochs` passes over them."""
    generator = Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # torch's own initialisation takes no generator
        network = DigitNetwork().to(memory_format=torch.channels_last)
    steps_per_epoch = len(images) // BATCH_SIZE
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * steps_per_epoch)
    start = time.perf_counter()
    for epoch in range(epochs):
        network.train()
        order = torch.randperm(len(images), generator=generator)[: steps_per_epoch * BATCH_SIZE]
        total_loss = 0.0
        for batch in order.view(-1, BATCH_SIZE):
            _, logits = network(distorted(images[batch], generator))
            loss = F.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total_loss += loss.item()
        seconds = time.perf_counter() - start
        print(f"epoch {epoch + 1}/{epochs}  loss {total_loss / steps_per_epoch:.4f}  {seconds:.0f} s", flush=True)
    return network.eval()


def save_network(network: nn.Module, path: Path, **metadata: object) -> str:
    """Write the weights with what should be known about them, and return their hash."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    sha256 = weights_sha256(state)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, metadata={"sha256": sha256} | {name: str(value) for name, value in metadata.items()})
    return sha256


def main(argv: list[str] | None = None) -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(prog="python -m hldm.training.digit_classifier", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=BUNDLED_WEIGHTS, help="the safetensors file to write")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    digits = mnist(MNIST(folder=None, validation_images=VALIDATION_IMAGES))
    network = train(digits.train.first(), digits.train.labels, epochs=arguments.epochs, seed=arguments.seed)
    validation_accuracy, test_accuracy = (
        label_accuracy(network, split.first(), split.labels) for split in (digits.validation, digits.test)
    )
    sha256 = save_network(
        network,
        arguments.out,
        test_accuracy=test_accuracy,
        validation_accuracy=validation_accuracy,
        training_digits=len(digits.train),
        command=f"python -m hldm.training.digit_classifier --epochs {arguments.epochs} --seed {arguments.seed}",
        torch=torch.__version__,
        threads=torch.get_num_threads(),
    )
    print(f"accuracy on validation {validation_accuracy:.2%}, on test {test_accuracy:.2%}")
    print(f"sha256 {sha256}, written to {arguments.out}")


if __name__ == "__main__":
    main(sys.argv[1:])
