"""Level and power of the test of hierarchy on latents whose structure is known, and time and memory of the metrics.

    python benchmarks/hierarchy.py --trials 10         all tables, half an hour of one core
    python benchmarks/hierarchy.py                     twice as many trials
    python benchmarks/hierarchy.py --only lognormal    rows whose name contains a word
    python benchmarks/hierarchy.py --trials 0 --no-time   the table of the trials that are there

A cell is the share of trials with p ≤ .05: of `quartet_p`, the test, and in brackets of `quartet_cloud_p`, which takes
clusters for the one level of a tree that they are. Where there is no tree it should be at most .05, where there is one
at least .80, if its distances show it: the second table says how far they do. Latents and draws are as many as
conf/metrics has. Trials are done in rounds over all cells and written to a file as they come: what was stopped goes on
where it was.
"""

import argparse
import json
import math
import platform
import resource
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from hldm.data.trees import complete_tree, depths
from hldm.geometry import Euclidean, FixedCurvature, Manifold, PoincareBall
from hldm.metrics import latent_hierarchy, level_metrics, node_metrics, signal_and_noise, tree_test
from hldm.metrics.distances import around, pairwise_dist
from hldm.metrics.tree_metrics import mean_average_precision, tree_distances

SPACES: dict[str, tuple[Manifold, tuple[int, ...]]] = {
    "R²": (Euclidean(2), ()),
    "H²": (PoincareBall(2, FixedCurvature(1.0)), ()),
    "R⁸": (Euclidean(8), ()),
    "H⁸": (PoincareBall(8, FixedCurvature(1.0)), ()),
    "R⁵⁰": (Euclidean(50), ()),
    "R²⁵⁶": (Euclidean(256), ()),
    "(H⁴)¹⁶": (PoincareBall(4, FixedCurvature(1.0)), (4, 4)),
}
PLANES = ("R²", "H²")
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


def clusters(
    manifold: Manifold, positions: tuple[int, ...], n: int, generator: Generator, count: int = 10, width: float = 0.3
) -> Tensor:
    """Centres drawn from a Gaussian, and latents `width` about them."""
    centres = normal(generator, count, manifold.channels, *positions)
    own = torch.randint(count, (n,), generator=generator)
    return manifold.add_normal(centres[own], width * normal(generator, n, *centres.shape[1:]), dim=1)


class Tree(NamedTuple):
    """A tree of known nodes, with latents at random nodes."""

    nodes: Tensor
    """(K, C, *positions): normal coordinates of the nodes that have latents."""
    dist: NDArray[np.float64]
    """(K, K): edges between them."""
    noise: float
    """Standard deviation of latents about their node."""


Grow = Callable[[Manifold, tuple[int, ...], Generator], Tree]


def about(grow: Grow, manifold: Manifold, positions: tuple[int, ...], n: int, generator: Generator) -> Tensor:
    """Latents about the nodes of a tree."""
    tree = grow(manifold, positions, generator)
    own = torch.randint(len(tree.nodes), (n,), generator=generator)
    return manifold.add_normal(tree.nodes[own], tree.noise * normal(generator, n, *tree.nodes.shape[1:]), dim=1)


def walk(
    manifold: Manifold,
    positions: tuple[int, ...],
    generator: Generator,
    depth: int = 5,
    children: int = 2,
    shrink: float = 1.0,
    noise: float = 0.5,
    leaves: bool = False,
) -> Tree:
    """A branching walk: a node is its parent and a Gaussian step, `shrink` as long at each level.

    All nodes have latents, or the leaves alone.
    """
    parents = complete_tree(depth, children)
    below = depths(parents)
    v = torch.zeros(len(parents), manifold.channels, *positions, dtype=torch.float64)
    for level in range(1, depth + 1):
        nodes = torch.nonzero(below == level)[:, 0]
        step = shrink ** (level - 1) * normal(generator, len(nodes), *v.shape[1:])
        v[nodes] = manifold.add_normal(v[parents[nodes]], step, dim=1)
    seen = torch.nonzero(below == depth)[:, 0] if leaves else torch.arange(len(v))
    return Tree(v[seen], tree_distances(parents)[np.ix_(seen.numpy(), seen.numpy())], noise)


def laid_out(
    manifold: Manifold,
    positions: tuple[int, ...],
    generator: Generator,
    depth: int = 5,
    edge: float = 1.0,
    shrink: float = 1.0,
) -> Tree:
    """A binary tree drawn in the plane, flat or hyperbolic: edges of a node at equal angles (Sarkar 2011), both .2 off.

    Edges are `edge` long below the root and `shrink` times as long at each level; latents a tenth of the last about all
    nodes.
    """
    assert (manifold.channels, positions) == (2, ()), "a drawing has two dimensions"
    parents = complete_tree(depth, 2)
    below = depths(parents)
    v = torch.zeros(len(parents), 2, dtype=torch.float64)
    turn = 2 * math.pi * torch.rand(1, generator=generator, dtype=torch.float64)
    for level in range(1, depth + 1):
        nodes = torch.nonzero(below == level)[:, 0]
        above = parents[nodes]
        if level == 1:
            angle = turn + math.pi * torch.arange(2)
        else:
            back = around(manifold, v[parents[above]].unsqueeze(2), v[above].unsqueeze(2))[:, :, 0]
            angle = torch.atan2(back[:, 1], back[:, 0]) + 2 * math.pi / 3 * (1 + torch.arange(len(nodes)) % 2)
        angle = angle + 0.2 * normal(generator, len(nodes))
        length = edge * shrink ** (level - 1) * (0.2 * normal(generator, len(nodes))).exp()
        step = length.unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], dim=1)
        v[nodes] = manifold.add_normal(v[above], step, dim=1)
    return Tree(v, tree_distances(parents), 0.1 * edge * shrink ** (depth - 1))


def half_circle(manifold: Manifold, positions: tuple[int, ...], n: int, generator: Generator) -> Tensor:
    """Half a circle of radius 2 in the first two coordinates, and .05 about it."""
    v = 0.05 * normal(generator, n, manifold.channels * math.prod(positions))
    angle = math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
    v[:, :2] += 2 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return v.view(n, manifold.channels, *positions)


def sphere(manifold: Manifold, positions: tuple[int, ...], n: int, generator: Generator) -> Tensor:
    """A sphere of radius 2 in the first three coordinates, a circle where there are two, and .05 about it."""
    v = 0.05 * normal(generator, n, manifold.channels * math.prod(positions))
    x = normal(generator, n, min(3, v.shape[1]))
    v[:, : x.shape[1]] += 2 * x / x.norm(dim=1, keepdim=True)
    return v.view(n, manifold.channels, *positions)


WITHOUT: dict[str, Case] = {
    "Gaussian": gaussian,
    "Gaussian, spectrum k^−0.7": partial(gaussian, slope=0.7),
    "Student t, 3 degrees": heavy_tailed,
    "lognormal radii": partial(heavy_tailed, law="lognormal"),
    "4 clusters": partial(clusters, count=4),
    "10 clusters": clusters,
    "30 clusters": partial(clusters, count=30),
    "40 clusters, twice as wide": partial(clusters, count=40, width=0.6),
    "100 clusters": partial(clusters, count=100),
}
WALKS: dict[str, Grow] = {
    "tree, binary, depth 5, steps alike": walk,
    "tree, binary, depth 5, steps × .7, leaves": partial(walk, shrink=0.7, leaves=True, noise=0.3),
    "tree, ternary, depth 3, steps × .6": partial(walk, depth=3, children=3, shrink=0.6, noise=0.3),
    "tree, ternary, depth 3, steps × .4": partial(walk, depth=3, children=3, shrink=0.4, noise=0.1),
    "tree, ternary, depth 3, steps × .2": partial(walk, depth=3, children=3, shrink=0.2, noise=0.02),
}
DRAWINGS: dict[str, Grow] = {
    "drawn in the plane, edges 2": partial(laid_out, edge=2.0),
    "drawn in the plane, edges 1": laid_out,
    "drawn in the plane, edges .5": partial(laid_out, edge=0.5),
    "drawn in the plane, edges .25": partial(laid_out, edge=0.25),
    "drawn in the plane, edges 1, × .5": partial(laid_out, shrink=0.5),
    "drawn in the plane, edges 1, × .4": partial(laid_out, shrink=0.4),
}
WITH: dict[str, Case] = {name: partial(about, grow) for name, grow in WALKS.items()}
LAID_OUT: dict[str, Case] = {name: partial(about, grow) for name, grow in DRAWINGS.items()}
OUTSIDE: dict[str, Case] = {"half a circle": half_circle, "a sphere": sphere}
GROUPS = {
    "no tree: at most .05": WITHOUT,
    "a tree: at least .80": WITH,
    "a tree that is drawn, binary, depth 5: at least .80": LAID_OUT,
    "neither a tree nor in the null hypothesis": OUTSIDE,
}
Done = dict[tuple[str, str], dict[int, tuple[float, float]]]


def load(file: Path) -> Done:
    """(case, space) → trial → (`quartet_p`, `quartet_cloud_p`) of the trials that a file has."""
    done: Done = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        row = json.loads(line)
        done.setdefault((row["case"], row["space"]), {})[row["trial"]] = (row["p"], row["cloud_p"])
    return done


def fits(name: str, space: str) -> bool:
    """Whether there is this case in this space: drawings are plane."""
    return name not in DRAWINGS or space in PLANES


def seeded(trial: int) -> Generator:
    """What a case of this trial is drawn with."""
    return Generator().manual_seed(1000 + trial)


def level_and_power(trials: int, n: int, draws: int, only: str, spaces: list[str], file: Path) -> None:
    """Do the trials that the file lacks, and print the table of all that it has."""
    done = load(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    for trial in range(trials):
        for cases in GROUPS.values():
            for name, case in cases.items():
                for space, (manifold, positions) in SPACES.items():
                    of_cell = done.setdefault((name, space), {})
                    if only not in name or space not in spaces or trial in of_cell or not fits(name, space):
                        continue
                    v = case(manifold, positions, n, seeded(trial))
                    found = tree_test(manifold, v, points=n, draws=draws, seed=trial, until=0.05)
                    of_cell[trial] = (found["quartet_p"], found["quartet_cloud_p"])
                    row = {"case": name, "space": space, "trial": trial, "p": of_cell[trial][0]}
                    with file.open("a", encoding="utf-8") as lines:
                        lines.write(json.dumps(row | {"cloud_p": of_cell[trial][1]}, ensure_ascii=False) + "\n")
    print(f"\n| {n} latents, {draws} draws of each null | " + " | ".join(SPACES) + " |\n|---|" + "---:|" * len(SPACES))
    for title, cases in GROUPS.items():
        print(f"| **{title}** |" + " |" * len(SPACES))
        for name in cases:
            cells = [done.get((name, space), {}) for space in SPACES]
            if any(cells):
                print(f"| {name} | " + " | ".join(map(written, cells)) + " |")
        tests = [p <= 0.05 for name in cases for space in SPACES for p, _ in done.get((name, space), {}).values()]
        print(f"| all: {sum(tests)} of {len(tests)} trials |" + " |" * len(SPACES))
    counts = sorted({len(of_cell) for of_cell in done.values()})
    print(f"\nTrials of a cell: {counts[0]} to {counts[-1]}." if counts else "\nNo trials yet.")


def written(cell: dict[int, tuple[float, float]]) -> str:
    """Shares of trials with p ≤ .05, of the test and in brackets of its first null alone."""
    if not cell:
        return "–"
    shares = [sum(p <= 0.05 for p in ps) / len(cell) for ps in zip(*cell.values(), strict=True)]
    return f"{shares[0]:.2f} ({shares[1]:.2f})"


def nearness(trials: int, only: str, spaces: list[str]) -> None:
    """How far the trees of the trials are in the distances between their nodes, where 1 is all of it."""
    print("\n| mean average precision of the nodes | " + " | ".join(spaces) + " |\n|---|" + "---:|" * len(spaces))
    for name, grow in (WALKS | DRAWINGS).items():
        if only not in name:
            continue
        cells = []
        for space in spaces:
            manifold, positions = SPACES[space]
            if not fits(name, space):
                cells.append("–")
                continue
            trees = [grow(manifold, positions, seeded(trial)) for trial in range(trials)]
            found = [mean_average_precision(pairwise_dist(manifold, t.nodes).numpy(), t.dist) for t in trees]
            cells.append(f"{fmean(found):.2f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def time_and_memory(n: int) -> None:
    """All metrics of n latents of a tree, as an evaluation computes them."""
    print(f"\n| {n} latents of 364 nodes | seconds | peak memory of the process, MiB | before |\n|---|---:|---:|---:|")
    parents = complete_tree(5, 3)
    for space in ("H⁸", "(H⁴)¹⁶"):
        manifold, positions = SPACES[space]
        generator = Generator().manual_seed(0)
        nodes = torch.randint(len(parents), (n,), generator=generator)
        centres = walk(manifold, positions, generator, children=3).nodes
        v = (centres[nodes] + 0.2 * normal(generator, n, *centres.shape[1:])).float()
        before, start = peak_mib(), time.perf_counter()
        latent_hierarchy(
            manifold, v, {"depth": depths(parents)[nodes]}, points=400, tries=5, base_points=5, clusters=nodes, seed=0
        )
        signal_and_noise(manifold, v, v)
        tree_test(manifold, v, points=200, draws=39, seed=0)
        node_metrics(manifold, v, nodes, parents, draws=39, seed=0)
        some = slice(0, 2000)
        level_metrics(manifold, v[some], nodes[some], parents, draws=39, seed=0)
        print(f"| {space} | {time.perf_counter() - start:.0f} | {peak_mib():.0f} | {before:.0f} |", flush=True)


def peak_mib() -> float:
    """Of this process so far, libraries included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20, help="trials for each cell")
    parser.add_argument("--latents", type=int, default=200, help="latents that the test looks at")
    parser.add_argument("--draws", type=int, default=39, help="of each null")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--spaces", nargs="*", default=list(SPACES), help="columns that are done now")
    parser.add_argument("--file", type=Path, help="where trials are written, outputs/hierarchy-<latents>-<draws>.jsonl")
    parser.add_argument("--no-table", action="store_true", help="time and memory alone")
    parser.add_argument("--no-time", action="store_true", help="the table alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{date.today()}, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    if not (arguments.only or arguments.no_time):
        time_and_memory(10_000)
    if not arguments.no_table:
        n, draws = arguments.latents, arguments.draws
        file = arguments.file or Path(f"outputs/hierarchy-{n}-{draws}.jsonl")
        level_and_power(arguments.trials, n, draws, arguments.only, arguments.spaces, file)
        if arguments.trials:
            nearness(arguments.trials, arguments.only, arguments.spaces)


if __name__ == "__main__":
    main()
