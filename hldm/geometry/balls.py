"""Balls for features: how a network's channels are cut into balls, and how far from the origin points may lie.

The volume of a ball of dimension n grows like e^((n − 1)√c·r) with its radius r, so in high dimension, or far from the
origin, distances say little but radii. Features therefore live in products of small balls, and near their origins.
"""

import torch
from torch import Tensor

from hldm.geometry.curvature import Curvature
from hldm.geometry.euclidean import Euclidean
from hldm.geometry.manifold import Leaf, Manifold
from hldm.geometry.ops import promote, safe_sqrt
from hldm.geometry.poincare import PoincareBall
from hldm.geometry.shapes import Operand, Scalar, Whole

BALL_DIM = 8
"""Largest dimension of a ball of features."""

RADIUS = 4.0
"""Largest √c·distance of a feature's point from the origin of its ball (Guo et al. (2022) clip features likewise)."""


def largest_balls(channels: int, curvature: Curvature) -> Leaf:
    """Channels cut into balls of the largest dimension ≤ `BALL_DIM` that divides them; R^C where c = 0 is fixed."""
    if curvature.is_zero:
        return Euclidean(channels)
    n = max(n for n in range(1, BALL_DIM + 1) if channels % n == 0)
    return PoincareBall(channels, curvature, channels // n)


def clip_norm(manifold: Manifold, v: Operand, clip: float, dim: int = -1) -> Whole:
    """(*, C, …) with every ball's coordinates scaled down to norm `clip` > 0 at most; flat leaves are one ball each."""
    return torch.cat([_shrunk(leaf, x, clip, dim) for leaf, x in manifold.pieces(v, dim)], dim)


def within_radius(manifold: Manifold, v: Operand, radius: float = RADIUS, dim: int = -1) -> Whole:
    """Normal coordinates (*, C, …) scaled down to √c|v| ≤ radius in every ball. As c → 0 nothing is scaled."""
    pieces = manifold.pieces(v, dim)
    return torch.cat([x if leaf.is_flat else _shrunk(leaf, x, radius / leaf.c**0.5, dim) for leaf, x in pieces], dim)


def _shrunk(leaf: Leaf, v: Tensor, clip: Scalar, dim: int) -> Tensor:
    view, axis = leaf.by_ball(promote(v), dim)
    norm = safe_sqrt(view.square().sum(axis, keepdim=True))
    return leaf.joined(view * (clip / norm.clamp(min=clip)), axis)
