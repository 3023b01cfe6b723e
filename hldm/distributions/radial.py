"""The radial law of the Riemannian normal, by log-space quadrature in float64.

    density of the radius   ∝ exp(−r²/2σ²) (sinh(√c r)/√c)^{n−1},   r ≥ 0

In units t = r/σ it depends on q = c σ² and n alone:  f(t) ∝ exp(h(t)),  h = −t²/2 + (n − 1)(log t + S(√q t)), with
S(x) = log(sinh x/x). h is concave with h'' ≤ −1, so all mass lies within a fixed window around the mode, for every n
and q; 16 panels of 8 Gauss–Legendre nodes there give 14 digits. Said et al. (2014) and Mathieu et al. (2019) write
the same integral as an alternating sum of error functions, which cancels to nothing for small q.

Legend: `q` has any shape (*B); panels and nodes are appended as the last axes (*B, P, J).
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor
from torch.autograd.function import once_differentiable

from hldm.geometry.analytic import log_sinhc, log_sinhc_slope
from hldm.geometry.forms import compiling

_WINDOW = 9.0  # exp(−9²/2) = 2.6e-18
_PANELS, _NODES = 16, 8
_NEWTON_STEPS = 7
_X, _W = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(_NODES))


class Integrals(NamedTuple):
    """Integrals over the radial law, and their derivatives to q; each (*B)."""

    log_total: Float64[Tensor, "*B"]
    """log ∫ exp(h(t)) dt."""
    log_total_slope: Float64[Tensor, "*B"]
    moment: Float64[Tensor, "*B"]
    """E[t²]."""
    moment_slope: Float64[Tensor, "*B"]


class _WithSlope(torch.autograd.Function):
    """A value whose derivative to q is known: autograd need not walk through the quadrature. First order only."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        ctx.q_shape = q.shape
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return (grad * ctx.saved_tensors[0]).sum_to_size(ctx.q_shape), None, None


class RadialLaw:
    """The law of t = r/σ for every element of q at once; its integrals are tabulated on first use.

    Args:
        q: (*B) c σ² ≥ 0, float64. Results are differentiable in it (once).
        n: dimension of the ball, ≥ 1.

    As q → 0 this is the χ law of n degrees of freedom.
    """

    def __init__(self, q: Float64[Tensor, "*B"], n: int) -> None:
        self.q, self.n = q, n
        self._tables: Tables | None = None
        self._found: Integrals | None = None

    def tables(self) -> "Tables":
        """The quadrature, made once."""
        if self._tables is None:
            with torch.no_grad():
                self._tables = Tables(self.q.detach(), self.n)
        return self._tables

    def log_integral(self) -> Float64[Tensor, "*B"]:
        """log ∫ exp(h(t)) dt, (*B); log(2^{n/2 − 1} Γ(n/2)) as q → 0."""
        found = self._integrals()
        return _WithSlope.apply(self.q, found.log_total, found.log_total_slope)

    def second_moment(self) -> Float64[Tensor, "*B"]:
        """E[t²], (*B); n as q → 0."""
        found = self._integrals()
        return _WithSlope.apply(self.q, found.moment, found.moment_slope)

    def _integrals(self) -> Integrals:
        if self._found is None and compiling():
            self._found = Integrals(*_integrals_apart(self.q.detach(), self.n))
        elif self._found is None:
            with torch.no_grad():
                self._found = self.tables().integrals()
        return self._found

    def quantile(self, u: Float64[Tensor, "*SB"]) -> Float64[Tensor, "*SB"]:
        """The t with ∫₀ᵗ f = u; differentiable in q by dt/dq = −(∂/∂q ∫₀ᵗ f)/f(t), not in u.

        Args:
            u: (*S, *B) float64 in (0, 1).

        Returns:
            (*S, *B) float64.
        """
        if compiling():
            t, slope, *found = _invert_apart(self.q.detach(), self.n, u)
            self._found = Integrals(*found)
        else:
            with torch.no_grad():
                t, slope = self.tables().invert(u)
        return _WithSlope.apply(self.q, t, slope)


class Tables:
    """The quadrature of a radial law: numbers without gradients.

    Args:
        q: (*B) c σ² ≥ 0, float64.
        n: dimension of the ball, ≥ 1.
    """

    def __init__(self, q: Float64[Tensor, "*B"], n: int) -> None:
        self.q, self.n = q, n
        self.mode = self._mode()
        self.low = (self.mode - _WINDOW).clamp(min=0)
        self.width = (self.mode + _WINDOW - self.low) / _PANELS
        edges = self.low.unsqueeze(-1) + self.width.unsqueeze(-1) * torch.arange(_PANELS, device=q.device)
        nodes, weights = _nodes(edges, self.width.unsqueeze(-1).expand_as(edges))
        mass = weights * self.density(nodes, 2)
        self.total = mass.sum((-2, -1))
        # ∂h/∂q; its mean is ∂ log I/∂q, and it is subtracted where f is normalised
        tilt = self._tilt(nodes, 2)
        self.mean_tilt = (mass * tilt).sum((-2, -1)) / self.total
        tilted = mass * (tilt - self.mean_tilt[..., None, None])
        square = nodes.square()
        self.moment = (mass * square).sum((-2, -1)) / self.total
        # centred, because in high dimension t² is large against its standard deviation
        self.moment_slope = (tilted * (square - self.moment[..., None, None])).sum((-2, -1)) / self.total
        self._panel_mass = mass.sum(-1)
        self._below = self._panel_mass.cumsum(-1) - self._panel_mass
        panel_tilt = tilted.sum(-1)
        self._tilt_below = panel_tilt.cumsum(-1) - panel_tilt

    def _mode(self) -> Tensor:
        """Solves t = (n − 1)√q coth(√q t).

        It is at least √(n−1) and (n−1)√q, and Newton's method from there climbs monotonically, because
        t − (n − 1)√q coth(√q t) is increasing and concave.
        """
        n, root = self.n, self.q.sqrt()
        t = torch.clamp((n - 1) * root, min=math.sqrt(n - 1))
        for _ in range(6 if n > 1 else 0):
            x = (root * t).clamp(1e-4, 300)
            x_coth, x_csch2 = x / torch.tanh(x), (x / torch.sinh(x)).square()
            t = t - (t * t - (n - 1) * torch.maximum(x_coth, root * t)) * t / (t * t + (n - 1) * x_csch2)
        return t

    def density(self, t: Tensor, axes: int = 0) -> Tensor:
        """exp(h(t) − h(mode)), without the cancellation of two large numbers; t has `axes` axes more behind (*B)."""
        q, mode = _widen(self.q, axes), _widen(self.mode, axes)
        d = t - mode
        h = -0.5 * d * (t + mode)
        if self.n > 1:
            # log(sinh √q t / sinh √q mode); below q = 1e-24 that is log(t / mode) to all digits
            x = 2 * q.clamp(min=1e-24).sqrt()
            h = h + (self.n - 1) * (0.5 * x * d + torch.log(torch.expm1(-x * t) / torch.expm1(-x * mode)))
        return h.exp()

    def _tilt(self, t: Tensor, axes: int) -> Tensor:
        """∂h/∂q = (n − 1) t² S'."""
        square = t.square()
        return (self.n - 1) * square * log_sinhc_slope(_widen(self.q, axes) * square)

    def integrals(self) -> Integrals:
        """The integrals over the law: normaliser, second moment, and their derivatives to q."""
        peak = -0.5 * self.mode.square()
        if self.n > 1:
            peak = peak + (self.n - 1) * (self.mode.log() + log_sinhc(self.q * self.mode.square()))
        return Integrals(self.total.log() + peak, self.mean_tilt, self.moment, self.moment_slope)

    def invert(self, u: Float64[Tensor, "*SB"]) -> tuple[Float64[Tensor, "*SB"], Float64[Tensor, "*SB"]]:
        """The quantiles of u, (*S, *B), and their derivatives to q."""
        n, target = self.n, u * self.total
        index = ((target.unsqueeze(-1) >= self._below).sum(-1, keepdim=True) - 1).clamp(min=0)

        def at(values: Tensor) -> Tensor:
            """The value of each sample's panel."""
            return values.expand(*index.shape[:-1], _PANELS).gather(-1, index).squeeze(-1)

        rest, share = target - at(self._below), at(self._panel_mass).clamp(min=1e-300)
        share = (rest / share).clamp(1e-300, 1)
        low = self.low + self.width * index.squeeze(-1)
        # First guess: log f linear across the panel, or f ∝ tⁿ⁻¹ where the window starts at the origin.
        edge = 1e-15 * self.width
        ends = self.density(low + edge).clamp(min=1e-300), self.density(low + self.width).clamp(min=1e-300)
        kappa = (ends[1] / ends[0]).log()
        kappa = torch.where(kappa.abs() < 1e-3, 1e-3, kappa)
        x = torch.where(low > 0, torch.log1p(share * torch.expm1(kappa)) / kappa, share ** (1 / n))
        x = self.width * x.clamp(1e-15, 1)
        # Newton's method on the panel's own quadrature, kept inside the panel.
        for _ in range(_NEWTON_STEPS):
            part, weights = _nodes(low, x)
            error = (weights * self.density(part, 1)).sum(-1) - rest
            x = torch.minimum((x - error / self.density(low + x).clamp(min=1e-300)).clamp(min=edge), self.width)
        part, weights = _nodes(low, x)
        tilted = weights * self.density(part, 1) * (self._tilt(part, 1) - self.mean_tilt.unsqueeze(-1))
        t = low + x
        return t, -(at(self._tilt_below) + tilted.sum(-1)) / self.density(t).clamp(min=1e-300)


def _widen(a: Tensor, axes: int) -> Tensor:
    return a[(...,) + (None,) * axes]


def _nodes(
    low: Float64[Tensor, "*#B"], width: Float64[Tensor, "*#B"]
) -> tuple[Float64[Tensor, "*B J"], Float64[Tensor, "*B J"]]:
    """Gauss–Legendre nodes and weights on [low, low + width]; a node axis is appended."""
    half = 0.5 * width.unsqueeze(-1)
    return low.unsqueeze(-1) + half * (1 + _X.to(low.device)), half * _W.to(low.device)


# Within a larger compiled graph, Newton's steps take the compiler more than ten minutes. So while compiling, the
# quadrature is two operations of its own, opaque to the graph around them, which are compiled by themselves.
@functools.cache
def _compiled(method: Callable[..., Any]) -> Callable[..., Any]:
    # sums over the eight nodes, written out, make what compiles grow eightfold with every step
    return torch.compile(method, options={"unroll_reductions_threshold": 4})


def _integrals(q: Tensor, n: int) -> tuple[Tensor, ...]:
    return tuple(Tables(q, n).integrals())


def _quantile_and_integrals(q: Tensor, n: int, u: Tensor) -> tuple[Tensor, ...]:
    tables = Tables(q, n)
    return *tables.invert(u), *tables.integrals()


@torch.library.custom_op("hldm::radial_integrals", mutates_args=())
def _integrals_apart(q: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    log_total, log_total_slope, moment, moment_slope = _compiled(_integrals)(q, n)
    return log_total, log_total_slope, moment, moment_slope


@_integrals_apart.register_fake
def _integrals_shapes(q: Tensor, n: int) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(q) for _ in range(4))


@torch.library.custom_op("hldm::radial_quantile", mutates_args=())
def _invert_apart(q: Tensor, n: int, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    t, slope, log_total, log_total_slope, moment, moment_slope = _compiled(_quantile_and_integrals)(q, n, u)
    return t, slope, log_total, log_total_slope, moment, moment_slope


@_invert_apart.register_fake
def _invert_shapes(q: Tensor, n: int, u: Tensor) -> tuple[Tensor, ...]:
    shape = torch.broadcast_shapes(q.shape, u.shape)
    return *(q.new_empty(shape) for _ in range(2)), *(torch.empty_like(q) for _ in range(4))
