"""Functions of s = c·r² that are analytic at s = 0, so that values and gradients pass through c → 0 and r → 0.

Every hyperbolic formula here is written in terms of these, never in terms of √c or |v| alone: √ has no gradient at 0,
and 0/0 has no value. Below `SERIES_BELOW` a power series is used, above it the closed form; both branches are kept
finite, because the gradient of `torch.where` multiplies the branch that was not taken by zero, and 0·inf is NaN.

Legend: s ≥ 0 has any shape; every function returns the same shape and dtype. With x = √s:

    tanhc  = tanh(x)/x      atanhc = artanh(x)/x     sinhc     = sinh(x)/x
    cosh_  = cosh(x)        asinhc = arsinh(x)/x     log_sinhc = log(sinh(x)/x)

and spread = (1 − x/sinh(x))/x², by how much geodesics from one point spread.
"""

from collections.abc import Callable
from fractions import Fraction
from math import factorial
from typing import Any

import torch
from torch import Tensor

from hldm.geometry.elementary import arsinh, sinh
from hldm.geometry.forms import two_forms
from hldm.geometry.shapes import Operand, Whole

SERIES_BELOW = 0.02
# The slope of a closed form loses eps/s by cancellation; at s = 0.02 that is 50 eps.


def _quotient(numerator: list[Fraction], denominator: list[Fraction]) -> list[Fraction]:
    """Coefficients of a quotient of two power series whose denominator starts with 1."""
    quotient: list[Fraction] = []
    for k, a in enumerate(numerator):
        quotient.append(a - sum((quotient[j] * denominator[k - j] for j in range(k)), Fraction(0)))
    return quotient


_TERMS = 10
_SINHC = [Fraction(1, factorial(2 * k + 1)) for k in range(_TERMS + 1)]
_COSH = [Fraction(1, factorial(2 * k)) for k in range(_TERMS + 1)]
_ASINHC = [Fraction((-1) ** k * factorial(2 * k), 4**k * factorial(k) ** 2 * (2 * k + 1)) for k in range(_TERMS)]
_ATANHC = [Fraction(1, 2 * k + 1) for k in range(_TERMS)]
_TANHC = _quotient(_SINHC, _COSH)[:_TERMS]
# d log sinhc / ds = sinhc'(s) / sinhc(s), integrated term by term.
_LOG_SINHC_SLOPE = _quotient([(k + 1) * _SINHC[k + 1] for k in range(_TERMS)], _SINHC)
# 1 − 1/sinhc = (sinhc − 1)/sinhc
_SPREAD = _quotient(_SINHC[1:], _SINHC)
_LOG_SINHC = [Fraction(0)] + [a / (k + 1) for k, a in enumerate(_LOG_SINHC_SLOPE)]


def _blend(s: Tensor, coefficients: tuple[float, ...], closed_form: Callable[[Tensor], Tensor]) -> Tensor:
    """The series below `SERIES_BELOW`, the closed form of x = √s above it."""
    small = s < SERIES_BELOW
    inner = s.clamp(max=SERIES_BELOW)
    # 0.02^k times the k-th coefficient: four terms reach 2e-8, ten reach 1e-17.
    used = coefficients[:4] if s.dtype == torch.float32 else coefficients
    series = torch.full_like(s, used[-1])
    for a in reversed(used[:-1]):
        series = series * inner + a
    return torch.where(small, series, closed_form(s.clamp(min=SERIES_BELOW).sqrt()))


def _analytic(
    series: list[Fraction],
    closed_form: Callable[[Tensor], Tensor],
    closed_slope: Callable[[Tensor, Tensor], Tensor],
    *,
    cancels: bool = False,
) -> Callable[[Tensor], Tensor]:
    """A function y of s with its derivative, eager one node of the graph: a third of the single operations' time.

    Args:
        series: coefficients of the power series in s.
        closed_form: y of x = √s > 0.
        closed_slope: dy/ds of s and y.
        cancels: whether the closed form loses accuracy for small x, so that y needs the series too.
    """
    values = tuple(float(a) for a in series)
    slopes = tuple(float(k * a) for k, a in enumerate(series))[1:]

    def slope(s: Tensor, y: Tensor) -> Tensor:
        return _blend(s, slopes, lambda x: closed_slope(x * x, y))

    class Analytic(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(s: Tensor) -> Tensor:
            if cancels:
                return _blend(s, values, closed_form)
            return closed_form(s.clamp(min=torch.finfo(s.dtype).tiny).sqrt())

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            ctx.save_for_backward(*inputs, output)
            ctx.save_for_forward(*inputs, output)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad * slope(*ctx.saved_tensors)

        @staticmethod
        def jvp(ctx: Any, tangent: Tensor) -> Tensor:
            return tangent * slope(*ctx.saved_tensors)

    return two_forms(eager=Analytic.apply, compiled=lambda s: _blend(s, values, closed_form))


# torch.compile has no vectorised artanh, but a logarithm; eager, torch's own is as quick
_atanh: Callable[[Tensor], Tensor] = two_forms(eager=torch.atanh, compiled=lambda x: 0.5 * torch.log1p(2 * x / (1 - x)))


def _x_coth_x(s: Tensor) -> Tensor:
    return s.sqrt() / torch.tanh(s.sqrt())


_tanhc = _analytic(_TANHC, lambda x: torch.tanh(x) / x, lambda s, y: (1 - s * y * y - y) / (2 * s))
_atanhc = _analytic(_ATANHC, lambda x: _atanh(x) / x, lambda s, y: (1 / (1 - s) - y) / (2 * s))
# cosh x = √(1 + s y²), written so that y² does not overflow
_sinhc = _analytic(_SINHC, lambda x: sinh(x) / x, lambda s, y: y * ((s + y**-2).sqrt() - 1) / (2 * s))
_asinhc = _analytic(_ASINHC, lambda x: arsinh(x) / x, lambda s, y: ((1 + s).rsqrt() - y) / (2 * s))
_log_sinhc = _analytic(
    _LOG_SINHC,
    lambda x: x + torch.log(-torch.expm1(-2 * x) / (2 * x)),
    lambda s, y: (_x_coth_x(s) - 1) / (2 * s),
    cancels=True,
)
_log_sinhc_slope = _analytic(
    _LOG_SINHC_SLOPE,
    lambda x: (_x_coth_x(x * x) - 1) / (2 * x * x),
    lambda s, y: (_x_coth_x(s) - s / sinh(s.sqrt()).square() - 4 * s * y) / (4 * s * s),
    cancels=True,
)
_spread = _analytic(
    _SPREAD,
    lambda x: (1 - x / sinh(x)) / (x * x),
    lambda s, y: ((1 - s * y) * (_x_coth_x(s) - 1) - 2 * s * y) / (2 * s * s),
    cancels=True,
)


def tanhc(s: Operand) -> Whole:
    """tanh(√s)/√s, from 1 at s = 0 down to 0."""
    return _tanhc(s)


def atanhc(s: Operand) -> Whole:
    """artanh(√s)/√s for 0 ≤ s < 1, from 1 upwards; infinite at 1."""
    return _atanhc(s)


def sinhc(s: Operand) -> Whole:
    """sinh(√s)/√s, from 1 upwards; overflows in float32 beyond √s = 88."""
    return _sinhc(s)


def asinhc(s: Operand) -> Whole:
    """arsinh(√s)/√s, from 1 at s = 0 down to 0."""
    return _asinhc(s)


def cosh_(s: Operand) -> Whole:
    """cosh(√s) = 1 + s/2·sinhc(s/4)², written so that the slope 1/2 at s = 0 is exact."""
    return 1 + 0.5 * s * sinhc(0.25 * s) ** 2


def sinhc_and_cosh(s: Operand) -> tuple[Whole, Whole]:
    """`sinhc(s)` and `cosh_(s)` from one h = sinhc(s/4): h √(1 + s h²/4) and 1 + s h²/2."""
    h = sinhc(0.25 * s)
    half = 0.25 * s * h * h
    return h * (1 + half).sqrt(), 1 + 2 * half


def log_sinhc(s: Operand) -> Whole:
    """log(sinh(√s)/√s), from 0 upwards like √s; never overflows."""
    return _log_sinhc(s)


def log_sinhc_slope(s: Operand) -> Whole:
    """d log_sinhc / ds = (√s coth √s − 1)/(2s), from 1/6 at s = 0 down to 0."""
    return _log_sinhc_slope(s)


def spread(s: Operand) -> Whole:
    """(1 − √s/sinh(√s))/s, from 1/6 at s = 0 down to 0."""
    return _spread(s)
