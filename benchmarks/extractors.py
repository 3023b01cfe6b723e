"""How far each extractor of digits puts altered digits from real ones, and how well it tells classes apart.

    python benchmarks/extractors.py

Samples are the first 5,000 training digits, altered; the reference are the 5,000 validation digits. The first row is
the floor. Both networks were trained on the first 55,000 training digits, samples included, and saw no validation
digit. Accuracies are of validation digits, by features of 20,000 training digits. The test digits are not looked at.
"""

import platform
from collections.abc import Callable
from datetime import date

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from hldm.config.dataset import MNIST
from hldm.data import mnist
from hldm.metrics import (
    DigitClassifier,
    DigitFeatures,
    UnlabelledFeatures,
    feature_metrics,
    outputs,
    predictive_entropy,
)
from hldm.metrics.neighbours import nearest_labels
from hldm.training.unlabelled_digits import NEIGHBOURS, VALIDATION_IMAGES, probe_accuracy

SAMPLES = 5000
PROBED = 20_000
SHOWN = ("fid", "kid", "precision", "recall", "density", "coverage")


def blurred(images: Tensor, sd: float) -> Tensor:
    """Gaussian blur with a standard deviation in pixels."""
    offsets = torch.arange(-3, 4)
    kernel = torch.exp(-offsets.square() / (2 * sd**2))
    kernel = kernel / kernel.sum()
    x = F.conv2d(images.float(), kernel.view(1, 1, 1, -1), padding=(0, 3))
    return F.conv2d(x, kernel.view(1, 1, -1, 1), padding=(3, 0)).round().to(torch.uint8)


def thickened(images: Tensor, share: float) -> Tensor:
    """A step towards the largest of 3 × 3 pixels."""
    x = images.float()
    return (x + share * (F.max_pool2d(x, 3, 1, 1) - x)).round().to(torch.uint8)


def malformed(images: Tensor, count: int) -> Tensor:
    """The lower halves of the first `count` images are those of other images."""
    out = images.clone()
    out[:count, :, 14:] = images.roll(1, 0)[:count, :, 14:]
    return out


def alterations(images: Tensor, labels: Tensor, classifier: DigitClassifier) -> dict[str, Callable[[], Tensor]]:
    """Name → images, (SAMPLES, 1, 28, 28) each."""

    def drawn(indices: Tensor) -> Tensor:
        picks = torch.randint(len(indices), (SAMPLES,), generator=Generator().manual_seed(0))
        return images[indices[picks]]

    every = torch.arange(len(images))
    first = images[:SAMPLES]
    return {
        "none": lambda: first,
        "blur of .5 pixels": lambda: blurred(first, 0.5),
        "blur of 1 pixel": lambda: blurred(first, 1.0),
        "thicker strokes": lambda: thickened(first, 0.4),
        "only black and white": lambda: ((first > 127) * 255).to(torch.uint8),
        "2 pixels to the right": lambda: first.roll(2, 3),
        "no eights": lambda: images[labels != 8][:SAMPLES],
        "500 digits, ten times each": lambda: first[:500].repeat(10, 1, 1, 1),
        "1 in 20 malformed": lambda: malformed(first, SAMPLES // 20),
        "all malformed": lambda: malformed(first, SAMPLES),
        "the clearer half, by the classifier": lambda: drawn(
            every[predictive_entropy(classifier, images).argsort()][: len(images) // 2]
        ),
    }


def main() -> None:
    digits = mnist(MNIST(validation_images=VALIDATION_IMAGES))
    images, labels = digits.train.first(2 * SAMPLES), digits.train.labels[: 2 * SAMPLES]
    reference = digits.validation.first()
    altered = alterations(images, labels, DigitClassifier())
    print(f"{date.today()}, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    for extractor in (DigitFeatures(), UnlabelledFeatures()):
        real = extractor.reference(reference, 500)
        seen = outputs(extractor, digits.train.first(PROBED))[0]
        known, unseen = digits.train.labels[:PROBED], digits.validation.labels
        near = (nearest_labels(real.features, seen, known, NEIGHBOURS) == unseen).double().mean()
        probe = probe_accuracy(seen, known, real.features, unseen)
        print(f"{extractor.name}: linear probe {probe:.2%}, {NEIGHBOURS} nearest neighbours {near:.2%}\n")
        print(f"| alteration | {' | '.join(SHOWN)} |\n|---|{'--:|' * len(SHOWN)}")
        for name, made in altered.items():
            metrics = feature_metrics(outputs(extractor, made())[0], None, real)
            print(f"| {name} | {' | '.join(f'{metrics[key]:.3f}' for key in SHOWN)} |", flush=True)
        print()


if __name__ == "__main__":
    main()
