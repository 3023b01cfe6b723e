"""Runge–Kutta methods for dx/dt = u(x, t) on a manifold.

A step moves along one geodesic, and slopes at different points are not comparable, so every stage is first carried back
to the point x where the step starts. Parallel transport is enough for order 2. Normal coordinates around x,
y = exp_x(a), keep the order of any tableau: there the equation is an ordinary one, da/dt = (d exp_x)⁻¹ u
(Munthe-Kaas 1999, with geodesics in place of a Lie group). On flat space both do nothing.

Legend: x (B, C, h, w) in the manifold's own coordinates, `u` a tangent vector at it, t ∈ [0, 1], h the step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from hldm.geometry import Manifold

Velocity = Callable[[Tensor, float], Tensor]
"""(x, t) → tangent vector at x."""

SHORTEST_STEP = 1e-3
"""An adaptive step of this length is taken whatever its error: a network is not smooth on a finer scale."""


@dataclass(frozen=True)
class Tableau:
    """k_i = u(exp_x(h Σ_j a_ij k_j), t + c_i h),   x ← exp_x(h Σ_i b_i k_i).

    Attributes:
        order: the error of a whole integration is O(h^order).
        nodes: c_i, starting with 0.
        stages: a_ij for j < i, one row per stage after the first.
        weights: b_i.
        in_normal_coordinates: whether slopes come back by the inverse of d exp_x, else by parallel transport.
    """

    order: int
    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    in_normal_coordinates: bool = False


EULER = Tableau(1, (0.0,), (), (1.0,))
MIDPOINT = Tableau(2, (0.0, 0.5), ((0.5,),), (0.0, 1.0))
HEUN = Tableau(2, (0.0, 1.0), ((1.0,),), (0.5, 0.5))
RK4 = Tableau(
    4,
    (0.0, 0.5, 0.5, 1.0),
    ((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
    (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    in_normal_coordinates=True,
)
# Bogacki & Shampine (1989): its last stage is the first one of the next step
BOGACKI_SHAMPINE = Tableau(
    3,
    (0.0, 0.5, 0.75),
    ((0.5,), (0.0, 0.75)),
    (2 / 9, 1 / 3, 4 / 9),
    in_normal_coordinates=True,
)
_EMBEDDED = (7 / 24, 1 / 4, 1 / 3, 1 / 8)  # weights of its embedded method of order 2
_ERROR = tuple(b - e for b, e in zip((*BOGACKI_SHAMPINE.weights, 0.0), _EMBEDDED, strict=True))

FIXED_STEP = {"euler": EULER, "midpoint": MIDPOINT, "heun": HEUN, "rk4": RK4}


def advance(
    tableau: Tableau, manifold: Manifold, velocity: Velocity, x: Tensor, t: float, h: float, first: Tensor | None = None
) -> tuple[Tensor, list[Tensor]]:
    """x(t) → x(t + h), and the slopes k_i at x.

    Args:
        first: velocity(x, t) where it is known already.
    """
    carry = manifold.normal_velocity if tableau.in_normal_coordinates else _transport_back(manifold)
    slopes = [velocity(x, t) if first is None else first]
    for node, row in zip(tableau.nodes[1:], tableau.stages, strict=True):
        y = manifold.expmap(x, h * _combine(row, slopes), dim=1)
        slopes.append(carry(x, y, velocity(y, t + node * h), 1))
    return manifold.expmap(x, h * _combine(tableau.weights, slopes), dim=1), slopes


def integrate(tableau: Tableau, manifold: Manifold, velocity: Velocity, x: Tensor, steps: int) -> tuple[Tensor, int]:
    """x(0) → x(1) in equal steps, and the number of evaluations."""
    h = 1 / steps
    for step in range(steps):
        x, _ = advance(tableau, manifold, velocity, x, step * h, h)
    return x, steps * len(tableau.nodes)


def integrate_adaptively(
    manifold: Manifold, velocity: Velocity, x: Tensor, h: float, tolerance: float
) -> tuple[Tensor, int]:
    """x(0) → x(1) by Bogacki–Shampine 3(2), and the number of evaluations.

    The whole batch shares its steps, whose length keeps the estimated error per step of the worst sample (root mean
    square over its coordinates, in the orthonormal frame) at `tolerance`.

    Args:
        h: length of the first step to try.
    """
    t, first, evaluations = 0.0, velocity(x, 0.0), 1
    while t < 1:
        h = min(h, 1 - t)
        y, slopes = advance(BOGACKI_SHAMPINE, manifold, velocity, x, t, h, first)
        ahead = velocity(y, t + h)
        evaluations += 3
        difference = _combine(_ERROR, [*slopes, manifold.normal_velocity(x, y, ahead, dim=1)])
        error = h * manifold.to_frame(x, difference, dim=1).flatten(1).square().mean(1).sqrt().amax().item()
        if error <= tolerance or h <= SHORTEST_STEP:
            # a remainder that is only rounding is not a step
            t = 1.0 if 1 - (t + h) < 1e-9 else t + h
            x, first = y, ahead
        # in this order a NaN shortens the step, so that the loop ends
        h = max(SHORTEST_STEP, h * min(5.0, max(0.2, 0.9 * (max(error, 1e-12) / tolerance) ** (-1 / 3))))
    return x, evaluations


def _combine(weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    """Σ_i weights_i · slopes_i, without the terms of weight 0."""
    first, *rest = (slope if b == 1 else b * slope for b, slope in zip(weights, slopes, strict=True) if b)
    return sum(rest, first)


def _transport_back(manifold: Manifold) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    return lambda x, y, u, dim: manifold.transport(y, x, u, dim)
