"""What the layers share: hyperboloid coordinates of a whole manifold, and parameters laid along one axis.

The hyperboloid coordinates y = sinh(√c|v|) v/(√c|v|) of every ball live in a vector space, so sums, norms and linear
maps of them make sense; they are v itself on flat factors and as c → 0.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from hldm.geometry import Euclidean, Manifold, PoincareBall, normal
from hldm.geometry.normal import from_spacelike, spacelike
from hldm.geometry.ops import Scalar, flat


def curvature_and_balls(leaf: Manifold) -> tuple[Scalar, int]:
    """(c, k) of a leaf; a Euclidean factor counts as one flat ball."""
    if isinstance(leaf, Euclidean):
        return 0.0, 1
    ball = cast(PoincareBall, leaf)
    return ball.c, ball.balls


def is_flat(manifold: Manifold) -> bool:
    """Whether every factor is known to be flat without a look at data."""
    return all(flat(curvature_and_balls(leaf)[0]) for leaf in manifold.leaves())


def to_spacelike(manifold: Manifold, v: Tensor, dim: int) -> Tensor:
    """Normal coordinates → hyperboloid coordinates of every ball, same shape."""
    return _leafwise(lambda x, c, axis: spacelike(x, c, axis)[0], manifold, v, dim)


def to_normal(manifold: Manifold, y: Tensor, dim: int) -> Tensor:
    """Hyperboloid coordinates of every ball → normal coordinates, same shape."""
    return _leafwise(from_spacelike, manifold, y, dim)


def from_components(manifold: Manifold, f: Tensor, dim: int) -> Tensor:
    """`hldm.geometry.normal.from_components` of every ball; f itself on flat factors."""
    return _leafwise(normal.from_components, manifold, f, dim)


def _leafwise(op: Callable[[Tensor, Scalar, int], Tensor], manifold: Manifold, x: Tensor, dim: int) -> Tensor:
    """op(piece, c, axis) on the balls of every leaf, joined along `dim`."""
    dim = dim - x.ndim if dim >= 0 else dim
    leaves = manifold.leaves()
    pieces = []
    for leaf, piece in zip(leaves, x.split([leaf.channels for leaf in leaves], dim), strict=True):
        c, balls = curvature_and_balls(leaf)
        if balls == 1:
            pieces.append(op(piece, c, dim))
        else:
            pieces.append(op(piece.unflatten(dim, (balls, -1)), c, dim).flatten(dim - 1, dim))
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)


def along(parameter: Tensor, x: Tensor, dim: int) -> Tensor:
    """A vector of parameters, shaped to broadcast along the axis `dim` of x."""
    return parameter.reshape([-1 if axis == dim % x.ndim else 1 for axis in range(x.ndim)])
