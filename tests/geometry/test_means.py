"""Midpoint and Fréchet mean: definitions, symmetries, convergence."""

import pytest
import torch

from hldm.geometry import normal, ops
from hldm.geometry.means import frechet_mean, midpoint


def cloud(radius: float, c: float, count: int = 10, n: int = 3, dtype: torch.dtype = torch.float64):
    g = torch.Generator().manual_seed(0)
    v = torch.nn.functional.normalize(torch.randn(5, count, n, generator=g, dtype=dtype), dim=-1)
    v = v * torch.rand(5, count, 1, generator=g, dtype=dtype) * radius / c**0.5
    return v, torch.rand(5, count, generator=g, dtype=dtype) + 0.05


@pytest.mark.parametrize("c", [1e-4, 1.0, 7.0])
@pytest.mark.parametrize("radius", [0.5, 2.0, 4.0])
def test_frechet_mean_has_no_gradient_left(c: float, radius: float) -> None:
    v, weights = cloud(radius, c)
    mean = frechet_mean(v, weights, c)
    gradient = (weights.unsqueeze(-1) * normal.add_normal(-mean.unsqueeze(1), v, c)).sum(1)
    assert gradient.abs().max() * c**0.5 < 1e-11


@pytest.mark.parametrize("mean", ["midpoint", "frechet_mean"])
def test_equivariance_under_translation_and_weights(mean: str) -> None:
    c = 0.8
    v, weights = cloud(2.0, c)

    def of(v: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return frechet_mean(v, weights, c) if mean == "frechet_mean" else midpoint(v, weights.unsqueeze(1), c)[:, 0]

    shift = torch.tensor([0.4, -0.7, 0.2], dtype=torch.float64).expand_as(v)
    moved = of(normal.add_normal(shift, v, c), weights)
    torch.testing.assert_close(moved, normal.add_normal(shift[:, 0], of(v, weights), c), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(of(v, 3 * weights), of(v, weights))
    doubled = torch.cat([v, v[:, :1]], 1), torch.cat([weights, weights[:, :1]], 1)
    heavier = weights.clone()
    heavier[:, 0] *= 2
    torch.testing.assert_close(of(*doubled), of(v, heavier), rtol=1e-9, atol=1e-9)


def test_midpoint_of_two_points_lies_halfway() -> None:
    v, _ = cloud(3.0, 1.0, count=2)
    x = ops.expmap0(v, 1.0)
    halfway = ops.geodesic(x[:, 0], x[:, 1], torch.tensor(0.5, dtype=torch.float64), 1.0)[0]
    for mean in (
        midpoint(v, torch.ones(5, 1, 2, dtype=torch.float64), 1.0)[:, 0],
        frechet_mean(v, torch.ones(5, 2).double(), 1.0),
    ):
        torch.testing.assert_close(ops.expmap0(mean, 1.0), halfway, rtol=1e-9, atol=1e-9)


def test_midpoint_of_one_point_is_that_point_in_float32() -> None:
    """The Lorentz norm of a far point loses digits, up to 6e-3 here; its lower bound stops it from falling below 1."""
    for radius in (1.0, 4.0, 6.0):
        angle = torch.linspace(0, 6, 100)
        v = radius * torch.stack([angle.cos(), angle.sin()], -1).unsqueeze(1)
        assert (midpoint(v, torch.ones(1, 1, 1), 1.0) - v).abs().max() < 8e-3
