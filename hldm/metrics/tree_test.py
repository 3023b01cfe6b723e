"""A test of hierarchy that needs no labels: are latents more like a tree than clouds with the same radii?

A low δ alone says little: few dimensions, heavy-tailed radii, curvature and clusters all lower it. So it is compared
with what it is in clouds that keep all of that and lose the directions, which is where a tree would be.
Legend: n latents (n, C, *positions) in normal coordinates; `w` the same about their geometric median, flat (n, D).
"""

import math
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Generator, Tensor

from hldm.geometry import Manifold
from hldm.metrics.distances import around, frechet_means, geometric_median, pairwise_dist

QUADRUPLES = 10_000
NEIGHBOURS = (2, 4, 8, 16)
CONNECTIONS = 0.05
COUNTS = 200
CUTS = 4
SHAPE_STEPS = 8
TOLERANCE = 0.05
Draw = Callable[[], Tensor]
Quadruples = NDArray[np.int64]
Distances = NDArray[np.float64]


@torch.no_grad()
def tree_test(
    manifold: Manifold, v: Tensor, *, points: int, draws: int, seed: int, until: float = 1.0
) -> dict[str, float]:
    """The mean δ of quadruples against two nulls, with Monte-Carlo p-values (observed latents count as one draw).

    Null *cloud*: one cloud with the latents' own distances to their geometric median and random directions of the same
    covariance. A cluster is one level of a tree, so clusters are found too.
    Null *clusters*: as many clusters as the silhouette finds, each a cloud of that kind about a centre, and the centres
    such a cloud themselves. Flat clusters are within it; what is left is nesting. Clumps within clusters, and clusters
    in clumps, also have near neighbours, and along a branch no part is far from the rest: both are looked at too, and
    what is most like a tree counts. Where the silhouette is nearly as good for other numbers of clusters, the one whose
    p is largest counts.

    Args:
        v: (N, C, *positions) normal coordinates of posterior means.
        points: how many latents it looks at, drawn without replacement; all of them where there are fewer.
        draws: of each null; p is at least 1/(draws + 1).
        seed: of all that is drawn.
        until: once quartet_p is known to be above, nothing more is looked at. What was not has p = 1.

    Returns:
        quartet_<null>_delta: the mean over quadruples, see `quartet_delta`, for the null *clusters* over those that
            clusters leave open; quartet_<null>_null: the mean of it over draws; _effect, _p: see `against_null`.
        quartet_clusters_neighbours, quartet_clusters_connections: `neighbour_distance` and `connection_distance` as
            distances; with _null: of the draws.
        quartet_p: the larger of both, the test of hierarchy: ≤ .05 says that the latents are nested.
        clusters, clusters_silhouette: how many the silhouette finds, and its mean.
        quartet_points: how many latents were looked at; quartet_dimension: of how many dimensions.
    """
    generator = Generator().manual_seed(seed)
    manifold = deepcopy(manifold).cpu()
    v = v.detach().double().cpu()
    v = v[torch.randperm(len(v), generator=generator)[:points]]
    v = v.reshape(*v.shape[:2], -1)
    w = around(manifold, v, geometric_median(manifold, v))
    dist = distances(manifold, w)
    found = {"quartet_points": float(len(w)), "quartet_dimension": float(w[0].numel())}
    if len(w) < 8 or dist.max() <= 1e-9 * float(v.flatten(1).norm(dim=1).max()) + 1e-12:
        return found | nothing_found()
    cuts = silhouette_clusters(dist)
    found |= nothing_found() | {"clusters": float(cuts[0][0].max() + 1), "clusters_silhouette": cuts[0][1]}
    numbers = np.random.default_rng(seed)

    def test(draw: Draw, kinds: list[Quadruples], **others: Callable[[Distances], float]) -> dict[str, float]:
        clouds = (dist if first else distances(manifold, draw().view_as(w)) for first in [True] + [False] * draws)
        rows = [[*(quartet_delta(d, kind) for kind in kinds), *(other(d) for other in others.values())] for d in clouds]
        return against_null(np.array(rows), [*others])

    results = {"cloud": test(cloud(w.flatten(1), generator), [distinct_quadruples(len(w), numbers)])}
    for labels, _ in cuts if results["cloud"]["p"] <= until else ():
        draw = clusters(manifold, w, torch.from_numpy(labels), generator)
        kinds = open_quadruples(labels, numbers)
        of_cut = test(draw, kinds, neighbours=neighbour_distance, connections=connection_distance)
        results["clusters"] = max(results.get("clusters", of_cut), of_cut, key=lambda result: result["p"])
        if of_cut["p"] > until:
            break
    for null, result in results.items():
        found |= {f"quartet_{null}_{what}": value for what, value in result.items()}
    return found | {"quartet_p": max(found["quartet_cloud_p"], found["quartet_clusters_p"])}


def against_null(rows: Distances, others: list[str]) -> dict[str, float]:
    """The first row (1 + draws, columns) against the others: less is more like a tree.

    Each column is measured in standard deviations over all rows, and a row's own most tree-like column is what counts.
    All rows are treated alike, so that p is exact where the latents are a draw of the null.

    Args:
        rows: `quartet_delta` of one or two kinds of quadruples, then logarithms of distances.
        others: names of the latter.
    """
    kinds = rows.shape[1] - len(others)
    spread = rows.std(axis=0)
    scores = ((rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1)).min(axis=1)
    rest = rows[1:].std(axis=0)
    effects = (rows[1:].mean(axis=0) - rows[0]) / np.where(rest > 0, rest, np.inf)
    found = {"delta": float(rows[0, :kinds].mean()), "null": float(rows[1:, :kinds].mean())}
    for name, column in zip(others, rows.T[kinds:], strict=True):
        found |= {name: math.exp(column[0]), f"{name}_null": math.exp(column[1:].mean())}
    return found | {"effect": float(effects.max()), "p": float((scores <= scores[0] + 1e-12).mean())}


def nothing_found() -> dict[str, float]:
    """What too few latents, or latents that are all equal, give: no evidence of anything."""
    found = {"clusters": 1.0, "clusters_silhouette": 0.0, "quartet_p": 1.0}
    for name in ("neighbours", "connections"):
        found |= {f"quartet_clusters_{name}": 0.0, f"quartet_clusters_{name}_null": 0.0}
    for null in ("cloud", "clusters"):
        found |= {f"quartet_{null}_{what}": 0.0 for what in ("delta", "null", "effect")} | {f"quartet_{null}_p": 1.0}
    return found


def distances(manifold: Manifold, w: Tensor) -> NDArray[np.float64]:
    """(n, n) distances of latents (n, C, P): `pairwise_dist`, in flat space by one product, 1e-8 of a radius off."""
    if not manifold.is_flat:
        return pairwise_dist(manifold, w).numpy()
    flat = w.flatten(1)
    return torch.cdist(flat, flat, compute_mode="use_mm_for_euclid_dist").fill_diagonal_(0).numpy()


def neighbour_distance(dist: NDArray[np.float64]) -> float:
    """Mean over latents and k in `NEIGHBOURS` of the logarithm of the distance to the k-th nearest latent.

    As of the mean distance over the k (a geometric mean), all scales count alike: clumps of three and of thirty
    shorten it, and so does anything of fewer dimensions than its null.
    """
    orders = [k for k in NEIGHBOURS if k < len(dist)]
    nearest = np.sort(np.partition(dist, orders[-1], axis=1)[:, : orders[-1] + 1], axis=1)[:, orders]
    return mean_log(nearest, dist)


def connection_distance(dist: NDArray[np.float64]) -> float:
    """Mean logarithm of the longest edges of the minimum spanning tree: a twentieth as many as latents, at least one.

    These are the gaps between what lies apart. Where clusters are nodes of a tree each has a neighbour one edge away,
    however far out it is; a cloud of centres has some that are far from all others.
    """
    edges = linkage(squareform(dist, checks=False), "single")[:, 2]
    return mean_log(edges[-max(1, round(CONNECTIONS * len(dist))) :], dist)


def mean_log(lengths: NDArray[np.float64], dist: NDArray[np.float64]) -> float:
    """Mean logarithm of some distances. Latents on top of each other count as 1e-6 of the mean distance."""
    return float(np.log(np.maximum(lengths, 1e-6 * dist.mean())).mean())


def quartet_delta(dist: NDArray[np.float64], quadruples: Quadruples) -> float:
    """Mean over quadruples of (largest − middle)/(largest − smallest) of the three sums d_ij + d_kl.

    The mean of a δ plot, Holland et al. (2002): 0 where each quadruple lies on a tree with an inner edge, about ½ where
    there is nothing but noise. No unit, and no diameter that one far point decides.

    Args:
        dist: (n, n) distances.
        quadruples: (4, M) indices, different within each.
    """
    i, j, k, l = quadruples  # noqa: E741  # the names that the four-point condition has
    a, b, c = dist[i, j] + dist[k, l], dist[i, k] + dist[j, l], dist[i, l] + dist[j, k]
    largest, smallest = np.maximum(np.maximum(a, b), c), np.minimum(np.minimum(a, b), c)
    middle, spread = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c)), largest - smallest
    return float(np.mean(np.divide(largest - middle, spread, out=np.zeros_like(spread), where=spread > 0)))


def distinct_quadruples(n: int, generator: np.random.Generator, count: int = QUADRUPLES) -> Quadruples:
    """(4, about `count`) indices below n ≥ 4, the four of a column being different."""
    quadruples = generator.integers(0, n, (4, count))
    return quadruples[:, (np.diff(np.sort(quadruples, axis=0), axis=0) > 0).all(axis=0)]


def open_quadruples(labels: NDArray[np.int64], generator: np.random.Generator) -> list[Quadruples]:
    """Two kinds of (4, at most `QUADRUPLES`) indices whose tree does not follow from the clusters they are in.

    Two of one cluster and two others are joined already. What is left are three or four of one cluster, which see
    what is within clusters, and four of four clusters, which see how these lie: flat clusters show noise alone. A kind
    of which there are none is left out.

    Args:
        labels: (n,), the cluster of each latent.
    """
    quadruples = distinct_quadruples(len(labels), generator, 10 * QUADRUPLES)
    of_cluster = np.sort(labels[quadruples], axis=0)
    same = of_cluster[1:] == of_cluster[:-1]
    equal = same.sum(axis=0)  # 0: four clusters; 1: two of one; 2: three of one, or two and two; 3: all of one
    kinds = [quadruples[:, kept][:, :QUADRUPLES] for kept in ((equal >= 2) & same[1], equal == 0)]
    return [kind for kind in kinds if kind.shape[1]]


def silhouette_clusters(dist: NDArray[np.float64]) -> list[tuple[NDArray[np.int64], float]]:
    """Cuts of Ward's tree with the largest mean silhouettes (Rousseeuw (1987)), the best one first.

    Of cuts into 2 … n/2 clusters, at most `COUNTS` numbers of them in equal ratios: the `CUTS` best, as two flat
    clusters that happen to lie close are one to the best cut and would look nested in it; and the best of each octave
    (2 and 3, 4 to 7, …), as the silhouette hardly says how many clusters there are where they overlap, and cut in too
    many, they are nearer to each other than clusters that lie anywhere. All are within `TOLERANCE` of the best.

    Returns:
        Labels (n,) and the silhouette of each.
    """
    tree = linkage(squareform(dist, checks=False), "ward")
    found = []
    for count in np.unique(np.geomspace(2, len(dist) // 2, COUNTS).round()):
        labels = fcluster(tree, int(count), "maxclust").astype(np.int64) - 1
        found.append((labels, float(silhouettes(dist @ np.eye(labels.max() + 1)[labels], labels).mean())))
    found.sort(key=lambda cut: -cut[1])
    octaves = [int(math.log2(labels.max() + 1)) for labels, _ in found]
    kept = [cut for i, cut in enumerate(found) if i < CUTS or octaves[i] not in octaves[:i]]
    return [cut for cut in kept if cut[1] >= found[0][1] - TOLERANCE]


def silhouettes(sums: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Silhouette (n,) of each latent: (b − a)/max(a, b), a its mean distance within, b to the nearest other cluster.

    Args:
        sums: (n, clusters) of distances from each latent to each cluster.
        labels: int64 (n,).
    """
    rows, sizes = np.arange(len(labels)), np.bincount(labels, minlength=sums.shape[1])
    own = sizes[labels]
    within = sums[rows, labels] / np.maximum(own - 1, 1)
    means = np.where(sizes > 0, sums / np.maximum(sizes, 1), np.inf)
    means[rows, labels] = np.inf
    nearest = means.min(axis=1)
    larger = np.maximum(within, nearest)
    # a cluster of one has silhouette 0, and so has a latent on top of all others
    defined = (own > 1) & (larger > 0) & np.isfinite(nearest)
    return np.where(defined, (nearest - within) / np.where(defined, larger, 1), 0.0)


def cloud(w: Tensor, generator: Generator, groups: Tensor | None = None) -> Draw:
    """Draws of (n, D): own radii, random directions of the same covariance.

        x = |Σ^{-1/2} w| Σ^{1/2} u,   u uniform on the sphere;   then |x| is replaced, rank by rank, by |w|

    which is exact for elliptical laws of any tails. Σ is Tyler's (1987) shape, the covariance of w/|Σ^{-1/2} w|, which
    no tail enters, shrunk to the identity as Ledoit & Wolf (2004) do: in many dimensions a sample's is far too uneven.

    Args:
        groups: int64 (n,): radii stay within their group.
    """
    n, dim = w.shape
    radius = w.norm(dim=1)
    vectors, scales, whitened = torch.eye(dim, dtype=w.dtype), torch.ones(dim, dtype=w.dtype), radius
    for _ in range(SHAPE_STEPS):
        values, vectors = torch.linalg.eigh(ledoit_wolf(w / whitened.clamp(min=1e-12).unsqueeze(1) * math.sqrt(dim)))
        scales = (values / values.mean()).clamp(min=1e-6).sqrt()
        whitened = (w @ vectors / scales).norm(dim=1)
    group = np.zeros(n) if groups is None else groups.numpy()
    own = torch.from_numpy(np.lexsort((radius.numpy(), group)))

    def draw() -> Tensor:
        u = torch.randn(n, dim, generator=generator, dtype=w.dtype)
        x = (u * (whitened / u.norm(dim=1)).unsqueeze(1) * scales) @ vectors.T
        length = x.norm(dim=1)
        order = torch.from_numpy(np.lexsort((length.numpy(), group)))
        factors = torch.empty_like(length)
        factors[order] = radius[own] / length[order].clamp(min=1e-12)
        return x * factors.unsqueeze(1)

    return draw


def clusters(manifold: Manifold, w: Tensor, labels: Tensor, generator: Generator) -> Draw:
    """Draws of latents (n, C, P): each cluster a cloud about its centre, the centres a cloud too.

    Means of a few latents scatter about the centres that these were drawn about, so draws of the centres are made
    narrower by as much: without it flat clusters would be nearer to each other than their draws are.
    """
    centres = frechet_means(manifold, w, labels)
    all_of_them = torch.zeros(len(centres), dtype=torch.long)
    middle = frechet_means(manifold, centres, all_of_them)
    centres, w = around(manifold, centres, middle), around(manifold, w, middle)
    of_centres, spread, _ = clouds_about_means(manifold, centres, all_of_them, generator)
    of_rest, _, scatter = clouds_about_means(manifold, around(manifold, w, centres[labels]), labels, generator)
    noise = scatter * float((1 / labels.bincount()).mean())
    narrower = math.sqrt(max(0.0, 1 - noise / spread)) if spread else 1.0
    return lambda: manifold.add_normal(narrower * of_centres().view_as(centres)[labels], of_rest().view_as(w), dim=1)


def clouds_about_means(
    manifold: Manifold, w: Tensor, groups: Tensor, generator: Generator
) -> tuple[Draw, float, float]:
    """`cloud` of latents (n, C, P) that are given about the mean of their own group.

    Squares of distances to the mean of m latents are 1 − a/m of those to the centre that they were drawn about, so
    draws are made wider; without it draws of small clusters would be tighter than the clusters. a = 1 in flat space and
    1/h in a ball of dimension n, h the mean over latents of (1 + (n − 1) s coth s)/n, s = √c·|w|: this is the Hessian
    of half the squared distance, and where it is steep a mean scatters less.

    Returns:
        the draw; the mean square of what it draws; and m times the mean square by which the mean of m latents misses
        the centre: the second over h².
    """
    draw, sizes = cloud(w.flatten(1), generator, groups), groups.bincount()[groups]
    total = share = scatter = 0.0
    for leaf, part in manifold.pieces(w, 1):
        squares = part.unflatten(1, (-1, leaf.ball_dim)).square().sum(2)  # (n, balls, P)
        reach = (leaf.curvatures() * squares).sqrt().clamp(min=1e-6)
        hessian = ((1 + (leaf.ball_dim - 1) * reach / reach.tanh()) / leaf.ball_dim).mean(0)
        total, share = total + float(squares.sum()), share + float((squares.sum(0) / hessian).sum())
        scatter += float((squares.sum(0) / hessian.square()).sum())
    stretch = (1 - share / max(total, 1e-300) / sizes.double()).clamp(min=0.5).rsqrt().unsqueeze(1)
    square = float((w.flatten(1) * stretch).square().sum(1).mean())
    return lambda: draw() * stretch, square, square * scatter / max(total, 1e-300)


def ledoit_wolf(x: Tensor) -> Tensor:
    """Second moments (D, D) of x (n, D), shrunk to a multiple of the identity: Ledoit & Wolf (2004), lemma 3.3."""
    n, dim = x.shape
    moments, eye = x.T @ x / n, torch.eye(dim, dtype=x.dtype)
    target = moments.trace() / dim * eye
    spread = (moments - target).square().sum()
    noise = (x.square().sum(1).square().mean() - moments.square().sum()) / n
    share = float((noise / spread).clamp(0, 1)) if spread > 0 else 1.0
    return (1 - share) * moments + share * target
