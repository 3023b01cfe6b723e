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

import torch
from torch import Tensor

from hldm.geometry.elementary import arsinh, sinh

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


_TANHC_F = tuple(float(a) for a in _TANHC)
_ATANHC_F = tuple(float(a) for a in _ATANHC)
_SINHC_F = tuple(float(a) for a in _SINHC)
_ASINHC_F = tuple(float(a) for a in _ASINHC)
_SPREAD_F = tuple(float(a) for a in _SPREAD)
_LOG_SINHC_F = tuple(float(a) for a in _LOG_SINHC)
_LOG_SINHC_SLOPE_F = tuple(float(a) for a in _LOG_SINHC_SLOPE)


def tanhc(s: Tensor) -> Tensor:
    """tanh(√s)/√s, from 1 at s = 0 down to 0."""
    return _blend(s, _TANHC_F, lambda x: torch.tanh(x) / x)


def atanhc(s: Tensor) -> Tensor:
    """artanh(√s)/√s for 0 ≤ s < 1, from 1 upwards; infinite at 1."""
    return _blend(s, _ATANHC_F, lambda x: torch.atanh(x) / x)


def sinhc(s: Tensor) -> Tensor:
    """sinh(√s)/√s, from 1 upwards; overflows in float32 beyond √s = 88."""
    return _blend(s, _SINHC_F, lambda x: sinh(x) / x)


def asinhc(s: Tensor) -> Tensor:
    """arsinh(√s)/√s, from 1 at s = 0 down to 0."""
    return _blend(s, _ASINHC_F, lambda x: arsinh(x) / x)


def cosh_(s: Tensor) -> Tensor:
    """cosh(√s) = 1 + s/2·sinhc(s/4)², written so that the slope 1/2 at s = 0 is exact."""
    return 1 + 0.5 * s * sinhc(0.25 * s) ** 2


def sinhc_and_cosh(s: Tensor) -> tuple[Tensor, Tensor]:
    """`sinhc(s)` and `cosh_(s)` from one h = sinhc(s/4): h √(1 + s h²/4) and 1 + s h²/2."""
    h = sinhc(0.25 * s)
    half = 0.25 * s * h * h
    return h * (1 + half).sqrt(), 1 + 2 * half


def log_sinhc(s: Tensor) -> Tensor:
    """log(sinh(√s)/√s), from 0 upwards like √s; never overflows."""
    return _blend(s, _LOG_SINHC_F, lambda x: x + torch.log(-torch.expm1(-2 * x) / (2 * x)))


def log_sinhc_slope(s: Tensor) -> Tensor:
    """d log_sinhc / ds = (√s coth √s − 1)/(2s), from 1/6 at s = 0 down to 0."""
    return _blend(s, _LOG_SINHC_SLOPE_F, lambda x: (x / torch.tanh(x) - 1) / (2 * x * x))


def spread(s: Tensor) -> Tensor:
    """(1 − √s/sinh(√s))/s, from 1/6 at s = 0 down to 0."""
    return _blend(s, _SPREAD_F, lambda x: (1 - x / sinh(x)) / (x * x))
