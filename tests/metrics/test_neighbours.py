"""Precision, recall, density and coverage: brute force, another library, closed forms, copies and limits of memory."""

import math
import resource
import time

import pytest
import torch
from torch import Generator, Tensor

from hldm.errors import UserError
from hldm.metrics import neighbours
from hldm.metrics.neighbours import nearest, neighbour_radii, precision_recall_density_coverage
from tests.speed import allowed


def gaussian(n: int, dim: int, seed: int, mean: float = 0.0, sd: float = 1.0) -> Tensor:
    return mean + sd * torch.randn(n, dim, generator=Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(samples: Tensor, real: Tensor) -> dict[str, float]:
    """The four definitions, image by image, on distances that are computed as differences."""

    def distance(a: Tensor, b: Tensor) -> float:
        return float((a - b).square().sum())

    def radius(points: Tensor, i: int, k: int) -> float:
        return sorted(distance(points[i], points[j]) for j in range(len(points)) if j != i)[k - 1]

    real3, real5 = ([radius(real, i, k) for i in range(len(real))] for k in (3, 5))
    own3 = [radius(samples, j, 3) for j in range(len(samples))]
    d = [[distance(x, y) for x in real] for y in samples]
    n, m = len(samples), len(real)
    return {
        "precision": sum(any(d[j][i] <= real3[i] for i in range(m)) for j in range(n)) / n,
        "recall": sum(any(d[j][i] <= own3[j] for j in range(n)) for i in range(m)) / m,
        "density": sum(d[j][i] <= real5[i] for j in range(n) for i in range(m)) / (5 * n),
        "coverage": sum(any(d[j][i] <= real5[i] for j in range(n)) for i in range(m)) / m,
    }


@pytest.mark.parametrize("at_once", [1, 100, 2**20])
def test_agrees_with_the_definitions(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, real = gaussian(40, 3, 0, mean=1.2, sd=0.9), gaussian(50, 3, 1)
    expected = by_hand(samples, real)
    assert 0 < expected["recall"] != expected["precision"] < 1
    monkeypatch.setattr(neighbours, "NUMBERS_AT_ONCE", at_once)
    assert precision_recall_density_coverage(samples, real) == pytest.approx(expected, abs=1e-12)
    assert precision_recall_density_coverage(samples, real, neighbour_radii(real)) == pytest.approx(expected, abs=1e-12)


def test_agrees_with_torch_fidelity() -> None:
    from torch_fidelity.metric_prc import prc_features_to_metric

    samples, real = gaussian(300, 8, 0, mean=0.4, sd=0.8), gaussian(400, 8, 1)
    ours = precision_recall_density_coverage(samples, real)
    theirs = prc_features_to_metric(
        samples, real, prc_neighborhood=3, prc_batch_size=10_000, save_cpu_ram=False, verbose=False
    )
    assert ours["precision"] == pytest.approx(theirs["precision"], abs=1e-6)
    assert ours["recall"] == pytest.approx(theirs["recall"], abs=1e-6)


def test_equal_laws_have_the_density_and_coverage_of_the_closed_form() -> None:
    n, m = 150, 250
    runs = [precision_recall_density_coverage(gaussian(n, 2, seed), gaussian(m, 2, 1000 + seed)) for seed in range(40)]
    expected = 1 - math.prod((m - 1 - i) / (n + m - 1 - i) for i in range(5))
    assert sum(run["coverage"] for run in runs) / len(runs) == pytest.approx(expected, abs=0.01)
    assert sum(run["density"] for run in runs) / len(runs) == pytest.approx(1, abs=0.03)


def test_what_each_of_them_sees() -> None:
    real = torch.cat([gaussian(200, 4, 0), gaussian(200, 4, 1, mean=50.0)])
    one_mode, far = gaussian(400, 4, 2), gaussian(400, 4, 3, mean=500.0)
    dropped = precision_recall_density_coverage(one_mode, real)
    assert dropped["precision"] > 0.8
    assert dropped["density"] > 0.8
    assert dropped["recall"] < 0.51
    assert dropped["coverage"] < 0.51
    assert precision_recall_density_coverage(far, real) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_the_same_images_and_copies_of_one_image() -> None:
    real = gaussian(60, 5, 0)
    same = precision_recall_density_coverage(real.clone(), real)
    assert (same["precision"], same["recall"], same["coverage"]) == (1, 1, 1)
    # as rounding differs from block to block, copies need a distance that counts as none
    collapsed = precision_recall_density_coverage(real[:1].expand(40, -1), real)
    assert collapsed["precision"] == 1
    assert collapsed["recall"] == pytest.approx(1 / 60)
    all_alike = precision_recall_density_coverage(real[:1].expand(40, -1), real[:1].expand(30, -1))
    assert all_alike == {"precision": 1, "recall": 1, "density": 6, "coverage": 1}


def test_too_few_images_have_no_neighbours() -> None:
    with pytest.raises(UserError, match="Neighbours number 5 need more than 5 images, and there are 5"):
        neighbour_radii(gaussian(5, 2, 0))


def test_nearest_is_that_of_all_differences_and_of_chunks() -> None:
    queries, points = gaussian(30, 6, 0), gaussian(70, 6, 1)
    points[40] = points[3]  # the first of equals
    every = (queries[:, None] - points[None]).norm(dim=2)
    distances, indices = nearest(queries, points)
    assert torch.allclose(distances, every.min(1).values, rtol=1e-10)
    assert torch.equal(indices, every.argmin(1))
    chunked = nearest(queries, iter(points.split(17)))
    assert torch.allclose(chunked[0], distances)
    assert torch.equal(chunked[1], indices)


def test_five_thousand_against_ten_thousand_stay_small() -> None:
    """The size of a run: 2 s of a quiet core."""
    samples, real = gaussian(5000, 64, 0), gaussian(10_000, 64, 1)
    radii = neighbour_radii(real)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    precision_recall_density_coverage(samples, real, radii)
    assert time.process_time() - start < allowed(6)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) < 200 * 1024  # KiB on Linux; all distances at once would take 400 MB
