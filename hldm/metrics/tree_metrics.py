"""How latents agree with a tree that is known: its nodes' means, and its levels.

Every number stands beside what it would be had the tree nothing to do with the latents: the nodes change places on the
tree, so that images of one node, which depend on each other, stay together.
Legend: N latents of K nodes that have any; `dist` (K, K) distances of the nodes' means, `tree` (K, K) of the nodes on
the known tree, in edges.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from hldm.geometry import Manifold
from hldm.metrics.distances import frechet_means, pairwise_dist
from hldm.metrics.resampling import with_control

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


@torch.no_grad()
def node_metrics(
    manifold: Manifold, v: Tensor, nodes: Tensor, parents: Tensor, *, draws: int, seed: int
) -> dict[str, float]:
    """The nodes' Fréchet means against the known tree.

    Args:
        v: (N, C, *positions) normal coordinates.
        nodes: int64 (N,), each latent's node.
        parents: int64 (all nodes,), the node above each one, the root's being itself.
        draws: permutations of the nodes on the tree.

    Returns:
        tree_nodes: K. Nothing else where K < 4.
        tree_<name> with tree_<name>_null, _effect and _p of `with_control`, for
            correlation (Pearson's, of distances with the tree's),
            cophenetic (the same with the heights of the average-linkage tree of the means, in place of distances),
            dasgupta (↓, `dasgupta_cost`), map (`mean_average_precision`) and distortion (↓, `average_distortion`).
    """
    present, members = nodes.unique(return_inverse=True)
    found = {"tree_nodes": float(len(present))}
    if len(present) < 4:
        return found
    dist = pairwise_dist(manifold, frechet_means(manifold, v, members)).numpy()
    tree = tree_distances(parents)[np.ix_(present, present)]
    if dist.max() <= 0 or np.ptp(squareform(tree, checks=False)) == 0:  # all nodes at one place, or a star
        return found
    joined = linkage(squareform(dist, checks=False), "average")
    heights, sizes = squareform(cophenet(joined)), joined_sizes(joined)
    order = dist.argsort(axis=1, kind="stable")
    statistics: dict[str, tuple[int, Callable[[Array], float]]] = {
        "correlation": (1, lambda t: correlation(dist, t)),
        "cophenetic": (1, lambda t: correlation(heights, t)),
        "dasgupta": (-1, lambda t: dasgupta_cost(sizes, t.max() - t)),
        "map": (1, lambda t: mean_average_precision(dist, t, order)),
        "distortion": (-1, lambda t: average_distortion(dist, t)),
    }
    generator = np.random.default_rng(seed)
    moves = [generator.permutation(len(tree)) for _ in range(draws)]
    for name, (sign, statistic) in statistics.items():
        null = [statistic(tree[np.ix_(move, move)]) for move in moves]
        found |= with_control(f"tree_{name}", statistic(tree), null, sign)
    return found


def lineage(parents: Tensor) -> Labels:
    """(depths, nodes): who stands at each depth on the line from the root to each node; −1 at depths below the node."""
    above = parents.numpy()
    upwards = [np.arange(len(above))]  # who stands 0, 1, 2, … edges above each node; the root above itself
    while (upwards[-1] != above[upwards[-1]]).any():
        upwards.append(above[upwards[-1]])
    steps, nodes = np.stack(upwards), np.arange(len(above))
    depth = (steps != above[steps]).sum(axis=0)
    return np.stack([np.where(depth >= at, steps[np.maximum(depth - at, 0), nodes], -1) for at in range(len(steps))])


def tree_distances(parents: Tensor) -> Array:
    """(nodes, nodes) edges between each two nodes of a tree given by parents, in any order."""
    lines = lineage(parents)
    depth = (lines >= 0).sum(axis=0) - 1
    common = np.full((len(depth), len(depth)), -1)  # depth of the lowest common ancestor
    for at in lines:
        common += (at[:, None] == at) & (at >= 0)
    return (depth[:, None] + depth - 2 * common).astype(np.float64)


def correlation(dist: Array, tree: Array) -> float:
    """Pearson's correlation of the upper triangles of two (K, K) matrices; 0 where one is constant (Mantel (1967))."""
    a, b = (squareform(side, checks=False) for side in (dist, tree))
    a, b = a - a.mean(), b - b.mean()
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms > 0 else 0.0


def joined_sizes(joined: Array) -> Array:
    """(K, K) leaves below the lowest common ancestor of each two leaves of scipy's linkage (K − 1, 4)."""
    count = len(joined) + 1
    leaves: dict[int, Labels] = {index: np.array([index]) for index in range(count)}
    sizes = np.zeros((count, count))
    for step, (left, right, *_) in enumerate(joined):
        a, b = leaves.pop(int(left)), leaves.pop(int(right))
        sizes[np.ix_(a, b)] = sizes[np.ix_(b, a)] = len(a) + len(b)
        leaves[count + step] = np.concatenate([a, b])
    return sizes


def dasgupta_cost(sizes: Array, similarity: Array) -> float:
    """Σ s_ij |leaves below the lowest common ancestor of i, j| / (K Σ s_ij), in [2/K, 1]; Dasgupta (2016), eq. 1.

    What is alike should be joined low. A tree that has nothing to do with s has about ⅔.

    Args:
        sizes: (K, K), of `joined_sizes`.
        similarity: (K, K) ≥ 0; `node_metrics` takes the tree's diameter less the distance on it.
    """
    i, j = np.triu_indices(len(sizes), k=1)
    total = similarity[i, j].sum()
    return float(sizes[i, j] @ similarity[i, j] / (len(sizes) * total)) if total > 0 else 1.0


def mean_average_precision(dist: Array, tree: Array, order: Labels | None = None) -> float:
    """mAP, Sala et al. (2018): over nodes a and neighbours b of a, the share of neighbours within distance d_ab of a.

    A node's neighbours are those next to it on the tree: one edge away, or, where only leaves are there, its siblings.
    1 where each node has its neighbours nearest. Nodes at equal distance count together.

    Args:
        order: `dist.argsort(axis=1)`, where it is known.
    """
    others = ~np.eye(len(dist), dtype=bool)
    nearest = np.where(others, tree, np.inf).min(axis=1, keepdims=True)
    neighbours = others & (tree == nearest)
    order = dist.argsort(axis=1, kind="stable") if order is None else order
    ranked = np.take_along_axis(dist, order, axis=1)
    hits = np.cumsum(np.take_along_axis(neighbours, order, axis=1), axis=1)
    seen = np.cumsum(np.take_along_axis(others, order, axis=1), axis=1)
    precision = np.empty_like(dist)
    for row, (values, hit, all_) in enumerate(zip(ranked, hits, seen, strict=True)):
        last = np.searchsorted(values, values, side="right") - 1  # the last node at this distance
        precision[row, order[row]] = hit[last] / np.maximum(all_[last], 1)
    return float(((precision * neighbours).sum(axis=1) / neighbours.sum(axis=1)).mean())


def average_distortion(dist: Array, tree: Array) -> float:
    """Mean over pairs of |s d/t − 1|, d in the latents and t > 0 on the tree, s = mean t/mean d (no unit is given).

    Sala et al. (2018), with a scale. 0 for the tree's own distances in any unit.
    """
    d, t = (squareform(side, checks=False) for side in (dist, tree))
    return float(np.abs(d * (t.mean() / d.mean()) / t - 1).mean()) if d.mean() > 0 else 1.0


def dendrogram_purity(joined: Array, labels: Labels) -> float:
    """Mean over pairs of one class of the share of that class below their lowest common ancestor, in (0, 1].

    Heller & Ghahramani (2005). 1 where each class is a subtree. Pairs exist where a class has two leaves: else 1.

    Args:
        joined: (K − 1, 4), scipy's linkage.
        labels: int64 (K,), of 0 … classes − 1.
    """
    counts = dict(enumerate(np.eye(labels.max() + 1)[labels]))
    total = pairs = 0.0
    for step, (left, right, *_) in enumerate(joined):
        a, b = counts.pop(int(left)), counts.pop(int(right))
        both = a + b
        together = a * b  # pairs that meet here
        total += float(together @ both) / float(both.sum())
        pairs += float(together.sum())
        counts[len(labels) + step] = both
    return total / pairs if pairs else 1.0
