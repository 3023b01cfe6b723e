"""Runge–Kutta on manifolds: measured orders of accuracy in float64, and steps that adapt to a tolerance."""

import dataclasses
from functools import lru_cache

import pytest
import torch

from hldm.diffusion.solvers import BOGACKI_SHAMPINE, FIXED_STEP, HEUN, RK4, integrate, integrate_adaptively
from hldm.geometry import Euclidean, FixedCurvature, PoincareBall, ProductManifold

MANIFOLDS = {
    "flat": Euclidean(4),
    "ball": PoincareBall(4, FixedCurvature(1.0)),
    "balls": PoincareBall(4, FixedCurvature(2.0), balls=2),
    "product": ProductManifold([Euclidean(2), PoincareBall(2, FixedCurvature(1.0))]),
}
TABLEAUS = {**FIXED_STEP, "bogacki_shampine": BOGACKI_SHAMPINE}
FIELD = torch.randn(4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64) / 3


def field(manifold):
    """A smooth field that depends on time and does not point along geodesics."""

    def velocity(x, t):
        v = manifold.to_tangent(x, dim=1)
        w = torch.tanh(v @ FIELD) * torch.cos(torch.tensor(2.0 * t, dtype=torch.float64)) + 0.3 * v
        return manifold.from_frame(x, w, dim=1)

    return velocity


def start(manifold):
    v = torch.randn(8, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 2
    return manifold.from_tangent(v, dim=1)


@lru_cache
def exact(name):
    manifold = MANIFOLDS[name]
    return integrate(RK4, manifold, field(manifold), start(manifold), 256)[0]


def error(name, end):
    return MANIFOLDS[name].dist(end, exact(name), dim=1).norm().item()


def errors(name, tableau, manifold=None):
    manifold = manifold or MANIFOLDS[name]
    return [error(name, integrate(tableau, manifold, field(manifold), start(manifold), n)[0]) for n in (16, 32)]


@pytest.mark.parametrize("method", TABLEAUS)
@pytest.mark.parametrize("name", MANIFOLDS)
def test_order_of_accuracy(method, name):
    tableau = TABLEAUS[method]
    coarse, fine = errors(name, tableau)
    assert coarse / fine == pytest.approx(2**tableau.order, rel=0.15)


def test_transport_alone_would_cost_runge_kutta_an_order():
    coarse, fine = errors("ball", dataclasses.replace(RK4, in_normal_coordinates=False))
    assert coarse / fine == pytest.approx(2**3, rel=0.15)


def test_without_transport_heun_would_lose_its_order():
    """The control of the tests above: slopes at different points are not comparable."""

    class Untransported(PoincareBall):
        def transport(self, x, y, u, dim=-1):
            return u

    coarse, fine = errors("ball", HEUN, Untransported(4, FixedCurvature(1.0)))
    assert coarse / fine < 3


@pytest.mark.parametrize("name", MANIFOLDS)
def test_adaptive_steps_follow_the_tolerance_and_count_their_evaluations(name):
    manifold, counts = MANIFOLDS[name], []
    for tolerance in (1e-3, 1e-6):
        calls = []

        def velocity(x, t, calls=calls):
            calls.append(t)
            return field(manifold)(x, t)

        end, evaluations = integrate_adaptively(manifold, velocity, start(manifold), 0.25, tolerance)
        # per step and coordinate: the sum over a few steps and the eight samples is a few times the tolerance
        assert error(name, end) < 5 * tolerance
        assert evaluations == len(calls)
        assert max(calls) == 1
        counts.append(evaluations)
    assert counts[0] < 30 < counts[1] < 300


def test_adaptive_steps_shorten_where_the_field_is_fast():
    manifold, times = Euclidean(1), []

    def velocity(x, t):
        times.append(t)
        return torch.full_like(x, 1 / (0.01 + (t - 0.7) ** 2))  # ∫ is an arctangent

    end, _ = integrate_adaptively(manifold, velocity, torch.zeros(1, 1, dtype=torch.float64), 0.5, 1e-4)
    expected = 10 * (torch.atan(torch.tensor(3.0)) + torch.atan(torch.tensor(7.0))).item()
    assert end.item() == pytest.approx(expected, rel=1e-4)
    assert sum(0.6 < t < 0.8 for t in times) > len(times) / 4


def test_an_adaptive_integration_ends_even_on_nonsense():
    end, evaluations = integrate_adaptively(
        Euclidean(1), lambda x, t: torch.full_like(x, torch.nan), torch.zeros(1, 1), 0.25, 1e-3
    )
    assert end.isnan().all()
    assert evaluations < 4000
