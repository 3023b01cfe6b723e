"""The fast sinh and arsinh against torch's float64 ones: values, derivatives, transforms, both dtypes."""

import pytest
import torch

from hldm.geometry.elementary import _Arsinh, _Sinh, arsinh, sinh

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


@pytest.mark.parametrize(("function", "public", "reference"), [pair[:3] for pair in PAIRS])
def test_slopes_are_the_same_where_they_are_differentiated_again(function, public, reference) -> None:
    """There the derivative is computed from the argument, not from what the forward pass kept."""
    x = torch.linspace(-3, 3, 9, dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(reference(x).sum(), x)
    for f in (function, public):
        torch.testing.assert_close(f(x), reference(x))
        (slope,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
        torch.testing.assert_close(slope, exact)
