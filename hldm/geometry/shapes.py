"""Shapes in annotations, by jaxtyping; tests check them at run time (tests/test_shapes.py), nothing else does.

Legend: `*S` is one shape for all that a function takes and returns. The coordinate axis is wherever `dim` says, so the
shape cannot name it; what it says is which tensors broadcast together and which have the common shape.
"""

from jaxtyping import Float
from torch import Tensor

Operand = Float[Tensor, "*#S"]
"""One of several tensors that broadcast against each other to the shape S."""

Whole = Float[Tensor, "*S"]
"""A tensor of the shape S to which the operands broadcast."""

Number = Float[Tensor, ""]
"""A number as a tensor of shape ()."""

Scalar = Number | float
"""A number: a tensor where it is learned, a Python float where it is fixed."""
