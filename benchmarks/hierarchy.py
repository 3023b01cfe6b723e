"""Level and power of the test of hierarchy on latents whose structure is known, and time and memory of the metrics.

    python benchmarks/hierarchy.py                     both tables, some minutes on one core
    python benchmarks/hierarchy.py --trials 200        more trials for each cell of the first
    python benchmarks/hierarchy.py --only lognormal    rows whose name contains a word

A cell is the share of trials with p ≤ .05: of `quartet_p`, the test, and in brackets of `quartet_cloud_p`, which takes
clusters for the one level of a tree that they are. Where there is no tree it should be at most .05, where there is one
at least .80. 19 draws of each null, so that p ≤ .05 is exactly the smallest of twenty; more draws have
more power.
"""

import argparse
import math
import platform
import resource
import time
from collections.abc import Callable
from datetime import date
from functools import partial

import torch
from torch import Generator, Tensor

from hldm.data.trees import complete_tree, depths
from hldm.geometry import Euclidean, FixedCurvature, Manifold, PoincareBall
from hldm.metrics import latent_hierarchy, level_metrics, node_metrics, signal_and_noise, tree_test

SPACES: dict[str, tuple[Manifold, tuple[int, ...]]] = {
    "R²": (Euclidean(2), ()),
    "H²": (PoincareBall(2, FixedCurvature(1.0)), ()),
    "R⁸": (Euclidean(8), ()),
    "H⁸": (PoincareBall(8, FixedCurvature(1.0)), ()),
    "R⁵⁰": (Euclidean(50), ()),
    "R²⁵⁶": (Euclidean(256), ()),
    "(H⁴)¹⁶": (PoincareBall(4, FixedCurvature(1.0)), (4, 4)),
}
Case = Callable[[Manifold, tuple[int, ...], int, Generator], Tensor]


def normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def gaussian(manifold: Manifold, positions: tuple[int, ...], n: int, generator: Generator, slope: float = 0) -> Tensor:
    """Normal coordinates, coordinate k with a standard deviation proportional to k^−slope."""
    dim = manifold.channels * math.prod(positions)
    scales = torch.arange(1, dim + 1, dtype=torch.float64) ** -slope
    v = normal(generator, n, dim) * scales / scales.square().mean().sqrt()
    return v.view(n, manifold.channels, *positions)


def heavy_tailed(
    manifold: Manifold, positions: tuple[int, ...], n: int, generator: Generator, law: str = "t"
) -> Tensor:
    """Random directions; radii of Student's t with three degrees of freedom, or log-normal."""
    dim = manifold.channels * math.prod(positions)
    x = normal(generator, n, dim)
    if law == "t":
        v = x / normal(generator, n, 3).square().mean(1, keepdim=True).sqrt()
    else:
        v = math.sqrt(dim) * normal(generator, n, 1).exp() * x / x.norm(dim=1, keepdim=True)
    if not manifold.is_flat:  # as far as ball coordinates reach
        v = v * (12 / v.norm(dim=1, keepdim=True).clamp(min=12))
    return v.view(n, manifold.channels, *positions)


def clusters(manifold: Manifold, positions: tuple[int, ...], n: int, generator: Generator, count: int = 10) -> Tensor:
    """Centres drawn from a Gaussian, and latents .3 about them."""
    centres = normal(generator, count, manifold.channels, *positions)
    own = torch.randint(count, (n,), generator=generator)
    return manifold.add_normal(centres[own], 0.3 * normal(generator, n, *centres.shape[1:]), dim=1)


def tree(
    manifold: Manifold,
    positions: tuple[int, ...],
    n: int,
    generator: Generator,
    depth: int = 5,
    children: int = 2,
    shrink: float = 1.0,
    noise: float = 0.5,
    leaves: bool = False,
) -> Tensor:
    """A branching walk: a node is its parent and a Gaussian step, `shrink` as long at each level; latents `noise` about
    all nodes, or about the leaves alone."""
    parents = complete_tree(depth, children)
    below = depths(parents)
    v = torch.zeros(len(parents), manifold.channels, *positions, dtype=torch.float64)
    for level in range(1, depth + 1):
        nodes = torch.nonzero(below == level)[:, 0]
        step = shrink ** (level - 1) * normal(generator, len(nodes), *v.shape[1:])
        v[nodes] = manifold.add_normal(v[parents[nodes]], step, dim=1)
    seen = v[below == depth] if leaves else v
    own = torch.randint(len(seen), (n,), generator=generator)
    return manifold.add_normal(seen[own], noise * normal(generator, n, *v.shape[1:]), dim=1)


WITHOUT: dict[str, Case] = {
    "Gaussian": gaussian,
    "Gaussian, spectrum k^−0.7": partial(gaussian, slope=0.7),
    "Student t, 3 degrees": heavy_tailed,
    "lognormal radii": partial(heavy_tailed, law="lognormal"),
    "4 clusters": partial(clusters, count=4),
    "10 clusters": clusters,
    "30 clusters": partial(clusters, count=30),
}
WITH: dict[str, Case] = {
    "tree, binary, depth 5, steps alike": tree,
    "tree, binary, depth 5, steps × .7, leaves": partial(tree, shrink=0.7, leaves=True, noise=0.3),
    "tree, ternary, depth 3, steps × .6": partial(tree, depth=3, children=3, shrink=0.6, noise=0.3),
    "tree, ternary, depth 3, steps × .4": partial(tree, depth=3, children=3, shrink=0.4, noise=0.1),
}


def rates(case: Case, space: str, trials: int, n: int) -> tuple[float, float]:
    """Shares of trials with p ≤ .05, of the test and of its first null alone."""
    manifold, positions = SPACES[space]
    found = [
        tree_test(
            manifold,
            case(manifold, positions, n, Generator().manual_seed(1000 + trial)),
            points=n,
            draws=19,
            seed=trial,
        )
        for trial in range(trials)
    ]
    both = [sum(result[name] <= 0.05 for result in found) / trials for name in ("quartet_p", "quartet_cloud_p")]
    return both[0], both[1]


def level_and_power(trials: int, n: int, only: str) -> None:
    print(f"\n| {n} latents, {trials} trials a cell | " + " | ".join(SPACES) + " |\n|---|" + "---:|" * len(SPACES))
    for title, cases in (("no tree: at most .05", WITHOUT), ("a tree: at least .80", WITH)):
        print(f"| **{title}** |" + " |" * len(SPACES))
        for name, case in cases.items():
            if only in name:
                print(f"| {name} ", end="", flush=True)
                for space in SPACES:
                    test, first = rates(case, space, trials, n)
                    print(f"| {test:.2f} ({first:.2f}) ", end="", flush=True)
                print("|", flush=True)


def time_and_memory(n: int) -> None:
    """All metrics of n latents of a tree, as an evaluation computes them."""
    print(f"\n| {n} latents of 364 nodes | seconds | peak memory of the process, MiB | before |\n|---|---:|---:|---:|")
    parents = complete_tree(5, 3)
    for space in ("H⁸", "(H⁴)¹⁶"):
        manifold, positions = SPACES[space]
        generator = Generator().manual_seed(0)
        nodes = torch.randint(len(parents), (n,), generator=generator)
        centres = tree(manifold, positions, len(parents), generator, children=3, noise=0.0)
        v = (centres[nodes] + 0.2 * normal(generator, n, *centres.shape[1:])).float()
        before, start = peak_mib(), time.perf_counter()
        latent_hierarchy(
            manifold, v, {"depth": depths(parents)[nodes]}, points=400, tries=5, base_points=5, clusters=nodes, seed=0
        )
        signal_and_noise(manifold, v, v)
        tree_test(manifold, v, points=300, draws=99, seed=0)
        node_metrics(manifold, v, nodes, parents, draws=99, seed=0)
        some = slice(0, 2000)
        level_metrics(manifold, v[some], nodes[some], parents, draws=99, seed=0)
        print(f"| {space} | {time.perf_counter() - start:.0f} | {peak_mib():.0f} | {before:.0f} |", flush=True)


def peak_mib() -> float:
    """Of this process so far, libraries included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20, help="trials for each cell")
    parser.add_argument("--latents", type=int, default=300, help="latents that the test looks at")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--no-table", action="store_true", help="time and memory alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{date.today()}, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    if not arguments.only:
        time_and_memory(10_000)
    if not arguments.no_table:
        level_and_power(arguments.trials, arguments.latents, arguments.only)


if __name__ == "__main__":
    main()
