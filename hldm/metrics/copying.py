"""Whether samples are copies of training images: are they nearer to them than fresh real images are?

Distances are Euclidean, in the features of an extractor or in pixels.
Legend: N samples, T test images, M training images, D features.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from scipy.stats import rankdata
from torch import Tensor

from hldm.images import to_unit
from hldm.metrics.neighbours import nearest

CELLS = 10
"""Cells of the three-sample test, k-means of the training images."""
LEAST_IN_CELL = 20
"""A cell with fewer samples or test images is left out: τ of Meehan et al. (2020), Definition 2."""
QUANTILE = 0.05
"""Of test images' distances: what is nearer than that is called close."""
COPY = 1e-3
"""Of the largest of them: so near is always close."""


class Memorisation(NamedTuple):
    """What `memorisation` finds.

    Attributes:
        metrics: figures by their names.
        distances: (N,) from each sample to its nearest training image.
        indices: int64 (N,), which one that is.
    """

    metrics: dict[str, float]
    distances: Tensor
    indices: Tensor


def memorisation(samples: Tensor, test: Tensor, training: Tensor, *, seed: int = 0) -> Memorisation:
    """Distances of samples to their nearest training images, beside those of test images.

    Args:
        samples: features (N, D).
        test: features (T, D) of real images that were not trained on.
        training: features (M, D) of all images that were.
        seed: of the cells.

    Returns:
        memorisation_share: share of samples that are closer than 5 % of test images are. .05 for fresh images of the
            data's law, 1 for copies; below .05 where samples are not even near the data.
        memorisation_ratio: median distance of samples over that of test images. 1 for fresh images, 0 for copies.
        memorisation_ct: see `three_sample_test`; only where a cell has enough images.
    """
    distances, indices = nearest(samples, training)
    metrics = closeness(distances, nearest(test, training)[0])
    cells = _cells(training, samples, test, seed)
    if cells is not None and (statistic := three_sample_test(samples, test, training, *cells)) is not None:
        metrics["memorisation_ct"] = statistic
    return Memorisation(metrics, distances, indices)


def pixel_memorisation(samples: Tensor, test: Tensor, training: Iterable[Tensor]) -> Memorisation:
    """`memorisation` without its third figure, between pixels in [0, 1].

    It finds copies pixel for pixel, and sees none in a copy that is moved by one.

    Args:
        samples: uint8 (N, C, H, W).
        test: uint8 (T, C, H, W).
        training: chunks of uint8 (B, C, H, W) in their order, as `Split.chunks` gives them.
    """
    queries = to_unit(torch.cat([samples, test])).flatten(1)
    distances, indices = nearest(queries, (to_unit(chunk).flatten(1) for chunk in training))
    n = len(samples)
    metrics = closeness(distances[:n], distances[n:])
    return Memorisation({f"{name}_pixels": value for name, value in metrics.items()}, distances[:n], indices[:n])


def closeness(samples: Tensor, test: Tensor) -> dict[str, float]:
    """memorisation_share and memorisation_ratio of distances (N,) and (T,) to the nearest training image."""
    # test images may be copies of training images themselves: then what is close is a copy, but for rounding
    close = torch.maximum(torch.quantile(test.double(), QUANTILE), COPY * test.double().max())
    return {
        "memorisation_share": (samples.double() < close).double().mean().item(),
        "memorisation_ratio": float(samples.double().median() / test.double().median().clamp_min(1e-12)),
    }


def three_sample_test(
    samples: Tensor, test: Tensor, training: Tensor, in_samples: Tensor, in_test: Tensor, in_training: Tensor
) -> float | None:
    """C_T of Meehan, Chaudhuri and Dasgupta (2020), eq. 2: the test for data copying.

        C_T = Σ_π p_π Z_π / Σ_π p_π,   Z = (U − NT/2) / √(NT(N + T + 1)/12)

    over cells π with enough images, p_π their share of the test images, U the number of pairs in which a sample is
    farther from its nearest training image of the cell than a test image is (Mann and Whitney 1947).

    Args:
        samples, test, training: features (N, D), (T, D), (M, D).
        in_samples, in_test, in_training: int64 (N,), (T,), (M,), the cell of each.

    Returns:
        C_T: about 0 for fresh images of the data's law, the mean of standard normal Z; below −3 there is copying,
        above 3 the samples lie farther from the training images than real ones do. None: no cell has enough images.
    """
    total = weight = 0.0
    for cell in in_training.unique().tolist():
        own, real, trained = samples[in_samples == cell], test[in_test == cell], training[in_training == cell]
        n, t = len(own), len(real)
        if min(n, t) < LEAST_IN_CELL:
            continue
        distances = torch.cat([nearest(own, trained)[0], nearest(real, trained)[0]])
        u = rankdata(distances.cpu().numpy())[:n].sum() - n * (n + 1) / 2
        total += t * (u - n * t / 2) / (n * t * (n + t + 1) / 12) ** 0.5
        weight += t
    return float(total / weight) if weight else None


def _cells(training: Tensor, samples: Tensor, test: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """The cells of samples, test and training images, by k-means of the training images; None for too few of them."""
    if len(training) < CELLS * LEAST_IN_CELL:
        return None
    centres, _ = kmeans2(training.cpu().numpy(), CELLS, iter=10, minit="++", rng=np.random.default_rng(seed))
    at = torch.from_numpy(centres).to(training)
    return nearest(samples, at)[1], nearest(test, at)[1], nearest(training, at)[1]
