"""Two forms of one formula, for eager mode and for torch.compile, and the one place that asks which of them runs.

Eager, a formula on small tensors costs what its single operations cost to dispatch. So the costly formulae are one node
of the graph each: a `torch.autograd.Function` with its derivative in closed form. A compiler fuses single operations by
itself, cannot look into such a node and takes none with forward-mode derivatives, so it gets the single operations.
Decision 12 (docs/decisions) has the measurements; tests hold both forms against each other.

A look at a tensor's numbers, to refuse bad ones, would break a compiled graph: it is left out while compiling.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


def compiling() -> bool:
    """Whether torch.compile traces the caller."""
    return torch.compiler.is_compiling()


def two_forms(eager: Callable[P, T], compiled: Callable[P, T]) -> Callable[P, T]:
    """One function of two: `compiled` while torch.compile traces it, `eager` at all other times."""

    def either(*args: P.args, **kwargs: P.kwargs) -> T:
        return compiled(*args, **kwargs) if compiling() else eager(*args, **kwargs)

    return either
