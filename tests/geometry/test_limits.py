"""c = 0 is Euclidean space bit for bit in normal coordinates; c → 0 arrives there at the rate O(c)."""

import pytest
import torch

from hldm.geometry import (
    Euclidean,
    FixedCurvature,
    LearnableCurvature,
    Manifold,
    PoincareBall,
    ProductManifold,
    normal,
    ops,
)

C, N = 6, 50


def in_normal_coordinates(
    manifold: Manifold, a: torch.Tensor, b: torch.Tensor, d: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Every operation with its points and vectors read in normal coordinates and frames; a, b, d are (N, C)."""
    x, y = manifold.from_tangent(a), manifold.from_tangent(b)
    u = manifold.from_frame(x, d)
    x_t, u_t = manifold.geodesic(x, y, torch.linspace(0, 1, len(a), dtype=a.dtype)[:, None])
    weights = torch.arange(1.0, 2 * N + 1, dtype=a.dtype).reshape(2, N)
    return {
        "chart": manifold.to_tangent(x),
        "add_normal": manifold.add_normal(a, b),
        "expmap": manifold.to_tangent(manifold.expmap(x, u)),
        "logmap": manifold.to_frame(x, manifold.logmap(x, y)),
        "transport": manifold.to_frame(y, manifold.transport(x, y, u)),
        "normal_velocity": manifold.to_frame(x, manifold.normal_velocity(x, y, manifold.from_frame(y, d))),
        "inner": manifold.inner(x, u, manifold.logmap(x, y)),
        "dist": manifold.dist(x, y),
        "sqdist": manifold.sqdist(x, y),
        "pairwise": manifold.pairwise_sqdist(x, y),
        "x_t": manifold.to_tangent(x_t),
        "u_t": manifold.to_frame(x_t, u_t),
        "log_volume": manifold.log_volume(a),
        "midpoint": manifold.midpoint(a, weights),
        "frechet_mean": manifold.frechet_mean(a, weights[0]),
        "random": manifold.to_tangent(
            manifold.random((N, C), torch.tensor(0.7, dtype=a.dtype), torch.Generator().manual_seed(1))
        ),
    }


@pytest.fixture(params=[torch.float32, torch.float64])
def vectors(request):
    return torch.randn(3, N, C, generator=torch.Generator().manual_seed(0)).to(request.param)


@pytest.mark.parametrize(
    "manifold",
    [
        PoincareBall(C, FixedCurvature(0.0)),
        PoincareBall(C, FixedCurvature(0)),
        ProductManifold([Euclidean(C), PoincareBall(0, FixedCurvature(1.0))]),
        ProductManifold([Euclidean(0), PoincareBall(C, FixedCurvature(0.0))]),
    ],
)
def test_zero_curvature_is_bit_identical_to_euclidean(manifold: Manifold, vectors) -> None:
    flat = in_normal_coordinates(Euclidean(C), *vectors)
    for name, value in in_normal_coordinates(manifold, *vectors).items():
        assert value.equal(flat[name]), name


def test_a_hybrid_without_euclidean_channels_is_the_ball_bit_for_bit(vectors) -> None:
    ball = PoincareBall(C, FixedCurvature(0.7), balls=2)
    alone = in_normal_coordinates(ball, *vectors)
    for name, value in in_normal_coordinates(ProductManifold([Euclidean(0), ball]), *vectors).items():
        assert value.equal(alone[name]), name


@pytest.mark.parametrize("kind", [FixedCurvature, LearnableCurvature])
@pytest.mark.parametrize("balls", [1, 2])
def test_rate_of_convergence_is_c(kind, balls: int) -> None:
    vectors = torch.randn(3, N, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flat = in_normal_coordinates(Euclidean(C), *vectors)
    errors = {}
    for c in (1e-4, 1e-6):
        curved = in_normal_coordinates(PoincareBall(C, kind(c), balls).double(), *vectors)
        errors[c] = {name: (curved[name] - flat[name]).abs().max().item() for name in flat}
    for name in flat.keys() - {"chart", "random"}:
        assert 1e-7 < errors[1e-4][name] < 0.2, name
        ratio = errors[1e-4][name] / errors[1e-6][name]
        assert 90 < ratio < 110, f"{name}: error falls by {ratio} where c falls by 100"


def test_pure_functions_at_zero_curvature() -> None:
    """The flat branches that no manifold method shows: sums and rotations of points, hyperboloid coordinates."""
    x, y, u = torch.randn(3, 20, 4, generator=torch.Generator().manual_seed(0))
    assert ops.mobius_add(x, y, 0.0).equal(x + y)
    assert ops.gyration(x, y, u, 0.0).equal(u)
    space, time = normal.spacelike(x, 0.0)
    assert space.equal(x)
    assert time.equal(torch.ones(20, 1))
    assert normal.from_spacelike(x, 0.0).equal(x)
    out, share = ops.project(x, 0.0)
    assert out.equal(x)
    assert share == 0


def test_a_tensor_curvature_passes_through_zero_with_its_gradient() -> None:
    a, b = torch.randn(2, 20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def f(c: torch.Tensor) -> torch.Tensor:
        x, y = ops.expmap0(a, c), ops.expmap0(b, c)
        parts = [x, ops.logmap0(x, c), ops.mobius_add(x, y, c), ops.expmap(x, y, c), ops.logmap(x, y, c)]
        parts += [
            ops.transport(x, y, a, c),
            ops.dist(x, y, c)[:, None],
            normal.add_normal(a, b, c),
            normal.log_volume(a, c)[:, None],
        ]
        return torch.cat([p.flatten() for p in parts])

    zero = torch.zeros((), dtype=torch.float64)
    value, slope = torch.func.jvp(f, (zero,), (torch.ones_like(zero),))
    h = 1e-6
    torch.testing.assert_close(f(zero + h), value + h * slope, rtol=0, atol=1e-8)
    torch.testing.assert_close(
        (f(zero + 2 * h) - value) / (2 * h) * -1 + 2 * (f(zero + h) - value) / h, slope, rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(value, f(torch.tensor(1e-30, dtype=torch.float64)))
