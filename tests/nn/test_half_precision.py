"""Half precision is promoted to float32 at the door of every layer, and empty batches pass through."""

import pytest
import torch
from test_layers import LAYERS

from hldm.geometry import Euclidean, FixedCurvature, LearnableCurvature, PoincareBall, ProductManifold
from hldm.nn import Gyroplane, HyperbolicBatchNorm, HyperbolicEmbedding

CURVATURES = [0.0, 0.7, "learnable"]


def made(name: str, curvature: float | str) -> torch.nn.Module:
    torch.manual_seed(0)
    return LAYERS[name][0](LearnableCurvature(0.7) if curvature == "learnable" else curvature)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("halved", ["layer", "input", "both"])
def test_half_precision_is_promoted(name: str, curvature: float | str, dtype: torch.dtype, halved: str) -> None:
    """The layer computes in float32 with the numbers that the half format holds."""
    layer, x = made(name, curvature), LAYERS[name][2].float()
    expected = layer(x)
    if halved != "input":
        layer.to(dtype)
    x = (x if halved == "layer" else x.to(dtype)).requires_grad_()
    out = layer(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected, rtol=0.05, atol=0.05 * expected.abs().max().item())
    rounded = made(name, curvature).to(dtype if halved != "input" else torch.float32).float()
    torch.testing.assert_close(out, rounded(x.detach().float()), rtol=1e-5, atol=1e-5)
    out.square().mean().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() and p.grad.dtype == p.dtype for p in layer.parameters() if p.grad is not None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_on_products_and_in_the_published_form(dtype: torch.dtype) -> None:
    product = ProductManifold([Euclidean(2), PoincareBall(4, FixedCurvature(1.3), 2)])
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    torch.manual_seed(0)
    for layer in (
        Gyroplane(product, 3),
        Gyroplane(PoincareBall(6, FixedCurvature(0.7)), 3, form="pvae"),
        Gyroplane(Euclidean(6), 3, form="pvae"),
    ):
        layer.to(dtype)
        torch.testing.assert_close(layer(x), layer.float()(x.float()))
    with torch.no_grad():
        layer = Gyroplane(product, 3)
        layer.weight.zero_()
        assert layer.to(dtype)(x).isfinite().all()
    table = HyperbolicEmbedding(5, product)
    expected = table(torch.arange(5))
    out = table.to(dtype)(torch.arange(5))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("curvature", CURVATURES)
def test_empty_batches_pass_through_and_change_nothing(name: str, curvature: float | str) -> None:
    layer, x = made(name, curvature).train(), LAYERS[name][2].float()
    expected = layer(x).shape[1:]
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    x = x[:0].requires_grad_()
    out = layer(x)
    assert out.shape == (0, *expected)
    out.sum().backward()
    assert x.grad.shape == x.shape
    for key, value in layer.state_dict().items():
        assert value.equal(before[key]), key
    assert all(p.grad.isfinite().all() for p in layer.parameters() if p.grad is not None)


def test_maps_without_positions_pass_through() -> None:
    x = torch.zeros(3, 8, 0, 4)
    ball = PoincareBall(8, FixedCurvature(0.7), 2)
    norm = HyperbolicBatchNorm(ball)
    assert norm(x).shape == x.shape
    assert norm.running_var.eq(1).all()
    assert Gyroplane(ball, 5)(torch.zeros(3, 0, 8)).shape == (3, 0, 5)
