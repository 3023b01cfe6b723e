"""The synthetic tree of Mathieu et al. (2019), section 5.1: Brownian motion that branches, seen through noise."""

import torch
from torch import Generator, Tensor

from hldm.config.dataset import Branching
from hldm.data.dataset import Dataset, InMemorySplit


def branching(settings: Branching) -> Dataset:
    """Noisy observations of the nodes of a tree, standardised over all of them; a class is a node.

        y_root = 0,   y_node ~ N(y_parent, step_variance · 1),   x ~ N(y_node, noise_variance · 1)

    There is no validation split: it is empty.

    Args:
        settings: depth, the levels below the root; children of every node above the last level; siblings, the
            observations of each node; dim, the D coordinates of an observation; both variances; train_share of the
            observations, drawn at random; seed of the data, the same for all runs.
    """
    generator = Generator().manual_seed(settings.seed)
    parents = tree(settings.depth, settings.children)
    nodes = torch.zeros(len(parents), settings.dim, dtype=torch.float64)
    for node in range(1, len(parents)):  # breadth first: a parent is there before its children
        step = torch.randn(settings.dim, generator=generator, dtype=torch.float64)
        nodes[node] = nodes[parents[node]] + settings.step_variance**0.5 * step
    labels = torch.arange(len(nodes)).repeat_interleave(settings.siblings)
    noise = torch.randn(len(labels), settings.dim, generator=generator, dtype=torch.float64)
    rows = nodes[labels] + settings.noise_variance**0.5 * noise
    rows = ((rows - rows.mean(0)) / rows.std(0, correction=0)).float()
    order = torch.randperm(len(rows), generator=generator)
    train, test = order.split([train_size := int(settings.train_share * len(rows)), len(rows) - train_size])
    return Dataset(
        name="branching",
        image_shape=(settings.dim,),
        class_names=tuple(str(node) for node in range(len(nodes))),
        train=InMemorySplit(rows[train], labels[train]),
        validation=InMemorySplit(rows[:0], labels[:0]),
        test=InMemorySplit(rows[test], labels[test]),
        parents=parents,
    )


def tree(depth: int, children: int) -> Tensor:
    """The parent of every node in breadth-first order, the root's being itself: int64 (nodes,)."""
    count = sum(children**level for level in range(depth + 1))
    return torch.tensor([max(0, (node - 1) // children) for node in range(count)])
