"""Identities of hyperbolic geometry over curvature, dimension, radius and dtype."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from hldm.geometry import FixedCurvature, PoincareBall, normal, ops

curvatures = st.floats(-6, 1).map(lambda e: 10.0**e)
dimensions = st.integers(1, 9)
radii = st.floats(0, 4)
dtypes = st.sampled_from([torch.float32, torch.float64])
seeds = st.integers(0, 2**31)


def vectors(seed: int, count: int, n: int, radius: float, c: float, dtype: torch.dtype) -> torch.Tensor:
    """(count, 20, n) normal coordinates with lengths up to radius/√c."""
    g = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(count, 20, n, generator=g, dtype=dtype), dim=-1)
    return direction * torch.rand(count, 20, 1, generator=g, dtype=dtype) * radius / math.sqrt(c)


def close(a: torch.Tensor, b: torch.Tensor, c: float, radius: float, power: float = 0.5) -> None:
    """Equal within rounding, which distances amplify by e^r near the boundary, in units of 1/√c."""
    eps = torch.finfo(a.dtype).eps
    assert ((a - b).abs().max() * c**power).item() <= 200 * eps * math.exp(radius)


@given(curvatures, dimensions, radii, dtypes, seeds)
def test_chart_round_trip_and_radius(c, n, radius, dtype, seed) -> None:
    v = vectors(seed, 1, n, radius, c, dtype)[0]
    z = ops.expmap0(v, c)
    close(ops.logmap0(z, c), v, c, radius)
    close(ops.dist(torch.zeros_like(z), z, c), v.norm(dim=-1), c, radius)


@given(curvatures, dimensions, radii, dtypes, seeds)
def test_exp_and_log_are_inverse_and_distance_is_the_length(c, n, radius, dtype, seed) -> None:
    x, y = ops.expmap0(vectors(seed, 2, n, radius, c, dtype), c)
    u = ops.logmap(x, y, c)
    close(ops.inner(x, u, u, c).sqrt(), ops.dist(x, y, c), c, radius)
    close(ops.logmap0(ops.expmap(x, u, c), c), ops.logmap0(y, c), c, 2 * radius)


@given(curvatures, dimensions, radii, seeds)
def test_distance_is_symmetric_and_invariant_under_translation(c, n, radius, seed) -> None:
    a, x, y = ops.expmap0(vectors(seed, 3, n, radius / 2, c, torch.float64), c)
    close(ops.dist(x, y, c), ops.dist(y, x, c), c, 0)
    close(ops.dist(ops.mobius_add(a, x, c), ops.mobius_add(a, y, c), c), ops.dist(x, y, c), c, 2 * radius)
    close(ops.mobius_add(-a, ops.mobius_add(a, x, c), c), x, c, 2 * radius)


@given(curvatures, dimensions, radii, seeds)
def test_gyration_is_the_rotation_that_makes_addition_associative(c, n, radius, seed) -> None:
    a, b, u = ops.expmap0(vectors(seed, 3, n, radius / 2, c, torch.float64), c)
    left = ops.mobius_add(a, ops.mobius_add(b, u, c), c)
    right = ops.mobius_add(ops.mobius_add(a, b, c), ops.gyration(a, b, u, c), c)
    close(left, right, c, 2 * radius)
    close(ops.gyration(a, b, u, c).norm(dim=-1), u.norm(dim=-1), c, radius)


@given(curvatures, dimensions, radii, dtypes, seeds)
def test_transport_keeps_inner_products_and_comes_back(c, n, radius, dtype, seed) -> None:
    x, y, u, w = ops.expmap0(vectors(seed, 4, n, min(radius, 3), c, dtype), c)
    there, other = ops.transport(x, y, u, c), ops.transport(x, y, w, c)
    scale = (1 + ops.inner(x, u, u, c)[:, None] * c).amax().item()
    close(ops.inner(y, there, other, c) / scale, ops.inner(x, u, w, c) / scale, c, 2 * radius, power=1)
    close(ops.transport(y, x, there, c), u, c, 2 * radius)


@given(curvatures, dimensions, radii, seeds)
def test_geodesic_runs_at_constant_speed_and_arrives(c, n, radius, seed) -> None:
    x, y = ops.expmap0(vectors(seed, 2, n, radius, c, torch.float64), c)
    for t in (0.0, 0.25, 1.0):
        x_t, u_t = ops.geodesic(x, y, torch.tensor(t, dtype=torch.float64), c)
        close(ops.dist(x, x_t, c), t * ops.dist(x, y, c), c, 2 * radius)
        close(ops.inner(x_t, u_t, u_t, c).sqrt(), ops.dist(x, y, c), c, 2 * radius)
        close((1 - t) * u_t * ops.lambda_x(x_t, c), ops.logmap(x_t, y, c) * ops.lambda_x(x_t, c), c, 2 * radius)


@given(curvatures, st.integers(2, 9), radii, seeds)
def test_velocity_is_the_derivative_of_the_point(c, n, radius, seed) -> None:
    x, y = ops.expmap0(vectors(seed, 2, n, min(radius, 2), c, torch.float64), c)
    for time in (0.4, 0.9):
        t = torch.tensor(time, dtype=torch.float64)
        _, tangent = torch.func.jvp(lambda s: ops.geodesic(x, y, s, c)[0], (t,), (torch.ones_like(t),))
        close(ops.geodesic(x, y, t, c)[1], tangent, c, 2 * radius)


@given(curvatures, st.integers(2, 9), radii, seeds)
def test_normal_velocity_is_the_derivative_of_the_logarithm(c, n, radius, seed) -> None:
    x, y, u = ops.expmap0(vectors(seed, 3, n, min(radius, 2), c, torch.float64), c)
    _, tangent = torch.func.jvp(lambda y: ops.logmap(x, y, c), (y,), (u,))
    close(ops.normal_velocity(x, y, u, c), tangent, c, 2 * radius)
    close(ops.normal_velocity(x, x, u, c), u, c, radius)


@given(curvatures, dimensions, radii, dtypes, seeds)
def test_sums_in_normal_coordinates_match_points(c, n, radius, dtype, seed) -> None:
    m, w = vectors(seed, 2, n, radius / 2, c, dtype)
    v = normal.add_normal(m, w, c)
    x = ops.expmap0(m, c)
    close(v, ops.logmap0(ops.expmap(x, ops.from_frame(x, w, c), c), c), c, 2 * radius)
    close(normal.add_normal(-m, v, c), w, c, 2 * radius)


@given(curvatures, dimensions, st.floats(0.1, 4), seeds, st.sampled_from([1e-3, 0.3, 7.0]))
def test_homothety(c, n, radius, seed, s) -> None:
    """Dividing every length by s sends c to c·s²: this carries what is tested at one c to every other."""
    a, b = vectors(seed, 2, n, radius, c, torch.float64)
    k = c * s * s
    x, y, xs, ys = ops.expmap0(a, c), ops.expmap0(b, c), ops.expmap0(a / s, k), ops.expmap0(b / s, k)
    close(xs * s, x, c, radius)
    close(ops.dist(xs, ys, k) * s, ops.dist(x, y, c), c, radius)
    close(ops.logmap(xs, ys, k) * s, ops.logmap(x, y, c), c, radius)
    close(ops.transport(xs, ys, a / s, k) * s, ops.transport(x, y, a, c), c, 2 * radius)
    torch.testing.assert_close(normal.log_volume(a / s, k), normal.log_volume(a, c), rtol=1e-11, atol=1e-12)


@given(curvatures, st.integers(1, 4), st.integers(1, 3), radii, seeds, st.sampled_from([1, -1]))
def test_balls_and_feature_maps_are_many_points(c, n, balls, radius, seed, dim) -> None:
    """Every op on (B, k·n, H, W) equals the op on each ball at each position."""
    manifold = PoincareBall(balls * n, FixedCurvature(c), balls)
    x, y, u = ops.expmap0(vectors(seed, 3, n, radius, c, torch.float64), c)[:, : 2 * balls]
    single = PoincareBall(n, FixedCurvature(c))

    def fold(a: torch.Tensor) -> torch.Tensor:
        return a.reshape(2, 1, balls * n).expand(2, 3, -1).movedim(-1, dim)

    for name, arguments in {
        "from_tangent": (u,), "to_tangent": (x,), "expmap": (x, 0.1 * u), "logmap": (x, y), "transport": (x, y, u),
        "normal_velocity": (x, y, u),
        "to_frame": (x, u), "from_frame": (x, u), "add_normal": (x, u), "gyration": (x, y, u), "mobius_add": (x, y),
    }.items():  # fmt: skip
        whole = getattr(manifold, name)(*map(fold, arguments), dim)
        torch.testing.assert_close(whole, fold(getattr(single, name)(*arguments)), rtol=1e-12, atol=1e-12 / c**0.5)
    for name, arguments in {"sqdist": (x, y), "inner": (x, u, u), "log_volume": (u,)}.items():
        whole = getattr(manifold, name)(*map(fold, arguments), dim)
        parts = getattr(single, name)(*arguments).reshape(2, balls).sum(1)
        torch.testing.assert_close(whole, parts[:, None].expand(2, 3))


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("c", [1e-4, 1.0, 10.0])
def test_log_volume_is_the_jacobian_of_the_chart(n: int, c: float) -> None:
    v = vectors(0, 1, n, 3.0, c, torch.float64)[0]
    jacobian = torch.stack([torch.autograd.functional.jacobian(lambda a: ops.expmap0(a, c), row) for row in v])
    expected = jacobian.det().log() + n * ops.lambda_x(ops.expmap0(v, c), c)[:, 0].log()
    torch.testing.assert_close(normal.log_volume(v, c), expected, rtol=1e-9, atol=1e-10)


@given(curvatures, seeds)
def test_random_points_have_the_scale_that_is_asked_for(c, seed) -> None:
    ball = PoincareBall(4, FixedCurvature(c), balls=2)
    one, two = (
        ball.to_tangent(ball.random((4000, 4), torch.tensor(scale / c**0.5, dtype=torch.float64), generator))
        for scale, generator in ((0.3, torch.Generator().manual_seed(seed)), (0.6, torch.Generator().manual_seed(seed)))
    )
    torch.testing.assert_close(two, 2 * one)
    assert abs(one.square().mean().sqrt() * c**0.5 / 0.3 - 1) < 0.05  # 9 standard errors


@given(curvatures, st.sampled_from([1, -3]), seeds)
def test_geodesics_of_several_balls_are_those_of_each(c, dim, seed) -> None:
    """With a time per sample, which has to skip the axis of the balls, and with one per column, which does not."""
    ball, g = PoincareBall(6, FixedCurvature(c), balls=3), torch.Generator().manual_seed(seed)
    x, y = (ball.random((2, 6, 4, 5), torch.tensor(0.5 / c**0.5, dtype=torch.float64), g, 1) for _ in range(2))
    for shape in ((2, 1, 1, 1), (5,)):
        t = torch.rand(shape, generator=g, dtype=torch.float64)
        whole = ball.geodesic(x, y, t, dim)
        parts = [ops.geodesic(a, b, t, c, dim) for a, b in zip(x.split(2, 1), y.split(2, 1), strict=True)]
        for i in range(2):
            torch.testing.assert_close(whole[i], torch.cat([part[i] for part in parts], 1))


@given(curvatures, seeds)
def test_means_and_distances_of_several_balls_are_those_of_each(c, seed) -> None:
    ball, single = PoincareBall(6, FixedCurvature(c), balls=3), PoincareBall(2, FixedCurvature(c))
    g = torch.Generator().manual_seed(seed)
    v, w = torch.randn(2, 8, 6, generator=g, dtype=torch.float64) / c**0.5
    weights = torch.rand(4, 8, generator=g, dtype=torch.float64) + 0.1
    parts = v.split(2, 1)
    whole = ball.midpoint(v, weights)
    torch.testing.assert_close(whole, torch.cat([single.midpoint(part, weights) for part in parts], 1))
    whole = ball.frechet_mean(v, weights[0])
    torch.testing.assert_close(whole, torch.cat([single.frechet_mean(part, weights[0]) for part in parts], 0))
    x, y = ball.from_tangent(v), ball.from_tangent(w)
    pairs = zip(x.split(2, 1), y.split(2, 1), strict=True)
    torch.testing.assert_close(ball.pairwise_sqdist(x, y), sum(single.pairwise_sqdist(a, b) for a, b in pairs))


@given(curvatures, st.sampled_from([1, -2]), seeds)
def test_projection_and_saturation_count_every_ball(c, dim, seed) -> None:
    ball, g = PoincareBall(6, FixedCurvature(c), balls=3), torch.Generator().manual_seed(seed)
    z = ball.random((2, 6, 4), torch.tensor(0.5 / c**0.5, dtype=torch.float64), g, 1)
    z[1, 2:4, 3] *= 10 / (c**0.5 * z[1, 2:4, 3].norm())  # one ball of 24 outside
    out, share = ball.project(z, dim)
    assert abs(share.item() - 1 / 24) < 1e-6
    parts = [ops.project(part, c, dim)[0] for part in z.split(2, 1)]
    torch.testing.assert_close(out, torch.cat(parts, 1), rtol=0, atol=0)
    assert abs(ball.saturation(out, dim).item() - 1 / 24) < 1e-6
