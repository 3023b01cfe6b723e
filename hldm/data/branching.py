"""The synthetic tree of Mathieu et al. (2019), section 5.1: Brownian motion that branches, seen through noise."""

import torch
from torch import Generator, Tensor

from hldm.data.dataset import Dataset


def branching(
    depth: int,
    children: int,
    siblings: int,
    dim: int,
    step_variance: float,
    noise_variance: float,
    train_share: float,
    seed: int,
) -> Dataset:
    """Noisy observations of the nodes of a tree, standardised over all of them; a class is a node.

        y_root = 0,   y_node ~ N(y_parent, step_variance · 1),   x ~ N(y_node, noise_variance · 1)

    Args:
        depth: levels below the root, ≥ 0.
        children: of every node above the last level, ≥ 1.
        siblings: observations of each node, ≥ 1.
        dim: D, coordinates of an observation, ≥ 1.
        step_variance: > 0.
        noise_variance: > 0.
        train_share: of the observations, drawn at random, in (0, 1).
        seed: of the data, which all runs share.
    """
    generator = Generator().manual_seed(seed)
    parents = tree(depth, children)
    nodes = torch.zeros(len(parents), dim, dtype=torch.float64)
    for node in range(1, len(parents)):  # breadth first: a parent is there before its children
        step = torch.randn(dim, generator=generator, dtype=torch.float64)
        nodes[node] = nodes[parents[node]] + step_variance**0.5 * step
    labels = torch.arange(len(nodes)).repeat_interleave(siblings)
    noise = torch.randn(len(labels), dim, generator=generator, dtype=torch.float64)
    rows = nodes[labels] + noise_variance**0.5 * noise
    rows = ((rows - rows.mean(0)) / rows.std(0, correction=0)).float()
    order = torch.randperm(len(rows), generator=generator)
    train, test = order.split([train_size := int(train_share * len(rows)), len(rows) - train_size])
    names = tuple(str(node) for node in range(len(nodes)))
    return Dataset("branching", rows[train], labels[train], rows[test], labels[test], names, parents)


def tree(depth: int, children: int) -> Tensor:
    """The parent of every node in breadth-first order, the root's being itself: int64 (nodes,)."""
    count = sum(children**level for level in range(depth + 1))
    return torch.tensor([max(0, (node - 1) // children) for node in range(count)])
