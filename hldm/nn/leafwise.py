"""Helpers of several layers: hyperboloid coordinates of a whole manifold, and parameters laid along one axis.

The hyperboloid coordinates y = sinh(√c|v|) v/(√c|v|) of every ball live in a vector space, so sums, norms and linear
maps of them make sense; they are v itself on flat factors and as c → 0.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from hldm.geometry import Manifold, normal
from hldm.geometry.normal import from_spacelike, spacelike
from hldm.geometry.shapes import Operand, Scalar, Whole


def to_spacelike(manifold: Manifold, v: Operand, dim: int) -> Whole:
    """Normal coordinates → hyperboloid coordinates of every ball, same shape."""
    return _leafwise(lambda x, c, axis: spacelike(x, c, axis)[0], manifold, v, dim)


def to_normal(manifold: Manifold, y: Operand, dim: int) -> Whole:
    """Hyperboloid coordinates of every ball → normal coordinates, same shape."""
    return _leafwise(from_spacelike, manifold, y, dim)


def from_components(manifold: Manifold, f: Operand, dim: int) -> Whole:
    """`hldm.geometry.normal.from_components` of every ball; f itself on flat factors."""
    return _leafwise(normal.from_components, manifold, f, dim)


def _leafwise(op: Callable[[Tensor, Scalar, int], Tensor], manifold: Manifold, x: Tensor, dim: int) -> Tensor:
    """op(piece, c, axis) on the balls of every leaf, joined along `dim`."""
    pieces = []
    for leaf, piece in manifold.pieces(x, dim):
        view, axis = leaf.by_ball(piece, dim)
        pieces.append(leaf.joined(op(view, leaf.c, axis), axis))
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)


def along(parameter: Float[Tensor, " K"], x: Tensor, dim: int) -> Tensor:
    """A vector of parameters, shaped to broadcast along the axis `dim` of x."""
    return parameter.reshape([-1 if axis == dim % x.ndim else 1 for axis in range(x.ndim)])
