"""Latents against a known tree: exact where the latents are the tree, and like the libraries that have the same."""

from itertools import combinations

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import squareform
from torch import Generator, Tensor

from hldm.data.trees import complete_tree
from hldm.geometry import Euclidean, FixedCurvature, Manifold, PoincareBall, ProductManifold
from hldm.metrics import node_metrics
from hldm.metrics.distances import around, frechet_means, geometric_median, pairwise_dist
from hldm.metrics.resampling import with_control
from hldm.metrics.tree_metrics import (
    average_distortion,
    correlation,
    dasgupta_cost,
    dendrogram_purity,
    joined_sizes,
    mean_average_precision,
    tree_distances,
)

PARENTS = complete_tree(3, 3)
NAMES = ("correlation", "cophenetic", "dasgupta", "map", "distortion")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def walk(manifold: Manifold, parents: Tensor, *positions: int, seed: int = 0) -> Tensor:
    """A node for each of a tree: its parent and a step of its own."""
    steps = normal(len(parents), manifold.channels, *positions, seed=seed)
    v = torch.zeros_like(steps)
    for node in range(1, len(parents)):
        above = v[parents[node]][None]
        v[node] = manifold.add_normal(above, steps[node][None], dim=1)[0]
    return v


def edges(parents: Tensor) -> nx.Graph:
    return nx.Graph((int(above), node) for node, above in enumerate(parents) if node != above)


def test_tree_distances_are_those_of_networkx() -> None:
    shuffled = torch.randperm(40, generator=Generator().manual_seed(1))
    back = shuffled.argsort()
    for parents in (PARENTS, complete_tree(4, 2), shuffled[PARENTS][back], torch.tensor([0, 0, 1, 2])):
        found = tree_distances(parents)
        for source, lengths in nx.all_pairs_shortest_path_length(edges(parents)):
            assert [lengths[target] for target in range(len(parents))] == found[source].tolist()


def test_the_tree_itself_is_perfect() -> None:
    tree = tree_distances(PARENTS)
    assert mean_average_precision(0.3 * tree, tree) == 1
    assert average_distortion(0.3 * tree, tree) == pytest.approx(0)
    assert correlation(0.3 * tree, tree) == pytest.approx(1)
    leaves = tree[13:, 13:]  # all equally deep: an ultrametric, which average linkage finds again
    joined = linkage(squareform(leaves), "average")
    assert correlation(squareform(cophenet(joined)), leaves) == pytest.approx(1)
    assert dendrogram_purity(joined, np.repeat(np.arange(3), 9)) == 1
    assert dendrogram_purity(joined, np.repeat(np.arange(9), 3)) == 1
    assert mean_average_precision(leaves, leaves) == 1


def test_latents_that_are_the_tree_are_perfect() -> None:
    # an orthogonal axis for each edge: squared distances are numbers of edges
    paths = torch.zeros(40, 40, dtype=torch.float64)
    for node in range(1, 40):
        paths[node] = paths[PARENTS[node]]
        paths[node, node] = 1
    found = node_metrics(Euclidean(40), paths, torch.arange(40), PARENTS, draws=49, seed=0)
    assert found["tree_nodes"] == 40
    assert found["tree_map"] == 1
    assert found["tree_distortion"] < found["tree_distortion_null"]
    assert all(found[f"tree_{name}_p"] == pytest.approx(0.02) for name in NAMES)
    assert all(found[f"tree_{name}_effect"] > 3 for name in NAMES)


def test_precision_counts_by_hand() -> None:
    # a path a–b–c with c put next to a: a sees c first (1/2), b sees a then c (1), c sees a first (1/2)
    tree = np.array([[0.0, 1, 2], [1, 0, 1], [2, 1, 0]])
    place = np.array([0.0, 1.0, -0.5])
    assert mean_average_precision(abs(place[:, None] - place), tree) == pytest.approx((0.5 + 1 + 0.5) / 3)
    # at equal distances all count: a's one neighbour among two
    assert mean_average_precision(1 - np.eye(3), tree) == pytest.approx((0.5 + 1 + 0.5) / 3)


def test_purity_and_cost_by_counting_pairs() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 12)
    dist = squareform(generator.random(66))
    joined = linkage(squareform(dist), "average")
    below = {index: {index} for index in range(12)}
    for step, (left, right, *_) in enumerate(joined):
        below[12 + step] = below[int(left)] | below[int(right)]
    pairs = list(combinations(range(12), 2))
    common = {pair: min((leaves for leaves in below.values() if set(pair) <= leaves), key=len) for pair in pairs}
    shares = [np.mean([labels[leaf] == labels[i] for leaf in common[i, j]]) for i, j in pairs if labels[i] == labels[j]]
    assert dendrogram_purity(joined, labels) == pytest.approx(np.mean(shares))
    assert dendrogram_purity(joined, np.arange(12)) == 1
    cost = sum(dist[i, j] * len(common[i, j]) for i, j in pairs) / (12 * sum(dist[i, j] for i, j in pairs))
    assert dasgupta_cost(joined_sizes(joined), dist) == pytest.approx(cost)
    # whatever the tree, equal similarities cost (K + 1)/(3/2 K), Dasgupta (2016), theorem 3
    assert dasgupta_cost(joined_sizes(joined), np.ones((12, 12))) == pytest.approx(2 * 13 / (3 * 12))
    assert dasgupta_cost(joined_sizes(joined), np.zeros((12, 12))) == 1


BALL = PoincareBall(4, FixedCurvature(1.0))
MANIFOLDS = [Euclidean(4), BALL, ProductManifold([Euclidean(2), PoincareBall(4, FixedCurvature(0.5), 2)])]


@pytest.mark.parametrize("manifold", MANIFOLDS)
@pytest.mark.parametrize("positions", [(), (2, 2)])
def test_a_walk_along_the_tree_is_found_and_a_cloud_is_not(manifold: Manifold, positions: tuple[int, ...]) -> None:
    nodes = torch.arange(40).repeat(4)
    v = manifold.add_normal(
        walk(manifold, PARENTS, *positions)[nodes], 0.2 * normal(160, manifold.channels, *positions, seed=9), dim=1
    )
    found = node_metrics(manifold, v, nodes, PARENTS, draws=39, seed=0)
    assert all(found[f"tree_{name}_p"] <= 0.05 for name in NAMES)
    cloud = node_metrics(manifold, torch.randn_like(v), nodes, PARENTS, draws=39, seed=0)
    assert all(abs(cloud[f"tree_{name}_effect"]) < 4 for name in NAMES)


def test_p_keeps_its_level() -> None:
    # leaves alone, of which the tree knows nothing
    nodes, false = torch.arange(13, 40), 0
    for seed in range(100):
        found = node_metrics(Euclidean(3), normal(27, 3, seed=seed), nodes, PARENTS, draws=19, seed=seed)
        false += sum(found[f"tree_{name}_p"] <= 0.05 for name in NAMES)
    assert false <= 0.05 * 500 + 3 * (500 * 0.05 * 0.95) ** 0.5


def test_collapsed_nodes_and_few_nodes_say_nothing() -> None:
    assert node_metrics(Euclidean(2), torch.zeros(40, 2), torch.arange(40), PARENTS, draws=3, seed=0) == {
        "tree_nodes": 40.0
    }
    assert node_metrics(Euclidean(2), normal(3, 2), torch.arange(3), PARENTS, draws=3, seed=0) == {"tree_nodes": 3.0}
    star = torch.zeros(6, dtype=torch.long)
    assert "tree_map" not in node_metrics(Euclidean(2), normal(5, 2), torch.arange(1, 6), star, draws=3, seed=0)


def test_control_of_either_sign() -> None:
    null = [1.0, 2.0, 3.0]
    assert with_control("a", 4.0, null) == {"a": 4.0, "a_null": 2.0, "a_effect": 2.0, "a_p": 0.25}
    assert with_control("a", 4.0, null, -1) == {"a": 4.0, "a_null": 2.0, "a_effect": -2.0, "a_p": 1.0}
    assert with_control("a", 4.0, []) == {"a": 4.0}


@pytest.mark.parametrize("manifold", MANIFOLDS)
def test_means_and_median_are_least(manifold: Manifold) -> None:
    v, members = normal(30, manifold.channels, 2), torch.arange(30) % 3
    means = frechet_means(manifold, v, members)
    median = geometric_median(manifold, v)
    for centre, power, own in [*((means[k : k + 1], 2, v[members == k]) for k in range(3)), (median, 1, v)]:

        def cost(at: Tensor, own: Tensor = own, power: int = power) -> float:
            return float(around(manifold, own, at).flatten(1).norm(dim=1).pow(power).sum())

        best = cost(centre)
        for seed in range(5):
            assert cost(centre + 0.05 * normal(*centre.shape[1:], seed=seed)) > best
    moved = around(manifold, v, median)
    assert torch.allclose(pairwise_dist(manifold, moved), pairwise_dist(manifold, v))
