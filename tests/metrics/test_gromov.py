"""δ against its definitions, and on spaces where it is known."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from hldm.geometry import FixedCurvature, PoincareBall
from hldm.metrics import gromov_delta


def distances(points: Tensor) -> Tensor:
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def naive(dist: Tensor, base: int) -> float:
    """The whole (n, n, n) max–min product."""
    products = (dist[base, :, None] + dist[base] - dist) / 2
    joined = torch.minimum(products[:, :, None], products[None]).amax(dim=1)
    return (joined - products).max().item()


def four_points(dist: Tensor) -> float:
    """Half the difference of the two largest of the three sums of opposite sides, over all quadruples."""
    d, worst = dist.tolist(), 0.0
    for a, b, c, e in combinations(range(len(d)), 4):
        sums = sorted((d[a][b] + d[c][e], d[a][c] + d[b][e], d[a][e] + d[b][c]))
        worst = max(worst, (sums[2] - sums[1]) / 2)
    return worst


def random_tree(n: int, generator: Generator) -> Tensor:
    dist = torch.zeros(n, n, dtype=torch.float64)
    for i in range(1, n):
        parent = int(torch.randint(0, i, (), generator=generator))
        dist[i, :i] = dist[parent, :i] + 0.1 + torch.rand((), generator=generator, dtype=torch.float64)
        dist[:i, i] = dist[i, :i]
    return dist


@given(n=st.integers(4, 40), dim=st.integers(1, 8), spread=st.floats(0, 5), seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_agrees_with_the_naive_product(n: int, dim: int, spread: float, seed: int) -> None:
    generator = Generator().manual_seed(seed)
    # clusters, and points that coincide
    centres = torch.randn(3, dim, generator=generator, dtype=torch.float64)
    members = torch.randint(0, 3, (n,), generator=generator)
    points = centres[members] + spread * torch.randn(n, dim, generator=generator, dtype=torch.float64)
    points[n // 2] = points[0]
    dist = distances(points)
    for base in (0, n - 1):
        assert gromov_delta(dist, base) == pytest.approx(naive(dist, base), abs=1e-12)


@pytest.mark.parametrize("radius", [0.5, 2.0, 4.0])
def test_agrees_with_the_naive_product_on_the_ball(radius: float) -> None:
    ball, generator = PoincareBall(3, FixedCurvature(1.0)), Generator().manual_seed(0)
    v = radius * torch.randn(300, 3, generator=generator, dtype=torch.float64)
    z = ball.from_tangent(v)
    dist = ball.pairwise_sqdist(z, z).sqrt()
    delta = gromov_delta(dist)
    assert delta == pytest.approx(naive(dist, 0), abs=1e-12)
    # hyperbolic space is log(2)/√(−curvature)-hyperbolic in the four-point sense (Nica & Špakula 2016)
    assert 0.2 < delta <= math.log(2) + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_largest_over_all_bases_is_the_four_point_delta(seed: int) -> None:
    dist = distances(torch.randn(14, 3, generator=Generator().manual_seed(seed), dtype=torch.float64))
    over_bases = [gromov_delta(dist, base) for base in range(len(dist))]
    exact = four_points(dist)
    assert max(over_bases) == pytest.approx(exact, abs=1e-12)
    assert all(exact <= 2 * delta + 1e-12 for delta in over_bases)


def test_known_spaces() -> None:
    assert gromov_delta(random_tree(200, Generator().manual_seed(0))) == pytest.approx(0, abs=1e-12)
    square = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    assert gromov_delta(distances(square)) == pytest.approx(math.sqrt(2) - 1)  # sums 2√2, 2, 2
    cycle = torch.tensor([[min((i - j) % 8, (j - i) % 8) for j in range(8)] for i in range(8)])
    assert gromov_delta(cycle) == 2.0  # a cycle of 4m vertices is m-hyperbolic
    assert gromov_delta(distances(square[:3])) == 0.0
    assert gromov_delta(torch.zeros(50, 50)) == 0.0


def test_scales_with_the_unit() -> None:
    dist = distances(torch.randn(100, 4, generator=Generator().manual_seed(1), dtype=torch.float64))
    assert gromov_delta(1e-3 * dist) == pytest.approx(1e-3 * gromov_delta(dist))
