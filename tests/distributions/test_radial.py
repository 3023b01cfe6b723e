"""The radial law against mpmath, against closed forms, and its gradients, from n = 1 to 512."""

import math
from collections.abc import Iterator

import mpmath as mp
import pytest
import torch

from hldm.distributions.radial import RadialLaw, _nodes

F64 = torch.float64
# σ from 1e-2 to 10 and c from 1e-6 to 10 span these q = cσ²
SPREADS = [1e-10, 1e-3, 1.0, 1000.0]
DIMENSIONS = [1, 2, 10, 64, 512]


@pytest.fixture(autouse=True)
def twenty_five_digits() -> Iterator[None]:
    with mp.workdps(25):
        yield


def law(q: float, n: int, requires_grad: bool = False) -> RadialLaw:
    return RadialLaw(torch.tensor(q, dtype=F64, requires_grad=requires_grad), n)


class Exact:
    """Both integrals at 25 digits, by tanh-sinh quadrature on another window."""

    def __init__(self, q: float, n: int) -> None:
        self.root, self.n = mp.sqrt(mp.mpf(q)), n
        top = max(mp.sqrt(n), (n - 1) * self.root)
        for _ in range(200):  # bisection-free fixed point: t = (n − 1)√q coth(√q t), averaged
            top = (top + (n - 1) * self.root * mp.coth(self.root * top)) / 2 if n > 1 else mp.mpf(0)
        self.top, self.height = top, mp.mpf(0)
        self.height = self.log_f(top) if n > 1 else mp.mpf(0)
        low = max(mp.mpf(0), top - 10)
        self.ends = [low + (top + 10 - low) * i / 8 for i in range(9)]

    def log_f(self, t: mp.mpf) -> mp.mpf:
        power = (self.n - 1) * mp.log(mp.sinh(self.root * t) / self.root) if self.n > 1 else 0
        return -t * t / 2 + power - self.height

    def integral(self, g=lambda t: 1, to: float | None = None) -> mp.mpf:
        ends = self.ends if to is None else [e for e in self.ends if e < to] + [mp.mpf(to)]
        return mp.quad(lambda t: g(t) * mp.exp(self.log_f(t)), ends, maxdegree=5) if len(ends) > 1 else mp.mpf(0)

    def tilt(self, t: mp.mpf) -> mp.mpf:
        x = self.root * t
        return (self.n - 1) * (x * mp.coth(x) - 1) / (2 * self.root**2)


@pytest.mark.parametrize("n", DIMENSIONS)
@pytest.mark.parametrize("q", SPREADS)
def test_normaliser_moment_and_their_slopes(n: int, q: float) -> None:
    ours, exact = law(q, n, requires_grad=True), Exact(q, n)
    total = exact.integral()
    log_integral, moment = ours.log_integral(), ours.second_moment()
    expected = float(mp.log(total) + exact.height)
    assert abs(log_integral.item() - expected) <= 1e-12 + 1e-15 * abs(expected)
    mean_square = exact.integral(lambda t: t * t) / total
    assert abs(moment.item() / float(mean_square) - 1) < 1e-12
    (slope,) = torch.autograd.grad(log_integral, ours.q)
    mean_tilt = exact.integral(exact.tilt) / total
    assert abs(slope.item() - float(mean_tilt)) <= 1e-9 * float(mean_tilt)
    (slope,) = torch.autograd.grad(moment, ours.q)
    covariance = exact.integral(lambda t: t * t * (exact.tilt(t) - mean_tilt)) / total
    assert abs(slope.item() - float(covariance)) <= 1e-9 * float(covariance)


@pytest.mark.parametrize("n", [1, 2, 10, 512])
@pytest.mark.parametrize("q", [1e-10, 1e-2, 1.0, 1000.0])
def test_quantile_and_its_slope(n: int, q: float) -> None:
    ours, exact = law(q, n, requires_grad=True), Exact(q, n)
    total = exact.integral()
    mean_tilt = exact.integral(exact.tilt) / total if n > 1 else 0
    for u in (1e-6, 0.3, 0.5, 0.999):
        t = ours.quantile(torch.tensor(u, dtype=F64))
        assert abs(float(exact.integral(to=t.item()) / total) - u) < 1e-12
        (slope,) = torch.autograd.grad(t, ours.q)
        if n > 1:
            moved = exact.integral(lambda s: exact.tilt(s) - mean_tilt, to=t.item())
            expected = -float(moved / mp.exp(exact.log_f(mp.mpf(t.item()))))
            assert abs(slope.item() - expected) <= 1e-7 * abs(expected)
        else:
            assert slope == 0


@pytest.mark.parametrize("n", DIMENSIONS)
@pytest.mark.parametrize("q", [0.0, 1e-10, 1e-3, 0.05, 1.0, 30.0, 1000.0])
def test_quantiles_invert_the_distribution_function_in_every_panel_and_in_the_tails(n: int, q: float) -> None:
    """Newton's method has to arrive from its first guess wherever that is; here by the law's density on 256 panels."""
    ours = law(q, n)
    tails = [1e-300, 1e-100, 1e-30, 1e-15, 1e-9, 1e-6, 1 - 1e-6, 1 - 1e-10, 1 - 1e-13, 1 - 1e-15]
    u = torch.cat([torch.tensor(tails, dtype=F64), torch.linspace(1e-3, 0.999, 190, dtype=F64)])
    t = ours.quantile(u)
    width = ((t - ours.tables().low) / 256).unsqueeze(-1)
    edges = ours.tables().low + width * torch.arange(256)
    nodes, weights = _nodes(edges, width.expand_as(edges))
    below = (weights * ours.tables().density(nodes, 0)).sum((-2, -1)) / ours.tables().total
    torch.testing.assert_close(below, u, rtol=0, atol=2e-12)


@pytest.mark.parametrize("n", DIMENSIONS[1:])
@pytest.mark.parametrize("q", [1e-10, 1e-3, 0.05, 1.0, 30.0, 1000.0])
def test_the_mode_is_where_the_density_is_largest(n: int, q: float) -> None:
    """The mode only centres the window, so integrals hardly move where it is wrong."""
    mode = law(q, n).tables().mode.item()
    assert abs((n - 1) * math.sqrt(q) / math.tanh(math.sqrt(q) * mode) / mode - 1) < 1e-8


def test_closed_form_where_it_is_stable() -> None:
    """n = 2: ∫ exp(−t²/2) sinh(√q t)/√q dt = √(π/2q) e^{q/2} erf(√(q/2))."""
    q = torch.tensor([0.5, 1.0, 4.0, 25.0], dtype=F64)
    closed = 0.5 * (math.pi / (2 * q)).log() + q / 2 + torch.erf((q / 2).sqrt()).log()
    torch.testing.assert_close(RadialLaw(q, 2).log_integral(), closed, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("n", DIMENSIONS)
def test_chi_law_at_zero(n: int) -> None:
    ours = law(0.0, n, requires_grad=True)
    assert abs(ours.log_integral().item() - ((n / 2 - 1) * math.log(2) + math.lgamma(n / 2))) < 1e-12 * n
    assert abs(ours.second_moment().item() / n - 1) < 1e-13
    t = ours.quantile(torch.tensor([0.01, 0.5, 0.99], dtype=F64))
    u = torch.special.gammainc(torch.full_like(t, n / 2), t.square() / 2)
    torch.testing.assert_close(u, torch.tensor([0.01, 0.5, 0.99], dtype=F64), rtol=2e-9, atol=0)
    (slope,) = torch.autograd.grad(ours.log_integral(), ours.q)
    assert abs(slope.item() - n * (n - 1) / 6) < 1e-9 * n * n


def test_batches_and_sample_axes() -> None:
    q = torch.tensor([[0.1, 2.0], [1e-5, 30.0]], dtype=F64)
    u = torch.rand(7, 2, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    whole = RadialLaw(q, 4).quantile(u)
    for i in range(2):
        for j in range(2):
            torch.testing.assert_close(whole[:, i, j], RadialLaw(q[i, j], 4).quantile(u[:, i, j]), rtol=1e-12, atol=0)


def test_second_derivatives_are_refused() -> None:
    """They are not implemented: an error, not a silent zero."""
    ours = law(0.5, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(ours.second_moment() ** 2, ours.q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.backward()
