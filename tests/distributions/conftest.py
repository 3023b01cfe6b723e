"""Fixtures of the tests of all distributions."""

from collections.abc import Callable

import numpy as np
import pytest
import torch


@pytest.fixture
def polar_grid() -> Callable[[float, float], tuple[torch.Tensor, torch.Tensor]]:
    """(c, radius) → normal coordinates (N, 2) and Riemannian area (N) of the cells of a polar grid of the disk."""

    def grid(c: float, radius: float) -> tuple[torch.Tensor, torch.Tensor]:
        # Gauss–Legendre × uniform: both converge faster than any power for smooth densities
        x, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(400))
        r, w = radius * (x + 1) / 2, radius * w / 2
        angle = torch.arange(256, dtype=torch.float64) * 2 * torch.pi / 256
        v = torch.stack([r[:, None] * angle.cos(), r[:, None] * angle.sin()], -1).reshape(-1, 2)
        area = (w * torch.sinh(c**0.5 * r) / c**0.5)[:, None].expand(-1, 256).reshape(-1) * 2 * torch.pi / 256
        return v, area

    return grid
