"""The synthetic tree of Mathieu et al. (2019), section 5.1: Brownian motion that branches, seen through noise."""

import torch
from torch import Generator, Tensor

from hldm.config.dataset import Branching
from hldm.data.dataset import Dataset, InMemorySplit
from hldm.data.trees import ancestors, complete_tree


def branching(settings: Branching) -> Dataset:
    """Noisy observations of the nodes of a tree, standardised over all of them; a class is a node.

        y_root = 0,   y_node ~ N(y_parent, step_variance · 1),   x ~ N(y_node, noise_variance · 1)

    A group is a node: the noise of its observations is independent, the node itself is not.

    Args:
        settings: depth, the levels below the root; children of every node above the last level; siblings, the
            observations of each node; dim, the D coordinates of an observation; both variances; train_share of the
            observations, drawn at random, of which the last validation_share are set aside; label_level; seed of the
            data, the same for all runs.
    """
    generator = Generator().manual_seed(settings.seed)
    parents = complete_tree(settings.depth, settings.children)
    nodes = torch.zeros(len(parents), settings.dim, dtype=torch.float64)
    for node in range(1, len(parents)):  # breadth first: a parent is there before its children
        step = torch.randn(settings.dim, generator=generator, dtype=torch.float64)
        nodes[node] = nodes[parents[node]] + settings.step_variance**0.5 * step
    of_rows = torch.arange(len(nodes)).repeat_interleave(settings.siblings)
    noise = torch.randn(len(of_rows), settings.dim, generator=generator, dtype=torch.float64)
    rows = nodes[of_rows] + settings.noise_variance**0.5 * noise
    rows = ((rows - rows.mean(0)) / rows.std(0, correction=0)).float()
    order = torch.randperm(len(rows), generator=generator)
    train, test = order.split([train_size := int(settings.train_share * len(rows)), len(rows) - train_size])
    kept = train_size - int(settings.validation_share * len(rows))
    level = settings.depth if settings.label_level is None else settings.label_level
    labels = ancestors(parents, level)[of_rows]  # the nodes down to a level are the first ones: breadth first

    def split(rows_of: Tensor) -> InMemorySplit:
        return InMemorySplit(rows[rows_of], labels[rows_of], of_rows[rows_of], groups=of_rows[rows_of])

    return Dataset(
        name="branching",
        image_shape=(settings.dim,),
        class_names=tuple(str(node) for node in range(int(labels.max()) + 1)),
        train=split(train[:kept]),
        validation=split(train[kept:]),
        test=split(test),
        parents=parents,
    )
