"""How well each level of a known tree can be read off the latents: silhouette, purity, neighbours, linear probe.

A level is asked for beyond the one above it: in the null draws nodes change places within their branch of that level,
so a level that is there because the one above is does not count. Images of one node depend on each other and stay
together; and a level is recognised from other nodes, or it would be enough to recognise siblings.
Legend: n latents that have a class at a level, K nodes of theirs, L classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from hldm.geometry import Manifold
from hldm.metrics.distances import frechet_means, pairwise_dist
from hldm.metrics.resampling import with_control
from hldm.metrics.tree_metrics import Array, Labels, dendrogram_purity, lineage
from hldm.metrics.tree_test import silhouettes

NEIGHBOURS = 5
FOLDS = 5


@dataclass(frozen=True)
class Level:
    """One level of the tree as these latents have it.

    Attributes:
        rows: int64 (n,), the latents that have a class here.
        node: int64 (n,), each one's node in 0 … K − 1.
        classes: int64 (K,), each node's class in 0 … L − 1.
        within: int64 (K,), each node's branch of the level above.
        is_finest: whether each class is one node. There is nothing to permute, and images of it are recognised from
            others of the same node.
    """

    rows: Labels
    node: Labels
    classes: Labels
    within: Labels
    is_finest: bool

    @property
    def labels(self) -> Labels:
        """int64 (n,), each latent's class."""
        return self.classes[self.node]

    def permuted(self, generator: np.random.Generator) -> Labels:
        """`classes` where the nodes of each branch have changed places: int64 (K,)."""
        moved = self.classes.copy()
        for branch in np.unique(self.within):
            own = np.flatnonzero(self.within == branch)
            moved[own] = self.classes[generator.permutation(own)]
        return moved


def levels(nodes: Tensor, parents: Tensor) -> dict[int, Level]:
    """Depth → level, for each depth ≥ 1 that leaves a choice between classes.

    A node above a level has no class there. Of a class with a single node nothing can be told from other nodes: it is
    left out, unless all classes of the level are like that.
    """
    lines = lineage(parents)  # row d: who stands at depth d on the line to each node, −1 below the node
    held, known = nodes.unique().numpy(), nodes.numpy()
    found = {}
    for level in range(1, len(lines)):
        present = held[lines[level, held] >= 0]
        if not len(present):
            continue
        _, which, sizes = np.unique(lines[level, present], return_inverse=True, return_counts=True)
        if not (is_finest := int(sizes.max()) == 1):
            present = present[sizes[which] > 1]
        classes = np.unique(lines[level, present], return_inverse=True)[1]
        within = np.unique(lines[level - 1, present], return_inverse=True)[1]
        if classes.max() > within.max():  # somewhere a branch divides
            position = np.full(lines.shape[1], -1)
            position[present] = np.arange(len(present))
            rows = np.flatnonzero(position[known] >= 0)
            found[level] = Level(rows, position[known[rows]], classes, within, is_finest)
    return found


@torch.no_grad()
def level_metrics(
    manifold: Manifold, v: Tensor, nodes: Tensor, parents: Tensor, *, draws: int, seed: int
) -> dict[str, float]:
    """Each level of the known tree in latents (N, C, *positions) in normal coordinates.

    Args:
        nodes: int64 (N,), each latent's node.
        parents: int64 (all nodes,), the node above each one, the root's being itself.
        draws: permutations of the nodes.

    Returns:
        level<l>_<name> with _null, _effect and _p of `with_control`, l = 1 being the branches below the root, for
            silhouette (of the latents by class, in [−1, 1]),
            purity (`dendrogram_purity` of the average-linkage tree of the nodes' Fréchet means),
            knn (accuracy of the 5 nearest latents of other nodes),
            probe (accuracy of a ridge classifier on normal coordinates, nodes in 5 folds).
        At the finest level the last two are of other images and other folds of images; there is no null, and no purity.
        level<l>_majority: the accuracy of naming the largest class.
    """
    dist = pairwise_dist(manifold, v).numpy()
    found: dict[str, float] = {}
    for depth, level in levels(nodes, parents).items():
        generator = np.random.default_rng([seed, depth])
        rows = level.rows
        values = _Values(level, dist[np.ix_(rows, rows)], manifold, v[torch.from_numpy(rows)], generator)
        own = values.of(level.classes)
        null = [] if level.is_finest else [values.of(level.permuted(generator)) for _ in range(draws)]
        for name, value in own.items():
            found |= with_control(f"level{depth}_{name}", value, [other[name] for other in null])
        found[f"level{depth}_majority"] = float(np.bincount(level.labels).max() / len(rows))
    return found


class _Values:
    """The numbers of a level as they depend on which class a node has; all else is worked out once."""

    def __init__(
        self, level: Level, dist: Array, manifold: Manifold, v: Tensor, generator: np.random.Generator
    ) -> None:
        self.node = level.node
        count = len(level.classes)
        self.sums = dist @ np.eye(count)[level.node]  # of distances from each latent to each node
        self.joined = None
        if not level.is_finest:
            means = frechet_means(manifold, v, torch.from_numpy(level.node))
            self.joined = linkage(squareform(pairwise_dist(manifold, means).numpy(), checks=False), "average")
        self.nearest = nearest(dist, None if level.is_finest else level.node)
        folds = generator.permutation(len(level.node) if level.is_finest else count) % FOLDS
        self.probe = Probe(v.flatten(1).numpy(), folds if level.is_finest else folds[level.node])

    def of(self, classes: Labels) -> dict[str, float]:
        labels, one_hot = classes[self.node], np.eye(classes.max() + 1)
        found = {"silhouette": float(silhouettes(self.sums @ one_hot[classes], labels).mean())}
        if self.joined is not None:
            found["purity"] = dendrogram_purity(self.joined, classes)
        votes = one_hot[labels[self.nearest]].sum(axis=1)
        return found | {
            "knn": float((votes.argmax(axis=1) == labels).mean()),
            "probe": float((self.probe(one_hot[labels]) == labels).mean()),
        }


def nearest(dist: Array, node: Labels | None) -> Labels:
    """(n, at most `NEIGHBOURS`) the nearest latents, nearest first: of other nodes, or any but itself."""
    apart = np.eye(len(dist), dtype=bool) if node is None else node[:, None] == node
    count = min(NEIGHBOURS, int((~apart).sum(axis=1).min()))
    return np.where(apart, np.inf, dist).argsort(axis=1, kind="stable")[:, :count]


class Probe:
    """Ridge classification across folds: least squares on one-hot labels with penalty 1, coordinates standardised.

    Its predictions are linear in the labels, so that another order of labels costs one product.

    Args:
        x: (n, D).
        folds: int64 (n,).
    """

    def __init__(self, x: Array, folds: Labels) -> None:
        self.parts: list[tuple[Labels, Labels, Array]] = []
        for fold in np.unique(folds):
            test, train = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            mean, scale = x[train].mean(axis=0), x[train].std(axis=0)
            known, asked = ((x[rows] - mean) / np.where(scale > 0, scale, 1) for rows in (train, test))
            if known.shape[1] <= len(known):
                weights = np.linalg.solve(known.T @ known + np.eye(known.shape[1]), known.T)
            else:
                weights = known.T @ np.linalg.inv(known @ known.T + np.eye(len(known)))
            self.parts.append((test, train, asked @ weights))

    def __call__(self, one_hot: Array) -> Labels:
        """(n, L) labels → int64 (n,), what each latent is taken for by the other folds."""
        guesses = np.empty(len(one_hot), dtype=np.int64)
        for test, train, hat in self.parts:
            share = one_hot[train].mean(axis=0)
            guesses[test] = (share + hat @ (one_hot[train] - share)).argmax(axis=1)
        return guesses
