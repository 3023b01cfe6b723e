"""The test of hierarchy without labels: it finds trees, and nothing where there is none."""

import math

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import minimum_spanning_tree
from sklearn.covariance import ledoit_wolf as ledoit_wolf_of_sklearn
from torch import Generator, Tensor

from hldm.data.trees import complete_tree
from hldm.geometry import Euclidean, FixedCurvature, Manifold, PoincareBall
from hldm.metrics import tree_test
from hldm.metrics.distances import around, frechet_means, geometric_median, pairwise_dist
from hldm.metrics.tree_metrics import tree_distances
from hldm.metrics.tree_test import (
    CUTS,
    NEIGHBOURS,
    TOLERANCE,
    cloud,
    clouds_about_means,
    clusters,
    connection_distance,
    distances,
    distinct_quadruples,
    ledoit_wolf,
    neighbour_distance,
    open_quadruples,
    quartet_delta,
    silhouette_clusters,
)

BALL = PoincareBall(8, FixedCurvature(1.0))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def walk(manifold: Manifold, noise: float, *positions: int, seed: int = 0) -> Tensor:
    """Four noisy latents of each node of a ternary tree of depth 3, each its parent and a step that shrinks."""
    parents = complete_tree(3, 3)
    steps, v = normal(40, manifold.channels, *positions, seed=seed), torch.zeros(40, manifold.channels, *positions)
    v = v.double()
    for node in range(1, 40):
        depth = 1 if node < 4 else 2 if node < 13 else 3
        above = v[parents[node]][None]
        v[node] = manifold.add_normal(above, 0.7**depth * steps[node][None], dim=1)[0]
    nodes = torch.arange(40).repeat(4)
    return manifold.add_normal(v[nodes], noise * normal(160, manifold.channels, *positions, seed=seed + 99), dim=1)


@pytest.mark.parametrize(
    ("manifold", "positions"), [(Euclidean(8), ()), (BALL, ()), (BALL, (2, 2)), (Euclidean(50), ())]
)
def test_a_tree_is_found(manifold: Manifold, positions: tuple[int, ...]) -> None:
    found = tree_test(manifold, walk(manifold, 0.2, *positions), points=160, draws=19, seed=0)
    assert found["quartet_p"] == pytest.approx(0.05)
    assert found["quartet_cloud_effect"] > 2
    assert found["quartet_clusters_effect"] > 2
    assert (found["quartet_points"], found["quartet_dimension"]) == (160, manifold.channels * math.prod(positions))


def test_steps_that_do_not_shrink_are_found_in_many_small_clusters() -> None:
    """63 nodes of a binary tree, three latents of each: clusters are all there is to see, unless their places nest."""
    parents, v = complete_tree(5, 2), torch.zeros(63, 8).double()
    for node in range(1, 63):
        v[node] = v[parents[node]] + normal(8, seed=node)
    found = tree_test(Euclidean(8), v.repeat(3, 1) + 0.5 * normal(189, 8, seed=99), points=189, draws=19, seed=0)
    assert found["clusters"] > 15
    assert found["quartet_p"] == pytest.approx(0.05)


def heavy(manifold: Manifold, seed: int) -> Tensor:
    """Log-normal radii, random directions."""
    directions = torch.nn.functional.normalize(normal(100, manifold.channels, seed=seed), dim=1)
    return directions * normal(100, 1, seed=seed + 1).exp().clamp(max=8)


@pytest.mark.parametrize("manifold", [Euclidean(2), Euclidean(50), BALL])
def test_heavy_tails_are_no_tree(manifold: Manifold) -> None:
    trials = [tree_test(manifold, heavy(manifold, 10 * seed), points=100, draws=19, seed=seed) for seed in range(12)]
    # 5 of 36 at level .05: once in two hundred
    assert sum(found["quartet_cloud_p"] <= 0.05 for found in trials) <= 3
    assert sum(found["quartet_p"] <= 0.05 for found in trials) <= 2


@pytest.mark.parametrize("manifold", [Euclidean(8), BALL])
def test_flat_clusters_are_found_and_are_no_nesting(manifold: Manifold) -> None:
    """In a ball too, where one cluster in the middle of the others would draw the null's centres to itself."""
    false = 0
    for seed in range(12):
        centres = normal(8, 8, seed=seed)
        v = manifold.add_normal(centres[torch.arange(120) % 8], 0.15 * normal(120, 8, seed=seed + 50), dim=1)
        found = tree_test(manifold, v, points=120, draws=19, seed=seed)
        assert 6 <= found["clusters"] <= 8
        assert found["quartet_cloud_p"] == pytest.approx(0.05)
        false += found["quartet_p"] <= 0.05
    assert false <= 2


def test_neighbour_distance_is_a_geometric_mean() -> None:
    line = torch.arange(40.0).double().unsqueeze(1)
    dist = pairwise_dist(Euclidean(1), line).numpy()
    expected = np.log(np.sort(dist, axis=1)[:, list(NEIGHBOURS)]).mean()
    assert neighbour_distance(dist) == pytest.approx(expected)
    assert neighbour_distance(3 * dist) == pytest.approx(expected + math.log(3))
    clumps = pairwise_dist(Euclidean(1), line // 20 * 20 + 0.01 * line).numpy()
    assert neighbour_distance(clumps) < neighbour_distance(dist) - 2
    assert math.isfinite(neighbour_distance(np.kron(dist, np.ones((3, 3)))))  # some latents are equal


def test_connection_distance_is_that_of_the_longest_edges_of_the_spanning_tree() -> None:
    dist = pairwise_dist(Euclidean(1), torch.arange(40.0).double().unsqueeze(1) ** 2).numpy()
    assert connection_distance(dist) == pytest.approx(np.log([77, 75]).mean())  # two of forty: 39² − 38², 38² − 37²
    assert connection_distance(3 * dist) == pytest.approx(connection_distance(dist) + math.log(3))
    few = pairwise_dist(Euclidean(2), normal(9, 2)).numpy()
    assert connection_distance(few) == pytest.approx(math.log(minimum_spanning_tree(few).max()))
    assert math.isfinite(connection_distance(np.eye(9)))


def test_a_tree_that_is_drawn_in_the_hyperbolic_plane_is_found() -> None:
    """Edges of 1, at equal angles: by their places clusters are no cloud, as none of them is far from the others."""
    plane, parents, v = PoincareBall(2, FixedCurvature(1.0)), complete_tree(5, 2), torch.zeros(63, 2).double()
    for node in range(1, 63):
        above = v[parents[node]][None]
        angle = math.pi * node
        if node > 2:
            back = around(plane, v[parents[parents[node]]][None, :, None], above[:, :, None])[0, :, 0]
            angle = math.atan2(back[1], back[0]) + (1 + node % 2) * 2 * math.pi / 3
        step = torch.tensor([[math.cos(angle), math.sin(angle)]]).double()
        v[node] = plane.add_normal(above, step, dim=1)[0]
    latents = plane.add_normal(v.repeat(3, 1), 0.1 * normal(189, 2), dim=1)
    found = tree_test(plane, latents, points=189, draws=19, seed=0)
    assert found["quartet_p"] == pytest.approx(0.05)
    assert found["quartet_clusters_connections"] < 0.9 * found["quartet_clusters_connections_null"]


@pytest.mark.parametrize("manifold", [Euclidean(8), BALL, PoincareBall(8, FixedCurvature(4.0), balls=2)])
def test_the_geometric_median_is_where_unit_vectors_to_all_latents_cancel(manifold: Manifold) -> None:
    """Far latents too: in a ball, plain steps would go beyond the median and never come to rest."""
    v = normal(300, 8)
    steps = around(manifold, v, geometric_median(manifold, v)).flatten(1)
    assert (steps / steps.norm(dim=1, keepdim=True)).mean(0).norm() < 1e-3


def test_flat_distances_are_those_of_the_manifold() -> None:
    v = normal(50, 4, 9)
    assert np.allclose(distances(Euclidean(4), v), pairwise_dist(Euclidean(4), v), atol=1e-6)


@pytest.mark.parametrize("scale", [0.3, 1.0])
@pytest.mark.parametrize(
    ("manifold", "positions"), [(Euclidean(8), 1), (BALL, 1), (PoincareBall(4, FixedCurvature(1.0)), 16)]
)
def test_draws_are_as_wide_as_what_small_clusters_were_drawn_from(
    manifold: Manifold, positions: int, scale: float
) -> None:
    """Five latents lie nearer to their own mean than to the centre; in a ball the mean moves less."""
    x, groups = scale * normal(1000, manifold.channels, positions), torch.arange(1000) % 200
    means = frechet_means(manifold, x, groups)
    w = around(manifold, x, means[groups])
    draw, square, scatter = clouds_about_means(manifold, w, groups, Generator().manual_seed(0))
    assert w.square().sum() < 0.95 * x.square().sum()
    assert draw().square().sum() == pytest.approx(float(x.square().sum()), rel=0.01)
    assert square == pytest.approx(float(x.square().sum() / 1000), rel=0.01)
    assert scatter / 5 == pytest.approx(float(means.square().sum() / 200), rel=0.15)


@pytest.mark.parametrize("manifold", [Euclidean(50), BALL])
def test_many_small_wide_clusters_are_as_near_to_each_other_as_their_draws(manifold: Manifold) -> None:
    """Means of five latents scatter about the centres: counted twice, draws are 2 % farther apart, and p is .025."""
    centres, own = normal(40, manifold.channels, seed=1), torch.arange(200) % 40
    v = manifold.add_normal(centres[own], 0.6 * normal(200, manifold.channels, seed=2), dim=1).unsqueeze(2)
    w = around(manifold, v, geometric_median(manifold, v))
    dist, draw = distances(manifold, w), clusters(manifold, w, own, Generator().manual_seed(0))
    drawn = np.mean([distances(manifold, draw().view_as(w)).mean() for _ in range(40)])
    assert dist.mean() == pytest.approx(drawn, rel=0.012 if manifold.is_flat else 0.03)
    found = tree_test(manifold, v, points=200, draws=19, seed=0)
    assert 35 < found["clusters"] <= 42
    assert found["quartet_p"] > 0.05


def test_more_clusters_than_a_quarter_of_the_latents_are_found_and_are_no_nesting() -> None:
    v = normal(70, 50, seed=1)[torch.arange(200) % 70] + 0.3 * normal(200, 50, seed=2)
    found = tree_test(Euclidean(50), v, points=200, draws=19, seed=0)
    assert 60 < found["clusters"] <= 72
    assert found["quartet_p"] > 0.05


def test_delta_of_trees_and_of_noise() -> None:
    tree = tree_distances(complete_tree(4, 2))
    quadruples = distinct_quadruples(31, np.random.default_rng(0))
    assert (np.diff(np.sort(quadruples, axis=0), axis=0) > 0).all()
    assert quartet_delta(tree, quadruples) == 0
    noise = pairwise_dist(Euclidean(500), normal(31, 500)).numpy()
    assert quartet_delta(noise, quadruples) == pytest.approx(0.5, abs=0.1)
    assert quartet_delta(3 * noise, quadruples) == pytest.approx(quartet_delta(noise, quadruples))


def test_open_quadruples_are_those_that_clusters_do_not_join() -> None:
    labels = np.arange(60) % 6
    within, between = open_quadruples(labels, np.random.default_rng(0))
    for kind, expected in ((within, {(0, 0, 4), (0, 1, 3)}), (between, {(1, 1, 1)})):
        assert {tuple(sorted(np.bincount(labels[four], minlength=6))[-3:]) for four in kind.T} == expected
    assert len(open_quadruples(np.arange(60) % 2, np.random.default_rng(0))) == 1


def test_shrinkage_is_scikit_learns() -> None:
    for n, dim in [(100, 5), (30, 60)]:
        x = normal(n, dim) * torch.linspace(0.2, 2, dim, dtype=torch.float64)
        theirs, _ = ledoit_wolf_of_sklearn(x.numpy(), assume_centered=True)
        assert np.allclose(ledoit_wolf(x), theirs)


def test_a_cloud_keeps_radii_and_covariance() -> None:
    scales = torch.tensor([3.0, 1, 1, 0.1], dtype=torch.float64)
    w = normal(4000, 4) * scales
    drawn = cloud(w, Generator().manual_seed(0))()
    assert torch.allclose(drawn.norm(dim=1).sort().values, w.norm(dim=1).sort().values)
    assert torch.allclose(drawn.std(0), scales, rtol=0.12)
    groups = torch.arange(4000) % 2
    grouped = cloud(w, Generator().manual_seed(0), groups=groups)()
    for group in (0, 1):
        own = w[groups == group].norm(dim=1).sort().values
        assert torch.allclose(grouped[groups == group].norm(dim=1).sort().values, own)


def test_silhouette_counts_clusters() -> None:
    v = 4 * normal(5, 6)[torch.arange(60) % 5] + 0.1 * normal(60, 6, seed=1)
    (labels, silhouette), *_ = silhouette_clusters(pairwise_dist(Euclidean(6), v).numpy())
    assert labels.max() + 1 == 5
    assert (labels[:55] == labels[5:]).all()
    assert silhouette > 0.9


def test_where_clusters_overlap_numbers_of_different_sizes_are_looked_at() -> None:
    cuts = silhouette_clusters(pairwise_dist(Euclidean(2), normal(200, 2, seed=1)).numpy())
    octaves = {int(math.log2(labels.max() + 1)) for labels, _ in cuts}
    assert len(octaves) >= 4
    assert len(cuts) <= CUTS + len(octaves)
    scores = [silhouette for _, silhouette in cuts]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] >= scores[0] - TOLERANCE


def test_knobs_seeds_and_degenerate_latents() -> None:
    v = normal(60, 8)
    found = tree_test(BALL, v, points=40, draws=5, seed=0)
    assert found == tree_test(BALL, v, points=40, draws=5, seed=0)
    for points, draws, seed in [(30, 5, 0), (40, 6, 0), (40, 5, 1)]:
        assert tree_test(BALL, v, points=points, draws=draws, seed=seed) != found
    short = tree_test(BALL, v, points=40, draws=5, seed=0, until=0.05)
    assert short.keys() == found.keys()
    assert short["quartet_cloud_p"] == found["quartet_cloud_p"]
    assert short["quartet_p"] == 1  # 5 draws cannot give less than 1/6
    equal = tree_test(BALL, torch.full((60, 8), 0.3), points=40, draws=5, seed=0)
    assert equal.keys() == found.keys()
    assert equal["quartet_p"] == 1
    twice = tree_test(BALL, v[:10].repeat(4, 1), points=40, draws=5, seed=0)
    assert all(math.isfinite(value) for value in twice.values())
