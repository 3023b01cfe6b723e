"""The fast sinh and arsinh against torch's float64 ones: values, derivatives, transforms, both dtypes."""

import pytest
import torch

from hldm.geometry.elementary import _Arsinh, _Sinh, _Softplus, arsinh, arsinh_sqrt_squared, sinh, softplus

PAIRS = [(lambda x: _Arsinh.apply(x)[0], arsinh, torch.asinh, 1e17), (_Sinh.apply, sinh, torch.sinh, 40.0)]


@pytest.mark.parametrize(("function", "public", "reference", "largest"), PAIRS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_slopes(function, public, reference, largest: float, dtype: torch.dtype) -> None:
    magnitude = torch.logspace(-12, torch.tensor(largest).log10().item(), 3000, dtype=torch.float64)
    x = torch.cat([-magnitude, torch.zeros(1), magnitude]).to(dtype).requires_grad_()
    exact_x = x.detach().double().requires_grad_()
    eps = torch.finfo(dtype).eps
    exact, tolerance = reference(exact_x), 8 * eps if reference is torch.asinh else 200 * eps
    for f in (function, public):
        value = f(x)
        torch.testing.assert_close(value.double(), exact, rtol=tolerance, atol=0)
        (slope,) = torch.autograd.grad(value.sum(), x)
        (exact_slope,) = torch.autograd.grad(reference(exact_x).sum(), exact_x)
        torch.testing.assert_close(slope.double(), exact_slope, rtol=tolerance, atol=0)


@pytest.mark.parametrize("function", [PAIRS[0][0], PAIRS[1][0]])
def test_transforms(function) -> None:
    x = torch.linspace(-3, 3, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, (x,))
    torch.testing.assert_close(torch.func.vmap(function)(x), function(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softplus(dtype: torch.dtype) -> None:
    x = torch.linspace(-80, 80, 4001, dtype=dtype, requires_grad=True)
    exact_x = x.detach().double().requires_grad_()
    exact = torch.logaddexp(exact_x, torch.zeros_like(exact_x))
    torch.testing.assert_close(softplus(x).double(), exact, rtol=8 * torch.finfo(dtype).eps, atol=0)
    (slope,) = torch.autograd.grad(softplus(x).sum(), x)
    torch.testing.assert_close(slope.double(), torch.sigmoid(exact_x), rtol=8 * torch.finfo(dtype).eps, atol=1e-30)
    assert torch.autograd.gradgradcheck(_Softplus.apply, (exact_x[1800:2200:40],))


def test_squared_arsinh_of_a_root() -> None:
    """Value, slope and second derivative, and what is left of 0."""
    w = torch.logspace(-12, 6, 400, dtype=torch.float64).requires_grad_()
    y = arsinh_sqrt_squared(w)
    torch.testing.assert_close(y, torch.asinh(w.sqrt()).square(), rtol=1e-13, atol=0)
    middle = torch.logspace(-2, 2, 20, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(arsinh_sqrt_squared, middle)
    assert torch.autograd.gradgradcheck(arsinh_sqrt_squared, middle)
    near = torch.tensor([-1e-9, 0.0, 1e-7], requires_grad=True)
    out = arsinh_sqrt_squared(near)
    (slope,) = torch.autograd.grad(out.sum(), near)
    torch.testing.assert_close(out, near.detach().clamp(min=0), rtol=1e-6, atol=1e-20)
    torch.testing.assert_close(slope, torch.ones(3))
    _, forward = torch.func.jvp(arsinh_sqrt_squared, (w.detach(),), (torch.ones_like(w),))
    torch.testing.assert_close(forward, torch.autograd.grad(y.sum(), w)[0])


@pytest.mark.parametrize(("function", "public", "reference"), [pair[:3] for pair in PAIRS])
def test_slopes_are_the_same_where_they_are_differentiated_again(function, public, reference) -> None:
    """There the derivative is computed from the argument, not from what the forward pass kept."""
    x = torch.linspace(-3, 3, 9, dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(reference(x).sum(), x)
    for f in (function, public):
        torch.testing.assert_close(f(x), reference(x))
        (slope,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
        torch.testing.assert_close(slope, exact)


def test_the_slope_of_the_squared_arsinh_where_it_is_differentiated_again() -> None:
    w = torch.logspace(-6, 3, 20, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(arsinh_sqrt_squared(w).sum(), w, create_graph=True)
    (exact,) = torch.autograd.grad(torch.asinh(w.sqrt()).square().sum(), w)
    torch.testing.assert_close(slope, exact)
