"""Float64 agreement with geoopt, the reference, for √c·r ≤ 4 (beyond, geoopt's own clamps show)."""

import geoopt.manifolds.stereographic.math as reference
import pytest
import torch

from hldm.geometry import ops

CURVATURES = [0.01, 0.1, 1.0, 10.0]  # at 1e-6 geoopt's own series is cut short; there the homothety takes over
TOLERANCE = 1e-10


@pytest.fixture(params=CURVATURES)
def case(request):
    """(c, k, x, y, u, v): points and normal coordinates within √c·r ≤ 4, dimension 5."""
    c = request.param
    g = torch.Generator().manual_seed(0)
    v = torch.nn.functional.normalize(torch.randn(2, 400, 5, generator=g, dtype=torch.float64), dim=-1)
    v = v * torch.rand(2, 400, 1, generator=g, dtype=torch.float64) * 4 / c**0.5
    u = torch.randn(400, 5, generator=g, dtype=torch.float64) / c**0.5
    return c, torch.tensor(-c, dtype=torch.float64), *ops.expmap0(v, c), u, v[0]


def agree(ours: torch.Tensor, theirs: torch.Tensor, c: float, power: float = 0.5) -> None:
    """Equal within 1e-10 once lengths are measured in units of 1/√c."""
    assert ours.shape == theirs.shape
    assert ((ours - theirs).abs() * c**power).max() < TOLERANCE


def test_maps_at_the_origin(case) -> None:
    c, k, x, _, _, v = case
    agree(x, reference.expmap0(v / 2, k=k), c)
    agree(ops.logmap0(x, c), 2 * reference.logmap0(x, k=k), c)


def test_maps_at_a_point(case) -> None:
    c, k, x, y, u, _ = case
    step = 0.2 * u
    near = x.norm(dim=-1) * c**0.5 < 0.9  # geoopt saturates where a step leads too far out
    agree(ops.expmap(x, step, c)[near], reference.expmap(x, step, k=k)[near], c)
    agree(ops.logmap(x, y, c), reference.logmap(x, y, k=k), c)


def test_gyrovector_operations(case) -> None:
    c, k, x, y, u, _ = case
    agree(ops.mobius_add(x, y, c), reference.mobius_add(x, y, k=k), c)
    agree(ops.gyration(x, y, u, c), reference.gyration(x, y, u, k=k), c)
    agree(ops.transport(x, y, u, c), reference.parallel_transport(x, y, u, k=k), c)


def test_distances(case) -> None:
    c, k, x, y, _, _ = case
    agree(ops.dist(x, y, c), reference.dist(x, y, k=k), c)
    agree(ops.pairwise_sqdist(x[:40], y[:30], c).sqrt(), reference.dist(x[:40, None], y[:30], k=k), c)


def test_metric(case) -> None:
    c, k, x, _, u, _ = case
    torch.testing.assert_close(ops.lambda_x(x, c)[:, 0], reference.lambda_x(x, k=k), rtol=1e-10, atol=0)
    ours, theirs = ops.inner(x, u, x, c), reference.inner(x, u, x, k=k, keepdim=True)[:, 0]
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10 * theirs.abs().max().item())


def test_geodesic(case) -> None:
    c, k, x, y, _, _ = case
    for t in (0.0, 0.3, 1.0):
        x_t, _ = ops.geodesic(x, y, torch.tensor(t, dtype=torch.float64), c)
        agree(x_t, reference.geodesic(torch.tensor(t, dtype=torch.float64), x, y, k=k), c)


def test_midpoint(case) -> None:
    from hldm.geometry.means import midpoint

    c, k, x, y, _, _ = case
    points = torch.stack([x, y, (x + y) / 2], 1)[:50]
    weights = torch.rand(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1
    ours = ops.expmap0(midpoint(ops.logmap0(points, c), weights.unsqueeze(1), c)[:, 0], c)
    for i in range(50):
        theirs = reference.weighted_midpoint(points[i], weights[i], k=k, reducedim=[0], dim=-1)
        agree(ours[i], theirs, c)
