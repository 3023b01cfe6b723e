"""Gradients: right everywhere (to the curvature, too), finite at the origin, at coinciding points and at the limit."""

import pytest
import torch

from hldm.geometry import normal, ops
from hldm.geometry.means import frechet_mean, midpoint

BINARY = [ops.mobius_add, ops.expmap, ops.logmap, ops.sqdist, ops.dist, normal.add_normal, ops.to_frame, ops.from_frame]


def points(*shape: int, radius: float = 2.0) -> torch.Tensor:
    v = torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return 0.4 * radius * v / v.norm(dim=-1, keepdim=True).clamp(min=1)


@pytest.mark.parametrize("c", [1e-4, 0.7])
@pytest.mark.parametrize("op", BINARY)
def test_gradients_of_two_arguments_and_curvature(op, c: float) -> None:
    x, y = (a.requires_grad_() for a in points(2, 3, 3))
    k = torch.tensor(c, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y, k: op(x, y, k), (x, y, k))


@pytest.mark.parametrize("c", [1e-4, 0.7])
def test_gradients_of_the_rest(c: float) -> None:
    x, y, u = (a.requires_grad_() for a in points(3, 3, 3))
    k = torch.tensor(c, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ops.expmap0, (x, k))
    assert torch.autograd.gradcheck(ops.logmap0, (x, k))
    assert torch.autograd.gradcheck(normal.log_volume, (x, k))
    assert torch.autograd.gradcheck(ops.transport, (x, y, u, k))
    assert torch.autograd.gradcheck(ops.gyration, (x, y, u, k))
    assert torch.autograd.gradcheck(ops.pairwise_sqdist, (x, y, k))
    assert torch.autograd.gradcheck(midpoint, (x, weights, k))
    assert torch.autograd.gradcheck(lambda v, w, k: frechet_mean(v, w[0], k), (x, weights, k))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("c", [1e-6, 1.0, 10.0])
@pytest.mark.parametrize("radius", [0.0, 1e-20, 1e-3, 5.9, 14.0, 40.0, 1e3])
def test_gradients_are_finite_everywhere(dtype: torch.dtype, c: float, radius: float) -> None:
    """At the origin, at coinciding points, at the clamp and beyond it, and to a learned curvature."""
    v = torch.zeros(4, 3, dtype=dtype)
    v[:, 0] = torch.tensor([radius, radius, -radius, 0.0], dtype=dtype) / c**0.5
    v[1, 1] = radius / c**0.5
    v.requires_grad_()
    k = torch.tensor(c, dtype=dtype, requires_grad=True)
    for curvature in (c, k):
        x = ops.expmap0(v, curvature)
        for y in (x, x.flip(0), x.detach()):
            outputs = [
                ops.logmap0(x, curvature), ops.dist(x, y, curvature), ops.sqdist(x, y, curvature),
                ops.logmap(x, y, curvature), ops.expmap(x, ops.from_frame(x, v, curvature), curvature),
                *ops.geodesic(x, y, torch.tensor(0.5, dtype=dtype), curvature), ops.pairwise_sqdist(x, y, curvature),
                normal.add_normal(v, v.flip(0), curvature), normal.add_normal(-v, v, curvature),
                normal.log_volume(v, curvature), midpoint(v, torch.ones(1, 4, dtype=dtype), curvature),
                ops.project(1.1 * x, curvature)[0],
            ]  # fmt: skip
            for i, out in enumerate(outputs):
                assert out.isfinite().all(), i
                wanted = (v, k) if isinstance(curvature, torch.Tensor) else (v,)
                for grad in torch.autograd.grad(out.sum() / (1 + out.detach().abs().max()), wanted, retain_graph=True):
                    assert grad.isfinite().all(), i


def test_distance_has_slope_zero_where_points_coincide() -> None:
    x = torch.tensor([[0.3, 0.1]], requires_grad=True)
    y = x.detach().clone().requires_grad_()
    for grad in torch.autograd.grad(ops.dist(x, y, 1.0).sum(), (x, y)):
        assert grad.equal(torch.zeros(1, 2))


def test_curvature_gradient_in_float32_at_small_c() -> None:
    """Closed forms would lose it: dz/dc is a difference of numbers 1/c times larger."""
    v, w = points(2, 200, 3, radius=5.0)
    for c in (1e-6, 1e-4, 1e-2):
        grads = []
        for dtype in (torch.float32, torch.float64):
            k = torch.tensor(c, dtype=dtype, requires_grad=True)
            x, y = ops.expmap0(v.to(dtype), k), ops.expmap0(w.to(dtype), k)
            total = ops.dist(x, y, k).sum() + normal.add_normal(v.to(dtype), w.to(dtype), k).square().sum()
            grads.append(torch.autograd.grad(total, k)[0].double())
        assert abs(grads[0] / grads[1] - 1) < 1e-3


@pytest.mark.parametrize("c", [1e-4, 0.7, 5.0])
def test_both_halves_of_a_geodesic_are_one_function(c: float) -> None:
    """Values and gradients to ends, time and curvature are those of the geodesic that shoots from x0 throughout."""
    x0, x1 = (
        ops.expmap0(v / c**0.5, c)
        for v in torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    t = torch.tensor([0.0, 0.2, 0.5, 0.5 + 1e-9, 0.8, 1.0, 1.2], dtype=torch.float64).unsqueeze(1)
    arguments = [a.requires_grad_() for a in (x0, x1, t, torch.tensor(c, dtype=torch.float64))]

    def shot(x0: torch.Tensor, x1: torch.Tensor, t: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        u = ops.logmap(x0, x1, c)
        x_t = ops.expmap(x0, t * u, c)
        return x_t, ops.transport(x0, x_t, u, c)

    weights = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    results = []
    for f in (ops.geodesic, shot):
        outputs = f(*arguments)
        loss = sum((w * out).sum() for w, out in zip(weights, outputs, strict=True))
        results.append([*outputs, *torch.autograd.grad(loss, arguments)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
