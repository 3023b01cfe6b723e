"""The analytic functions against mpmath at 40 digits: values and slopes, on both sides of the switch to the series."""

from collections.abc import Iterator

import mpmath as mp
import pytest
import torch

from hldm.geometry import analytic


@pytest.fixture(autouse=True)
def forty_digits() -> Iterator[None]:
    with mp.workdps(40):
        yield


REFERENCE = {
    "tanhc": lambda x: mp.tanh(x) / x,
    "atanhc": lambda x: mp.atanh(x) / x,
    "sinhc": lambda x: mp.sinh(x) / x,
    "asinhc": lambda x: mp.asinh(x) / x,
    "cosh_": mp.cosh,
    "log_sinhc": lambda x: mp.log(mp.sinh(x) / x),
    "log_sinhc_slope": lambda x: (x * mp.coth(x) - 1) / (2 * x * x),
    "spread": lambda x: (1 - x / mp.sinh(x)) / (x * x),
}
RADII = [1e-10, 1e-4, 0.01, 0.1, 0.141, 0.1415, 0.3, 0.9, 3.0, 12.0]


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize(
    ("dtype", "value_error", "slope_error"), [(torch.float64, 5e-15, 1e-12), (torch.float32, 5e-7, 2e-5)]
)
def test_values_and_slopes(name: str, dtype: torch.dtype, value_error: float, slope_error: float) -> None:
    radii = [x for x in RADII if name != "atanhc" or x < 0.95]
    s = torch.tensor([x * x for x in radii], dtype=dtype, requires_grad=True)
    value = getattr(analytic, name)(s)
    (slope,) = torch.autograd.grad(value.sum(), s)
    for got, got_slope, at in zip(value.tolist(), slope.tolist(), s.tolist(), strict=True):

        def exact(t: mp.mpf) -> mp.mpf:
            return REFERENCE[name](mp.sqrt(t))

        # log_sinhc starts at 0, the next two are differences of numbers near 1/s ≤ 50: those err absolutely
        floor = {"log_sinhc": 0.1, "log_sinhc_slope": 2.0, "spread": 4.0}.get(name, 0.0)
        assert abs(got - exact(mp.mpf(at))) <= value_error * max(abs(got), floor)
        exact_slope = mp.diff(exact, mp.mpf(at), h=mp.mpf(at) * mp.mpf(10) ** -12)
        assert abs(got_slope - exact_slope) <= slope_error * max(abs(exact_slope), 100 * floor)


@pytest.mark.parametrize(
    ("name", "value", "slope"),
    [
        ("tanhc", 1, -1 / 3),
        ("atanhc", 1, 1 / 3),
        ("sinhc", 1, 1 / 6),
        ("asinhc", 1, -1 / 6),
        ("cosh_", 1, 1 / 2),
        ("log_sinhc", 0, 1 / 6),
        ("log_sinhc_slope", 1 / 6, -1 / 90),
        ("spread", 1 / 6, -7 / 360),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_slope_at_zero(name: str, value: float, slope: float, dtype: torch.dtype) -> None:
    s = torch.zeros((), dtype=dtype, requires_grad=True)
    out = getattr(analytic, name)(s)
    (got,) = torch.autograd.grad(out, s)
    torch.testing.assert_close(out.detach(), torch.tensor(value, dtype=dtype))
    torch.testing.assert_close(got, torch.tensor(slope, dtype=dtype))


@pytest.mark.parametrize("name", ["tanhc", "sinhc", "asinhc", "log_sinhc"])
def test_second_derivatives_are_finite_and_right(name: str) -> None:
    s = torch.tensor([0.0, 1e-6, 0.019, 0.021, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(getattr(analytic, name), (s[1:].detach().requires_grad_(),), atol=1e-4)
    (first,) = torch.autograd.grad(getattr(analytic, name)(s).sum(), s, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), s)
    assert second.isfinite().all()


@pytest.mark.parametrize(
    ("dtype", "value_error", "slope_error"), [(torch.float64, 5e-15, 1e-12), (torch.float32, 5e-7, 2e-5)]
)
def test_both_functions_of_one_half_argument(dtype: torch.dtype, value_error: float, slope_error: float) -> None:
    s = torch.tensor([0.0, *(x * x for x in RADII)], dtype=dtype, requires_grad=True)
    pair = analytic.sinhc_and_cosh(s)
    for name, value in zip(("sinhc", "cosh_"), pair, strict=True):
        expected = getattr(analytic, name)(s)
        torch.testing.assert_close(value, expected, rtol=value_error, atol=0)
        (slope,), (expected_slope,) = (torch.autograd.grad(y.sum(), s, retain_graph=True) for y in (value, expected))
        torch.testing.assert_close(slope, expected_slope, rtol=slope_error, atol=0)


@pytest.mark.parametrize("name", REFERENCE)
def test_forward_mode_has_the_slopes_of_reverse_mode(name: str) -> None:
    s = torch.tensor([0.0, 1e-4, 0.019, 0.021, 0.8], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(getattr(analytic, name)(s).sum(), s)
    _, tangent = torch.func.jvp(getattr(analytic, name), (s.detach(),), (torch.full_like(s, 3.0),))
    torch.testing.assert_close(tangent, 3 * slope)
