"""The ball in normal and in hyperboloid coordinates, where radii are not bounded by what ball coordinates can hold.

Legend: `v`, `m` and `w` are normal coordinates (|v| is the distance to the origin), `y` the space-like hyperboloid
coordinates sinh(√c|v|) v/(√c|v|). Axes, `c` and the rules that hold throughout are as in `ops`.
"""

from typing import Any

import torch
from torch import Tensor

from hldm.geometry.analytic import asinhc, cosh_, log_sinhc, sinhc_and_cosh, tanhc
from hldm.geometry.elementary import arsinh_and_root, pullback, sinh, sinh_value
from hldm.geometry.forms import two_forms
from hldm.geometry.ops import flat, promote, sqnorm
from hldm.geometry.shapes import Operand, Scalar, Whole

_NORMAL_RADIUS = {torch.float32: 40.0, torch.float64: 340.0}
# Largest √c|v| that enters cosh² of normal coordinates; their product for two vectors still has a finite square.

_COMPONENT = {torch.float32: 40.0, torch.float64: 300.0}
# Largest √c|f| of a component, whose sinh has a finite square.

SPACELIKE_RADIUS = {torch.float32: 20.0, torch.float64: 150.0}
"""Largest √c|v| whose hyperboloid coordinates are formed."""


def add_normal(m: Operand, w: Operand, c: Scalar, dim: int = -1) -> Whole:
    """Normal coordinates of Φ(m) ⊕ Φ(w): where the geodesic from Φ(m) along the frame vector w is at time 1.

    `add_normal(-m, v)` is the inverse, the frame vector at Φ(m) that leads to Φ(v). With x = Φ(m), y = Φ(w):

        v = 2 arsinh(√q)/√(q(1 + q)) · (C_w (x + y) + q x),   q = c|x + y|² C_m C_w,   C_a = cosh²(√c|a|/2) = 1/g

    which follows from the forms in `ops.mobius_add` and `ops.logmap`. C comes from the normal coordinates, not from g.
    As c → 0, and on a line, it is m + w.
    """
    m, w = promote(m), promote(w)
    if flat(c) or m.shape[dim] == 1:  # a line is not curved
        return m + w
    s_m, s_w = c * sqnorm(m, dim), c * sqnorm(w, dim)
    bound = _NORMAL_RADIUS[m.dtype] ** 2 / 4
    h_m, h_w = 0.5 * tanhc(0.25 * s_m), 0.5 * tanhc(0.25 * s_w)
    cosh2_m = cosh_((0.25 * s_m).clamp(max=bound)).square()
    cosh2_w = cosh_((0.25 * s_w).clamp(max=bound)).square()
    x = m * h_m
    total = x + w * h_w
    q = c * sqnorm(total, dim) * cosh2_m * cosh2_w
    a = 2 * asinhc(q) * (1 + q).rsqrt()
    return total * (a * cosh2_w) + x * (a * q)


def log_volume(v: Operand, c: Scalar, dim: int = -1) -> Tensor:
    """log √det g in normal coordinates: (n − 1) log(sinh(√c|v|)/(√c|v|)), n the size of `dim`, which is summed away.

    This is the ball's volume element in polar coordinates divided by the flat one (Nagano et al. (2019), section 3).
    As c → 0 the result is 0.
    """
    v = promote(v)
    if flat(c):
        return torch.zeros_like(v.sum(dim))
    return (v.shape[dim] - 1) * log_sinhc(c * (v * v).sum(dim))


def spacelike(v: Operand, c: Scalar, dim: int = -1) -> tuple[Whole, Tensor]:
    """Hyperboloid coordinates of a point in normal coordinates: sinh(√c|v|)/(√c|v|) v, and cosh(√c|v|) with the axis.

    √c|v| is clipped to 20 in float32 and 150 in float64, so that products of two of them have a finite square; both
    numbers are far beyond what the number format resolves. As c → 0 they are v and 1.
    """
    v = promote(v)
    if flat(c):
        return v, torch.ones_like(v.sum(dim, keepdim=True))
    clip = SPACELIKE_RADIUS[v.dtype]
    s = c * sqnorm(v, dim)
    shrink = (clip * s.clamp(min=1).rsqrt()).clamp(max=1)
    s = s.clamp(max=clip**2)
    direction, time = sinhc_and_cosh(s)
    return v * (shrink * direction), time


def from_spacelike(y: Operand, c: Scalar, dim: int = -1) -> Whole:
    """Normal coordinates of the point with hyperboloid coordinates y: arsinh(√c|y|)/(√c|y|) y; y as c → 0."""
    y = promote(y)
    return y if flat(c) else y * asinhc(c * sqnorm(y, dim))


def from_components(f: Operand, c: Scalar, dim: int = -1) -> Whole:
    """Normal coordinates of the point whose signed distance to the k-th coordinate hyperplane is f_k.

        y_k = sinh(√c f_k)/√c                                                Shimizu et al. (2021), section 3.2

    √c f_k is clipped to 40 in float32 and 300 in float64. As c → 0 it is f.
    """
    f = promote(f)
    return f if flat(c) else _either_lift(f, c, dim)


def _lift(f: Operand, c: Scalar, dim: int) -> Whole:
    """`from_components` by single operations."""
    root_c, bound = c**0.5, _COMPONENT[f.dtype]
    return from_spacelike(sinh((root_c * f).clamp(-bound, bound)) / root_c, c, dim)


class _Lift(torch.autograd.Function):
    """`_lift` as one node of the graph. Reverse mode, of any order; torch.func does not take it."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, c: float, dim: int) -> Tensor:
        root_c, bound = c**0.5, _COMPONENT[f.dtype]
        y = sinh_value((root_c * f).clamp_(-bound, bound))
        # the floor leaves a direction of length 0 to the origin
        radius = torch.linalg.vector_norm(y, dim=dim, keepdim=True).clamp_(min=1e-15)
        shrink = arsinh_and_root(radius)[0].div_(radius)
        ctx.c, ctx.dim = c, dim
        ctx.save_for_backward(f, y, radius, shrink)
        return y * (shrink / root_c)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        f, y, radius, shrink = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *pullback(lambda f: _lift(f, ctx.c, ctx.dim), (f,), grad), None, None
        inner = (grad * y).sum(ctx.dim, keepdim=True)
        radial = inner * ((1 + radius * radius).rsqrt_() - shrink) / radius.square()
        grad_y = (grad * shrink).addcmul_(y, radial)
        # times cosh √c f = √(1 + y²), where it was not clipped
        grad_y.mul_((y * y).add_(1).sqrt_())
        return grad_y.mul_(f.abs() <= _COMPONENT[f.dtype] / ctx.c**0.5), None, None


def _lift_node(f: Operand, c: Scalar, dim: int) -> Whole:
    """`_lift` with c as a number: a learned c acts through √c f and the unit of length alone."""
    return _Lift.apply(c.sqrt() * f, 1.0, dim) / c.sqrt() if isinstance(c, Tensor) else _Lift.apply(f, c, dim)


_either_lift = two_forms(eager=_lift_node, compiled=_lift)
