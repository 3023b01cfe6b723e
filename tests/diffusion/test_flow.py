"""Riemannian flow matching: its target, its solvers' orders of accuracy, its Euclidean limit."""

from functools import lru_cache

import pytest
import torch

from hldm.diffusion import FlowMatching, FlowSampler
from hldm.errors import UserError
from hldm.geometry import Euclidean, FixedCurvature, PoincareBall, ProductManifold

SHAPE = (8, 4, 2, 2)


def ball(c, channels=4):
    return PoincareBall(channels, FixedCurvature(c))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def latents(dtype=torch.float64, shape=SHAPE):
    return torch.randn(shape, generator=generator(1), dtype=dtype)


def loss(manifold, v, predict, time="uniform"):
    return FlowMatching(time).loss(manifold, predict, v, generator(2))


def test_the_loss_of_the_exact_conditional_velocity_is_zero():
    """With one data point the marginal field is the conditional one: log_x(x1) / (1 − t)."""
    manifold, v1 = ball(0.7), latents()[:1].expand(SHAPE)
    x1 = manifold.from_tangent(v1, dim=1)

    def exact(v, t):
        x = manifold.from_tangent(v, dim=1)
        u = manifold.logmap(x, x1, dim=1) / (1 - t.double().view(-1, 1, 1, 1))
        return manifold.to_frame(x, u, dim=1)

    assert loss(manifold, v1, exact) < 1e-9
    assert loss(manifold, v1, lambda v, t: 1.1 * exact(v, t)) > 1e-3


def test_at_c_zero_the_loss_is_euclidean_flow_matching_bit_for_bit():
    v = latents(torch.float32)
    x0 = torch.randn(SHAPE, generator=(g := generator(2)))
    t = torch.rand(len(v), generator=g)
    x_t = x0 + t.view(-1, 1, 1, 1) * (v - x0)

    def predict(x, t):
        return 0.3 * x + t.view(-1, 1, 1, 1)

    expected = (predict(x_t, t) - (v - x0)).square().mean()
    flat = loss(Euclidean(4), v, predict)
    torch.testing.assert_close(flat, expected, rtol=1e-6, atol=0)
    assert torch.equal(flat, loss(ball(0.0), v, predict))
    empty = PoincareBall(0, FixedCurvature(1.0))
    assert torch.equal(flat, loss(ProductManifold([Euclidean(4), empty]), v, predict))


def test_hybrid_without_flat_channels_is_poincare_bit_for_bit():
    v = latents(torch.float32)
    hybrid = ProductManifold([Euclidean(0), ball(0.5)])
    assert torch.equal(loss(ball(0.5), v, lambda x, t: x), loss(hybrid, v, lambda x, t: x))


def test_the_loss_converges_to_the_euclidean_one_at_rate_c():
    v = latents()
    flat = loss(Euclidean(4), v, lambda x, t: 0.3 * x)
    gaps = [abs(loss(ball(c), v, lambda x, t: 0.3 * x) - flat).item() for c in (1e-3, 1e-5)]
    assert 50 < gaps[0] / gaps[1] < 200


def test_rescaling_latents_with_their_curvature_changes_nothing():
    """(v, c) and (v/s, c·s²) are the same manifold in other units: geodesic points scale by 1/s."""
    s, v = 2.5, latents()
    points = {}
    for scale in (1.0, s):
        manifold = ball(0.7).rescaled(scale)
        x0 = manifold.from_tangent(latents().flip(0) / scale, dim=1)
        x_t, u_t = manifold.geodesic(x0, manifold.from_tangent(v / scale, dim=1), torch.tensor(0.3), dim=1)
        points[scale] = scale * manifold.to_tangent(x_t, dim=1), scale * manifold.to_frame(x_t, u_t, dim=1)
    torch.testing.assert_close(points[1.0], points[s], rtol=1e-9, atol=1e-9)


MANIFOLDS = {"flat": Euclidean(4), "ball": ball(1.0), "product": ProductManifold([Euclidean(2), ball(1.0, 2)])}
FIELD = torch.randn(4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64) / 3


@lru_cache
def solve(method, steps, manifold):
    """Integrate a smooth, time-dependent field from fixed points in float64."""
    x = manifold.from_tangent(latents(shape=(8, 4)) / 2, dim=1)
    h = 1 / steps

    def velocity(x, t):
        v = manifold.to_tangent(x, dim=1)
        w = torch.tanh(v @ FIELD) * torch.cos(torch.tensor(2.0 * t)) + 0.3 * v
        return manifold.from_frame(x, w, dim=1)

    for step in range(steps):
        x = FlowSampler(method, steps).advance(manifold, velocity, x, step * h, h)
    return manifold.to_tangent(x, dim=1)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
@pytest.mark.parametrize("name", ["flat", "ball", "product"])
def test_order_of_accuracy(method, order, name):
    manifold = MANIFOLDS[name]
    exact = solve("midpoint", 256, manifold)
    errors = [(solve(method, steps, manifold) - exact).norm().item() for steps in (16, 32)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.15)


def test_without_transport_midpoint_would_lose_its_order():
    """The control of the test above: slopes at different points are not comparable."""

    class Untransported(PoincareBall):
        def transport(self, x, y, u, dim=-1):
            return u

    manifold = Untransported(4, FixedCurvature(1.0))
    exact = solve("midpoint", 256, MANIFOLDS["ball"])
    errors = [(solve("midpoint", steps, manifold) - exact).norm().item() for steps in (16, 32)]
    assert errors[0] / errors[1] < 3


def test_samples_are_the_same_on_a_ball_of_curvature_zero_and_on_flat_space():
    def predict(v, t):
        return 0.5 * v - t.view(-1, 1, 1, 1)

    sampler = FlowSampler("midpoint", 4)
    flat, zero = (
        sampler.sample(FlowMatching("uniform"), manifold, predict, SHAPE, generator(3))
        for manifold in (Euclidean(4), ball(0.0))
    )
    assert torch.equal(flat, zero)
    curved = sampler.sample(FlowMatching("uniform"), ball(1.0), predict, SHAPE, generator(3))
    assert not torch.allclose(flat, curved, atol=1e-2)


def test_the_time_distribution_is_the_one_asked_for():
    seen = {}
    for time in ("uniform", "logit_normal"):

        def predict(v, t, time=time):
            seen[time] = t
            return v

        FlowMatching(time).loss(Euclidean(1), predict, torch.zeros(20000, 1, 1, 1), generator())
    assert seen["uniform"].std() == pytest.approx(12**-0.5, rel=0.02)
    assert torch.logit(seen["logit_normal"]).std() == pytest.approx(1, rel=0.02)


def test_unknown_choices_are_named():
    with pytest.raises(UserError, match="euler, midpoint or heun"):
        FlowSampler("rk45", 3)
    with pytest.raises(UserError, match="uniform or logit_normal"):
        FlowMatching("cosine")


@pytest.mark.parametrize(("method", "evaluations"), [("euler", 6), ("midpoint", 12), ("heun", 12)])
def test_network_evaluations_are_counted(method, evaluations):
    calls = []
    sampler = FlowSampler(method, 6)
    sampler.sample(FlowMatching("uniform"), Euclidean(4), lambda v, t: calls.append(t) or v, SHAPE, generator())
    assert len(calls) == sampler.evaluations == evaluations
