"""Float32 against float64 on identical inputs, small distances included, and what happens at the radius limit."""

import math

import pytest
import torch

from hldm.geometry import FixedCurvature, PoincareBall, normal, ops

CURVATURES = [1e-6, 1e-3, 0.1, 1.0, 10.0]


def pairs(c: float, n: int = 3, largest: float = 6.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32 points at √c·r up to `largest`, with partners at √c·d from 1e-4 to 12."""
    g = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(2, 3000, n, generator=g, dtype=torch.float64), dim=-1)
    x = ops.expmap0(direction[0] * torch.linspace(0, largest, 3000, dtype=torch.float64)[:, None] / c**0.5, c)
    far = ops.expmap0(direction[1] * torch.rand(3000, 1, generator=g, dtype=torch.float64) * largest / c**0.5, c)
    size = 10 ** (-4 * torch.rand(3000, 1, generator=g, dtype=torch.float64)) / c**0.5
    near = ops.expmap(x, ops.from_frame(x, direction[1] * size, c), c)
    near = near[ops.logmap0(near, c).norm(dim=-1) * c**0.5 < largest]
    return torch.cat([x, x[: len(near)]]).float(), torch.cat([far, near]).float()


@pytest.mark.parametrize("c", CURVATURES)
def test_distance_errs_by_less_than_1e_4(c: float) -> None:
    x, y = pairs(c)
    exact = ops.dist(x.double(), y.double(), c)
    kept = exact * c**0.5 > 1e-6
    assert kept.sum() > 4000
    error = ((ops.dist(x, y, c) - exact) / exact)[kept].abs().max()
    assert error < 1e-4
    x, y = x[-500:], y[-500:]
    exact = ops.dist(x.double()[:, None], y.double()[None], c)
    for curvature in (c, torch.tensor(c)):  # a learned curvature takes another branch
        error = (ops.pairwise_sqdist(x, y, curvature).sqrt() - exact) / exact
        assert error[exact * c**0.5 > 1e-6].abs().max() < 1e-4


def test_steps_by_coordinate_are_those_of_cdist() -> None:
    """The form that GPUs take, with its gradient, batches, and points that are equal."""
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, n, 3, generator=g, dtype=torch.float64, requires_grad=True) for n in (7, 9))
    with torch.no_grad():
        y[:, 4] = x[:, 2]
    found, expected = ops.steps_by_coordinate(x, y), ops.pairwise_steps(x, y)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)
    assert (found[:, 2, 4] == 0).all()
    weights = torch.randn(found.shape, generator=g, dtype=torch.float64)
    for theirs, ours in zip(
        *(torch.autograd.grad((d * weights).sum(), (x, y)) for d in (expected, found)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    nowhere = torch.empty(3, 0)  # of a point, the empty factor of a product
    assert ops.steps_by_coordinate(nowhere, nowhere[:2]).equal(torch.zeros(3, 2))


@pytest.mark.parametrize("c", CURVATURES)
def test_maps_err_little(c: float) -> None:
    """In the orthonormal frame, in units of 1/√c, at √c·r ≤ 4."""
    x, y = pairs(c, largest=4.0)
    u, exact = ops.logmap(x, y, c), ops.logmap(x.double(), y.double(), c)
    assert (ops.to_frame(x.double(), u.double() - exact, c) * c**0.5).abs().max() < 5e-4
    v = ops.logmap0(x, c)
    assert ((v - ops.logmap0(x.double(), c)) * c**0.5).abs().max() < 2e-5
    w = ops.logmap0(y, c)
    assert ((normal.add_normal(v, w, c) - normal.add_normal(v.double(), w.double(), c)) * c**0.5).abs().max() < 2e-3


@pytest.mark.parametrize("c", CURVATURES)
@pytest.mark.parametrize("radii", [(8.0, 8.0), (8.0, 1.0), (0.5, 8.0), (4.0, 4.0), (1.0, 1.0)])
def test_errors_do_not_grow_along_a_geodesic(c: float, radii: tuple[float, float]) -> None:
    """Points and velocities at all times err by the coordinates' own rounding at the ends, which is eps·e^r/√c."""
    g = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(2, 500, 3, generator=g, dtype=torch.float64), dim=-1)
    x0, x1 = (ops.expmap0(d * r / c**0.5, c).float() for d, r in zip(direction, radii, strict=True))
    bound = 2 * torch.finfo(torch.float32).eps * math.exp(max(radii))
    for time in (0.0, 0.1, 0.5, 0.51, 0.9, 1.0):
        t = torch.tensor(time)
        x_t, u_t = ops.geodesic(x0, x1, t, c)
        exact_x, exact_u = ops.geodesic(x0.double(), x1.double(), t.double(), c)
        assert (ops.dist(x_t.double(), exact_x, c) * c**0.5).max() < bound, time
        error = ops.to_frame(exact_x, u_t.double() - exact_u, c).norm(dim=-1)
        assert (error / ops.to_frame(exact_x, exact_u, c).norm(dim=-1)).max() < bound, time


@pytest.mark.parametrize("c", CURVATURES)
def test_a_geodesic_is_its_reverse_bit_for_bit(c: float) -> None:
    x0, x1 = (ops.expmap0(v / c**0.5, c) for v in 3 * torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0)))
    for time in (0.0, 0.25, 0.375):
        there, back = ops.geodesic(x0, x1, torch.tensor(time), c), ops.geodesic(x1, x0, torch.tensor(1 - time), c)
        assert there[0].equal(back[0])
        assert there[1].equal(-back[1])


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 15.0), (torch.float64, 34.0)])
@pytest.mark.parametrize("c", [0.1, 1.0, 10.0])
def test_points_end_at_the_radius_limit_of_their_format(dtype: torch.dtype, limit: float, c: float) -> None:
    v = torch.zeros(6, 3, dtype=dtype)
    v[:, 0] = torch.tensor([0.1, 1.0, limit - 2, limit + 1, 10 * limit, 1e4], dtype=dtype) / c**0.5
    z = ops.expmap0(v, c)
    radius = ops.logmap0(z, c)[:, 0] * c**0.5
    torch.testing.assert_close(radius[:3], v[:3, 0] * c**0.5, rtol=2e-2, atol=0)
    assert ((radius[3:] - limit).abs() < 0.5).all()
    assert (c * z.square().sum(-1) < 1).all()
    manifold = PoincareBall(3, FixedCurvature(c))
    assert manifold.saturation(z) == 0.5
    out, share = manifold.project(2 * z)
    assert share == 4 / 6  # twice the third, too, is outside
    assert (c * out.square().sum(-1) < 1).all()
    inside, share = manifold.project(z[:3])
    assert inside.equal(z[:3])
    assert share == 0


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 15.0), (torch.float64, 34.0)])
def test_everything_ends_at_the_same_limit(dtype: torch.dtype, limit: float) -> None:
    """Points on the sphere at infinity are read as lying at √c·r = limit, and steps beyond it end there."""
    c = 0.7
    outside = torch.tensor([[1.0, 0.0], [-0.6, 0.8]], dtype=dtype) / c**0.5
    at_limit = torch.full((2,), limit, dtype=dtype)
    torch.testing.assert_close(ops.lambda_x(outside, c)[:, 0], 2 * (at_limit / 2).cosh().square(), rtol=1e-5, atol=0)
    # 1 − c|z|² is 20 to 30 units of rounding there, and a step rounds more than once: 0.44 was seen in float32
    slack = 0.5 if dtype == torch.float32 else 0.2
    radius = ops.logmap0(outside, c).norm(dim=-1) * c**0.5
    torch.testing.assert_close(radius, at_limit, rtol=0, atol=slack)
    from_origin = ops.expmap(torch.zeros_like(outside), 100 * outside, c)
    torch.testing.assert_close(ops.logmap0(from_origin, c).norm(dim=-1) * c**0.5, at_limit, rtol=0, atol=slack)
    projected, share = ops.project(outside * (1 + 1e-3), c)
    assert share == 1
    torch.testing.assert_close(projected, outside * (at_limit[0] / 2).tanh(), rtol=1e-6, atol=1e-6)
    half = ops.expmap0(0.5 * limit * outside, c)
    far = ops.mobius_add(half, ops.expmap(half, 1e3 * half, c), c)
    torch.testing.assert_close(ops.logmap0(far, c).norm(dim=-1) * c**0.5, at_limit, rtol=0, atol=slack)
    # the saturated share starts 0.5 below the limit, projection at the limit itself
    for distance, saturated in ((0.2, 1.0), (0.45, 1.0), (0.55, 0.0), (0.8, 0.0)):
        z = ops.expmap0(torch.tensor([[limit - distance, 0.0]], dtype=dtype) / c**0.5, c)
        if distance in (0.2, 0.8) or dtype == torch.float64:
            assert ops.saturation(z, c) == saturated, distance
        assert ops.project(z, c)[1] == 0


@pytest.mark.parametrize(("dtype", "clip"), [(torch.float32, 20.0), (torch.float64, 150.0)])
def test_hyperboloid_coordinates_keep_their_direction_beyond_the_clip(dtype: torch.dtype, clip: float) -> None:
    c, v = 0.5, torch.tensor([[0.6, 0.8]], dtype=dtype)
    for radius in (0.5 * clip, 0.99 * clip, 1.1 * clip, 1e3 * clip):
        space, time = normal.spacelike(radius * v / c**0.5, c)
        kept = torch.tensor(min(radius, clip), dtype=dtype)
        torch.testing.assert_close(space * c**0.5, kept.sinh() * v, rtol=1e-4, atol=0)
        torch.testing.assert_close(time, kept.cosh().reshape(1, 1), rtol=1e-4, atol=0)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 40.0), (torch.float64, 340.0)])
def test_sums_in_normal_coordinates_count_longer_vectors_as_ones_at_the_bound(dtype: torch.dtype, bound: float) -> None:
    m = torch.tensor([[0.5, 0.0]], dtype=dtype)
    for length in (0.5 * bound, bound - 1, bound + 2, 2 * bound):
        w = torch.tensor([[length, 0.0]], dtype=dtype)
        expected = torch.tensor([[0.5 + min(length, bound), 0.0]], dtype=dtype)
        for v in (normal.add_normal(m, w, 1.0), normal.add_normal(w, m, 1.0)):
            torch.testing.assert_close(v, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_repeated_steps_outwards_stay_on_the_ball(dtype: torch.dtype) -> None:
    c = 1.3
    x = torch.tensor([[0.1, 0.2]], dtype=dtype)
    for _ in range(40):
        x = ops.expmap(x, ops.from_frame(x, x / x.norm(), c), c)
        assert c * x.square().sum() < 1
    assert ops.saturation(x, c) == 1
    back = ops.expmap(x, ops.from_frame(x, -10 * x / x.norm(), c), c)
    moved = ops.dist(x, back, c) * 1.0
    assert abs(moved.item() - 10) < 0.5


@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
def test_half_precision_is_promoted_and_autocast_does_not_enter(low: torch.dtype) -> None:
    from hldm.geometry.means import frechet_mean, midpoint

    v = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    assert ops.expmap0(v.to(low), 1.0).dtype == torch.float32

    def everything() -> list[torch.Tensor]:
        x, y = ops.expmap0(v, 1.0), ops.expmap0(v.flip(0), 1.0)
        weights = torch.ones(2, 40)
        return [
            x, ops.logmap0(x, 1.0), ops.expmap(x, v, 1.0), ops.logmap(x, y, 1.0), ops.transport(x, y, v, 1.0),
            ops.dist(x, y, 1.0), ops.pairwise_sqdist(x, y, 1.0), *ops.geodesic(x, y, torch.tensor(0.3), 1.0),
            normal.add_normal(v, v.flip(0), 1.0), normal.log_volume(v, 1.0), midpoint(v, weights, 1.0),
            frechet_mean(v, weights[0], 1.0), ops.gyration(x, y, v, 1.0), ops.inner(x, v, v, 1.0),
        ]  # fmt: skip

    plain = everything()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for a, b in zip(everything(), plain, strict=True):
            assert a.dtype == torch.float32
            assert a.equal(b)
