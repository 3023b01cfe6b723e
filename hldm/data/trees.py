"""Rooted trees as one tensor: the parent of every node, int64 (nodes,), the root's being itself."""

import torch
from torch import Tensor


def complete_tree(depth: int, children: int) -> Tensor:
    """The tree whose nodes above the last of `depth` levels have so many children each, in breadth-first order."""
    count = sum(children**level for level in range(depth + 1))
    return torch.tensor([max(0, (node - 1) // children) for node in range(count)])


def depths(parents: Tensor) -> Tensor:
    """How far each node is below the root, int64 (nodes,)."""
    found, at = torch.zeros_like(parents), torch.arange(len(parents))
    while not torch.equal(at, parents[at]):
        found += at != parents[at]
        at = parents[at]
    return found


def ancestors(parents: Tensor, level: int) -> Tensor:
    """The node at depth `level` that each node is or lies below, int64 (nodes,); a node above that level is its own."""
    at, below = torch.arange(len(parents)), depths(parents)
    while (deeper := below[at] > level).any():
        at = torch.where(deeper, parents[at], at)
    return at
