"""What of the trees of benchmarks/hierarchy.py can be told from flat clusters at all, by a judge who has seen them.

    python benchmarks/hierarchy_limit.py R² H²       some minutes of one core for each space

A classifier (gradient boosting) is trained on clouds of one tree against flat clusters of any number and width, by some
sixty figures of their distances, and judged on clouds it has not seen. `quartet_p` knows neither. Its power at a false
positive rate of .05, *averaged* over flat clusters, is therefore about what a test can hope for at that number of
latents: one that keeps the rate for each kind of flat clusters has less.
"""

import argparse
import math

import numpy as np
import torch
from hierarchy import SPACES, WITH, Case, normal
from numpy.typing import NDArray
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import squareform
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Generator, Tensor

from hldm.geometry import Manifold
from hldm.metrics.distances import pairwise_dist
from hldm.metrics.tree_test import Quadruples, distinct_quadruples, quartet_delta

Array = NDArray[np.float64]
CLUSTERS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160)
NEAREST = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
SINGLE = (10, 30, 60, 100, 140, 170, 185, 192, 196, -1)
AVERAGE = (20, 60, 100, 140, 160, 170, 180, 185, 190, 193, 195, 196, 197, 198)
QUANTILES = np.array([0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99])
LATENTS = 200


def figures(dist: Array, quadruples: Quadruples) -> list[float]:
    """Of distances (200, 200), without unit: Ward's tree, neighbours, single and average linkage, quantiles, δ."""
    pairs = squareform(dist, checks=False)
    merges = np.cumsum(linkage(pairs, "ward")[:, 2] ** 2 / 2)  # sum of squares within clusters, cluster by cluster
    scale = math.sqrt(merges[-1] / len(dist))
    found = [math.log(max(merges[len(dist) - 1 - k], 1e-300) / merges[-1]) for k in CLUSTERS]
    ordered = np.partition(dist, NEAREST, axis=1)
    for k in NEAREST:
        logs = np.log(ordered[:, k] / scale + 1e-9)
        found += [logs.mean(), logs.std()]
    single = np.log(np.sort(linkage(pairs, "single")[:, 2]) / scale + 1e-9)
    found += [*single[list(SINGLE)], single.std()]
    found += list(np.sort(pairs)[(QUANTILES * len(pairs)).astype(int)] / scale)
    average = linkage(pairs, "average")
    found += [quartet_delta(dist, quadruples), np.corrcoef(cophenet(average), pairs)[0, 1]]
    return found + list(np.log(average[:, 2] / scale + 1e-9)[list(AVERAGE)])


def flat_clusters(manifold: Manifold, _: tuple[int, ...], n: int, generator: Generator) -> Tensor:
    """2 to 60 clusters, .1 to 1 of the distance between centres wide, in clouds of different sizes."""
    count = round(math.exp(float(torch.rand(1, generator=generator)) * math.log(30) + math.log(2)))
    width = math.exp((float(torch.rand(1, generator=generator)) - 1) * math.log(10))
    centres = normal(generator, count, manifold.channels)
    size = float(torch.rand(1, generator=generator)) * 2 + 0.6
    own = torch.randint(count, (n,), generator=generator)
    return manifold.add_normal(size * centres[own], size * width * normal(generator, n, manifold.channels), dim=1)


def drawn(case: Case, space: str, count: int) -> Array:
    """(count, figures) of so many clouds."""
    manifold, positions = SPACES[space]
    quadruples = distinct_quadruples(LATENTS, np.random.default_rng(0), 5000)
    clouds = (case(manifold, positions, LATENTS, Generator().manual_seed(7 + index)) for index in range(count))
    return np.array([figures(pairwise_dist(manifold, v).numpy(), quadruples) for v in clouds])


def power(flat: Array, tree: Array) -> float:
    """Share of the second half of `tree` beyond the 95 % quantile of that of `flat`, by a judge of the first halves."""
    a, b = len(flat) // 2, len(tree) // 2
    judge = HistGradientBoostingClassifier(max_iter=200, learning_rate=0.05, max_leaf_nodes=8)
    judge.fit(np.concatenate([flat[:a], tree[:b]]), np.repeat([0, 1], [a, b]))
    of_flat, of_tree = judge.predict_proba(flat[a:])[:, 1], judge.predict_proba(tree[b:])[:, 1]
    return float((of_tree > np.quantile(of_flat, 0.95)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spaces", nargs="+", choices=list(SPACES), help="columns of the table")
    parser.add_argument("--clouds", type=int, default=1200, help="of each tree; twice as many of flat clusters")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for space in arguments.spaces:
        flat = drawn(flat_clusters, space, 2 * arguments.clouds)
        for name, case in WITH.items():
            print(f"{space}, {name}: {power(flat, drawn(case, space, arguments.clouds)):.2f}", flush=True)


if __name__ == "__main__":
    main()
