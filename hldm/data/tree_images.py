"""A tree that one can see: smooth patterns that branch, rendered as grey pictures."""

import torch
from torch import Generator, Tensor

from hldm.config.dataset import TreeImages
from hldm.data.dataset import Dataset, InMemorySplit
from hldm.data.trees import ancestors, complete_tree, depths

SIDE = 28
CONTRAST, THRESHOLD = 3.0, 0.3
"""Of the grey level of a field f, the logistic of CONTRAST · (f − THRESHOLD): patches of light on darkness."""


def tree_images(settings: TreeImages) -> Dataset:
    """Pictures of the nodes of a tree, 1 × 28 × 28; a class is a node, or the node above it at a chosen level.

        f_root = g,   f_node = f_parent + shrink^depth · g,   x = logistic(CONTRAST · (f_node + noise · g − THRESHOLD))

    where each g is a smooth random field of its own, see `smooth_fields`. So nodes are as far apart as the steps
    between them, and those that part at a deep level differ in little. With shrink = 1 every level counts alike.

    All nodes have images, those above the last level too, and the same share of every node's images is in each split.
    A group is a node.

    Args:
        settings: depth, the levels below the root; children of every node above the last level; siblings, the images of
            each node; noise, shrink and smoothness of the fields; shares of validation and test; label_level; seed of
            the data, the same for all runs.
    """
    generator = Generator().manual_seed(settings.seed)
    parents = complete_tree(settings.depth, settings.children)
    of_node = depths(parents)
    bumps = bump_basis(settings.smoothness)
    fields = torch.zeros(len(parents), SIDE, SIDE, dtype=torch.float64)
    for depth in range(settings.depth + 1):
        at = (of_node == depth).nonzero().flatten()
        step = settings.shrink**depth * smooth_fields(len(at), bumps, generator)
        fields[at] = fields[parents[at]] + step  # the root's own is still 0 here
    images = torch.stack([
        rendered(field + settings.noise * smooth_fields(settings.siblings, bumps, generator)) for field in fields
    ])  # fmt: skip
    level = settings.depth if settings.label_level is None else settings.label_level
    classes = ancestors(parents, level)  # the nodes down to a level are the first ones: breadth first

    def split(rows: Tensor) -> InMemorySplit:
        """Of rows (nodes, own siblings, 1, side, side), in a random order: the first ones are of all nodes."""
        nodes = torch.arange(len(parents)).repeat_interleave(rows.shape[1])
        order = torch.randperm(len(nodes), generator=generator)
        nodes = nodes[order]
        return InMemorySplit(rows.flatten(0, 1)[order], classes[nodes], nodes, groups=nodes)

    train, validation, test = (split(rows) for rows in images.split(settings.split_siblings, dim=1))
    paths = node_paths(parents)[: settings.nodes(level)]
    return Dataset(
        name="tree_images",
        image_shape=(1, SIDE, SIDE),
        class_names=tuple(".".join(map(str, path)) or "root" for path in paths),
        train=train,
        validation=validation,
        test=test,
        class_words=tuple(" ".join(["branch", *map(str, path)]) if path else "root" for path in paths),
        parents=parents,
    )


def bump_basis(smoothness: float) -> Tensor:
    """Gaussian bumps of that width along a side, as far apart as they are wide: float64 (SIDE, bumps), rows of norm 1.

    Bumps stand up to three widths outside of the picture, so that its edge is like its middle.
    """
    centres = torch.arange(-3 * smoothness, SIDE - 1 + 3 * smoothness, smoothness, dtype=torch.float64)
    pixels = torch.arange(SIDE, dtype=torch.float64)
    bumps = torch.exp(-((pixels.unsqueeze(1) - centres) ** 2) / (2 * smoothness**2))
    return bumps / bumps.norm(dim=1, keepdim=True)


def smooth_fields(n: int, bumps: Tensor, generator: Generator) -> Tensor:
    """B Z Bᵀ with Z ~ N(0, 1): Gaussian fields (n, SIDE, SIDE) of variance 1 in every pixel."""
    weights = torch.randn(n, bumps.shape[1], bumps.shape[1], generator=generator, dtype=torch.float64)
    return bumps @ weights @ bumps.T


def rendered(fields: Tensor) -> Tensor:
    """Fields (n, SIDE, SIDE) → grey pictures, uint8 (n, 1, SIDE, SIDE)."""
    return (255 * torch.sigmoid(CONTRAST * (fields - THRESHOLD))).round().byte().unsqueeze(1)


def node_paths(parents: Tensor) -> list[tuple[int, ...]]:
    """Which child of which child … each node is, from the root, whose path is empty. Parents come before children."""
    paths: list[tuple[int, ...]] = [()]
    born = [0] * len(parents)
    for parent in parents.tolist()[1:]:
        paths.append((*paths[parent], born[parent]))
        born[parent] += 1
    return paths
