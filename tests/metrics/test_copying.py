"""Copies of training images are found, fresh images are not taken for copies, and the tests are the papers'."""

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from torch import Generator, Tensor

from hldm.metrics import memorisation, pixel_memorisation
from hldm.metrics.copying import LEAST_IN_CELL, closeness, three_sample_test
from hldm.metrics.neighbours import nearest_labels


def gaussian(n: int, seed: int, dim: int = 6) -> Tensor:
    return torch.randn(n, dim, generator=Generator().manual_seed(seed), dtype=torch.float64)


def test_fresh_samples_copies_and_samples_beside_the_data() -> None:
    training, test = gaussian(3000, 0), gaussian(800, 1)
    fresh = memorisation(gaussian(800, 2), test, training)
    assert fresh.metrics["memorisation_share"] == pytest.approx(0.05, abs=0.025)
    assert fresh.metrics["memorisation_ratio"] == pytest.approx(1, abs=0.06)
    assert abs(fresh.metrics["memorisation_ct"]) < 2

    copies = memorisation(training[:800] + 1e-3 * gaussian(800, 3), test, training)
    assert copies.metrics["memorisation_share"] == 1
    assert copies.metrics["memorisation_ratio"] < 0.01
    assert copies.metrics["memorisation_ct"] < -3
    assert torch.equal(copies.indices, torch.arange(800))
    assert torch.allclose(copies.distances, (1e-3 * gaussian(800, 3)).norm(dim=1))

    # a tenth of them copies: the share says so, where the median does not
    few = memorisation(torch.cat([training[:80], gaussian(720, 4)]), test, training)
    assert few.metrics["memorisation_share"] == pytest.approx(0.145, abs=0.03)
    assert few.metrics["memorisation_ratio"] > 0.8

    # copies are found where a tenth of the test images are copies themselves
    repeated = torch.cat([training[:80], test[80:]])
    assert memorisation(training[:800], repeated, training).metrics["memorisation_share"] == 1
    assert memorisation(gaussian(800, 2), repeated, training).metrics["memorisation_share"] == 0

    far = memorisation(3 * gaussian(800, 5), test, training)
    assert far.metrics["memorisation_share"] < 0.01
    assert far.metrics["memorisation_ct"] > 3


def test_the_three_sample_test_is_a_weighted_mean_of_mann_whitney_tests() -> None:
    training, test, samples = gaussian(300, 0, 2), gaussian(150, 1, 2), 0.9 * gaussian(120, 2, 2)
    cells = [(x[:, 0] > 0.3).long() for x in (samples, test, training)]
    scores, weights = [], []
    for cell in (0, 1):
        own, real, trained = (x[c == cell] for x, c in zip((samples, test, training), cells, strict=True))
        a, b = ((x[:, None] - trained[None]).norm(dim=2).min(1).values.numpy() for x in (own, real))
        n, t = len(a), len(b)
        u = mannwhitneyu(a, b).statistic
        scores.append((u - n * t / 2) / np.sqrt(n * t * (n + t + 1) / 12))
        weights.append(t)
    expected = np.average(scores, weights=weights)
    assert three_sample_test(samples, test, training, *cells) == pytest.approx(expected, abs=1e-9)
    # a cell with too few samples is left out
    cells[0] = torch.where(torch.arange(120) < LEAST_IN_CELL - 1, 1, 0)
    assert three_sample_test(samples, test, training, *cells) is not None
    small = slice(0, LEAST_IN_CELL - 1)
    assert three_sample_test(samples[small], test, training, cells[0][small], *cells[1:]) is None


def test_the_three_sample_test_is_standard_normal_in_one_cell() -> None:
    training = gaussian(400, 0)
    one = [torch.zeros(n, dtype=torch.long) for n in (100, 100, 400)]
    scores = [
        three_sample_test(gaussian(100, seed), gaussian(100, 500 + seed), training, *one) for seed in range(1, 121)
    ]
    assert np.mean(scores) == pytest.approx(0, abs=0.3)
    assert np.std(scores) == pytest.approx(1, abs=0.2)


def test_seed_and_few_images() -> None:
    training, test, samples = gaussian(600, 0), gaussian(200, 1), gaussian(200, 2)
    runs = [memorisation(samples, test, training, seed=seed).metrics for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0]["memorisation_ct"] != runs[2]["memorisation_ct"]
    assert set(memorisation(samples, test, training[:100]).metrics) == {"memorisation_share", "memorisation_ratio"}
    # test images that are training images make no division by zero
    assert closeness(torch.ones(5), torch.zeros(5))["memorisation_ratio"] == pytest.approx(1e12)


def test_pixels_in_chunks() -> None:
    def images(n: int, seed: int) -> Tensor:
        return torch.randint(0, 256, (n, 1, 5, 5), generator=Generator().manual_seed(seed), dtype=torch.uint8)

    training, test = images(90, 0), images(40, 1)
    copies = pixel_memorisation(training[50:70], test, iter(training.split(33)))
    assert copies.metrics["memorisation_share_pixels"] == 1
    assert copies.metrics["memorisation_ratio_pixels"] < 1e-2
    assert torch.equal(copies.indices, torch.arange(50, 70))
    fresh = pixel_memorisation(images(40, 2), test, [training])
    x, y = images(40, 2).double().flatten(1) / 255, training.double().flatten(1) / 255
    assert torch.allclose(fresh.distances.double(), torch.cdist(x, y).min(1).values, atol=1e-4)
    assert fresh.metrics["memorisation_ratio_pixels"] == pytest.approx(1, abs=0.1)


def test_labels_of_the_nearest() -> None:
    points = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1]])
    labels = torch.tensor([3, 3, 1, 2, 2])
    assert nearest_labels(torch.tensor([[0.05], [5.0]]), points, labels, 3).tolist() == [3, 2]
