"""The levels of a known tree, read off latents."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier
from torch import Generator, Tensor

from hldm.data.trees import complete_tree
from hldm.geometry import Euclidean, FixedCurvature, PoincareBall
from hldm.metrics import level_metrics
from hldm.metrics.distances import pairwise_dist
from hldm.metrics.tree_levels import Probe, levels, nearest
from hldm.metrics.tree_test import silhouettes

PARENTS = complete_tree(3, 3)  # 1, 3, 9 and 27 nodes
LEAVES = torch.arange(13, 40)
NAMES = ("silhouette", "purity", "knn", "probe")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def latents(*scales: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Five latents of each leaf: a step for each of its three ancestors, so many long, and a little noise."""
    node, v = LEAVES.repeat_interleave(5), 0.05 * normal(135, 6, seed=seed)
    at = node
    for depth, scale in zip((3, 2, 1), reversed(scales), strict=True):
        v = v + scale * normal(40, 6, seed=100 * seed + depth)[at]
        at = PARENTS[at]
    return v, node


def test_levels_of_the_whole_tree_and_of_its_leaves() -> None:
    whole = levels(torch.arange(40), PARENTS)
    assert list(whole) == [1, 2, 3]
    assert [len(level.rows) for level in whole.values()] == [39, 36, 27]
    assert [level.classes.max() + 1 for level in whole.values()] == [3, 9, 27]
    assert [level.is_finest for level in whole.values()] == [False, False, True]
    leaves = levels(LEAVES, PARENTS)
    assert np.array_equal(leaves[1].labels, np.repeat([0, 1, 2], 9))
    assert np.array_equal(leaves[2].within, np.repeat([0, 1, 2], 9))
    # a branch with a single leaf cannot be told from another leaf of it
    few = levels(torch.tensor([13, 14, 22, 23, 31]), PARENTS)
    assert few[1].rows.tolist() == [0, 1, 2, 3]
    assert levels(torch.tensor([0, 0]), PARENTS) == {}


def test_permuted_classes_stay_in_their_branch() -> None:
    level = levels(LEAVES, PARENTS)[2]
    generator = np.random.default_rng(0)
    moved = level.permuted(generator)
    assert not np.array_equal(moved, level.classes)
    assert np.array_equal(moved // 3, level.classes // 3)


def test_against_scikit_learn() -> None:
    x, node = latents(1.0, 0.7, 0.5)
    labels, dist = ((node - 13) // 3).numpy(), pairwise_dist(Euclidean(6), x).numpy()
    own = silhouettes(dist @ np.eye(9)[labels], labels).mean()
    assert own == pytest.approx(silhouette_score(dist, labels, metric="precomputed"))

    votes = np.eye(9)[labels[nearest(dist, None)]].sum(1).argmax(1)
    for i in range(0, 135, 9):
        rest = np.arange(135) != i
        theirs = KNeighborsClassifier(5).fit(x.numpy()[rest], labels[rest]).predict(x.numpy()[i : i + 1])
        assert votes[i] == theirs[0]

    for columns in (6, 400):  # fewer and more coordinates than latents
        wide, folds = normal(135, columns).numpy(), np.arange(135) % 5
        wide[:, :6] += x.numpy()
        guesses = Probe(wide, folds)(np.eye(9)[labels])
        test, train = folds == 0, folds != 0
        scaled = (wide - wide[train].mean(0)) / wide[train].std(0)
        ridge = RidgeClassifier(alpha=1.0).fit(scaled[train], labels[train])
        assert np.array_equal(guesses[test], ridge.predict(scaled[test]))


def test_neighbours_are_of_other_nodes() -> None:
    v, node = latents(1.0, 1.0, 1.0)
    found = nearest(pairwise_dist(Euclidean(6), v).numpy(), node.numpy())
    assert found.shape == (135, 5)
    assert (node.numpy()[found] != node.numpy()[:, None]).all()


@pytest.mark.parametrize("curvature", [0.0, 1.0])
def test_perfect_levels(curvature: float) -> None:
    v, node = latents(3.0, 0.6, 0.1)
    found = level_metrics(PoincareBall(6, FixedCurvature(curvature)), 0.2 * v, node, PARENTS, draws=39, seed=0)
    assert found["level1_purity"] == found["level2_purity"] == found["level1_knn"] == 1
    assert found["level1_majority"] == pytest.approx(1 / 3)
    assert found["level3_majority"] == pytest.approx(1 / 27)
    for level in (1, 2):
        assert all(found[f"level{level}_{name}_p"] == pytest.approx(0.025) for name in NAMES)
    assert "level3_knn_p" not in found  # each class is one node: nothing to permute


def test_flat_clusters_are_one_level() -> None:
    # the first level is there and the second is not: grouping by the first must not pass for the second
    trials = [
        level_metrics(Euclidean(6), *latents(2.0, 0.0, 0.5, seed=seed), PARENTS, draws=19, seed=seed)
        for seed in range(20)
    ]
    assert np.mean([found["level1_purity_p"] <= 0.05 for found in trials]) >= 0.8
    false = sum(found[f"level2_{name}_p"] <= 0.05 for found in trials for name in NAMES)
    assert false <= 0.05 * 80 + 3 * (80 * 0.05) ** 0.5
    # which alone would say the contrary
    assert np.mean([found["level2_knn"] for found in trials]) > 1.5 * trials[0]["level2_majority"]
