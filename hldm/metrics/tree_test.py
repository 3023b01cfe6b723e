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
from hldm.metrics.distances import around, geometric_median, pairwise_dist
from hldm.metrics.resampling import with_control

QUADRUPLES = 10_000
MOST_CLUSTERS = 64
Draw = Callable[[], Tensor]


@torch.no_grad()
def tree_test(manifold: Manifold, v: Tensor, *, points: int, draws: int, seed: int) -> dict[str, float]:
    """The mean δ of quadruples against two nulls, with Monte-Carlo p-values (observed latents count as one draw).

    Null *cloud*: one cloud with the latents' own distances to their geometric median and random directions of the same
    covariance. A cluster is one level of a tree, so clusters are found too.
    Null *clusters*: as many clusters as the silhouette finds, each a cloud of that kind about a centre, and the centres
    such a cloud themselves. Flat clusters are within it; what is left is nesting.

    Args:
        v: (N, C, *positions) normal coordinates of posterior means.
        points: how many latents it looks at, drawn without replacement; all of them where there are fewer.
        draws: of each null; p is at least 1/(draws + 1).
        seed: of all that is drawn.

    Returns:
        quartet_delta: the mean over quadruples, see `quartet_delta`; quartet_<null>: its mean over the null's draws;
            quartet_<null>_effect: how many standard deviations of the null the latents lie below it.
        quartet_<null>_p: share of draws at most as large, the latents' own counted.
        quartet_p: the larger of both, the test of hierarchy: ≤ .05 says that the latents are nested.
        clusters, clusters_silhouette: how many the silhouette finds, and its mean.
        quartet_points: how many latents were looked at.
    """
    generator = Generator().manual_seed(seed)
    manifold = deepcopy(manifold).cpu()
    v = v.detach().double().cpu()
    v = v[torch.randperm(len(v), generator=generator)[:points]]
    v = v.reshape(*v.shape[:2], -1)
    w = around(manifold, v, geometric_median(manifold, v))
    dist = pairwise_dist(manifold, w).numpy()
    found = {"quartet_points": float(len(w))}
    if len(w) < 8 or dist.max() <= 1e-9 * float(v.flatten(1).norm(dim=1).max()) + 1e-12:
        return found | nothing_found()
    labels, silhouette = silhouette_clusters(dist)
    found |= {"clusters": float(labels.max() + 1), "clusters_silhouette": silhouette}
    quadruples = distinct_quadruples(len(w), np.random.default_rng(seed))
    own = found["quartet_delta"] = quartet_delta(dist, quadruples)
    nulls: dict[str, Draw] = {
        "cloud": cloud(w.flatten(1), generator),
        "clusters": clusters(manifold, w, torch.from_numpy(labels), generator),
    }
    for null, draw in nulls.items():
        drawn = [quartet_delta(pairwise_dist(manifold, draw().view_as(w)).numpy(), quadruples) for _ in range(draws)]
        of_null = with_control("quartet", own, drawn, -1)
        found[f"quartet_{null}"] = of_null["quartet_null"]
        found |= {f"quartet_{null}_{what}": of_null[f"quartet_{what}"] for what in ("effect", "p")}
    return found | {"quartet_p": max(found["quartet_cloud_p"], found["quartet_clusters_p"])}


def nothing_found() -> dict[str, float]:
    """What too few latents, or latents that are all equal, give: no evidence of anything."""
    found = {"clusters": 1.0, "clusters_silhouette": 0.0, "quartet_delta": 0.0, "quartet_p": 1.0}
    for null in ("cloud", "clusters"):
        found |= {f"quartet_{null}": 0.0, f"quartet_{null}_effect": 0.0, f"quartet_{null}_p": 1.0}
    return found


def quartet_delta(dist: NDArray[np.float64], quadruples: NDArray[np.int64]) -> float:
    """Mean over quadruples of (largest − middle)/(largest − smallest) of the three sums d_ij + d_kl of *squares*.

    The δ plot's mean of Holland et al. (2002): 0 where each quadruple lies on a tree with an inner edge, about ½ where
    there is nothing but noise. Squared distances, because in flat space what differs between the three sums is then
    inner products alone: radii, however heavy their tails, cancel.

    Args:
        dist: (n, n) distances.
        quadruples: (4, M) indices, different within each.
    """
    i, j, k, l = quadruples  # noqa: E741  # the names that the four-point condition has
    squares = dist**2
    sums = np.sort(
        [squares[i, j] + squares[k, l], squares[i, k] + squares[j, l], squares[i, l] + squares[j, k]], axis=0
    )
    spread = sums[2] - sums[0]
    return float(np.mean(np.divide(sums[2] - sums[1], spread, out=np.zeros_like(spread), where=spread > 0)))


def distinct_quadruples(n: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """(4, about `QUADRUPLES`) indices below n ≥ 4, the four of a column being different."""
    quadruples = generator.integers(0, n, (4, QUADRUPLES))
    return quadruples[:, (np.diff(np.sort(quadruples, axis=0), axis=0) > 0).all(axis=0)]


def silhouette_clusters(dist: NDArray[np.float64]) -> tuple[NDArray[np.int64], float]:
    """The cut of Ward's tree with the largest mean silhouette (Rousseeuw (1987)): labels (n,) and that silhouette.

    Cuts into 2 … n/4 clusters, at most `MOST_CLUSTERS`.
    """
    tree = linkage(squareform(dist, checks=False), "ward")
    best = (np.zeros(len(dist), dtype=np.int64), -1.0)
    for count in range(2, min(MOST_CLUSTERS, len(dist) // 4) + 1):
        labels = fcluster(tree, count, "maxclust").astype(np.int64) - 1
        if (mean := float(silhouettes(dist @ np.eye(labels.max() + 1)[labels], labels).mean())) > best[1]:
            best = labels, mean
    return best


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


def cloud(w: Tensor, generator: Generator, groups: Tensor | None = None, stretch: float = 1.0) -> Draw:
    """Draws of (n, D): own radii, random directions of the same covariance.

        x = |Σ^{-1/2} w| Σ^{1/2} u,   u uniform on the sphere;   then |x| is replaced, rank by rank, by |w|

    which is exact for elliptical laws of any tails. Σ is the covariance of directions w/|w|, so that no tail enters it,
    shrunk to the identity as Ledoit & Wolf (2004) do: in many dimensions the sample's own is far too uneven.

    Args:
        groups: int64 (n,): radii stay within their group.
        stretch: factor of all radii.
    """
    n, dim = w.shape
    radius = w.norm(dim=1)
    directions = w / radius.clamp(min=1e-12).unsqueeze(1) * math.sqrt(dim)
    values, vectors = torch.linalg.eigh(ledoit_wolf(directions))
    scales = values.clamp(min=1e-10).sqrt()
    whitened = (w @ vectors / scales).norm(dim=1)
    group = np.zeros(n) if groups is None else groups.numpy()
    own = torch.from_numpy(np.lexsort((radius.numpy(), group)))

    def draw() -> Tensor:
        u = torch.randn(n, dim, generator=generator, dtype=w.dtype)
        x = (u * (whitened / u.norm(dim=1)).unsqueeze(1) * scales) @ vectors.T
        length = x.norm(dim=1)
        order = torch.from_numpy(np.lexsort((length.numpy(), group)))
        factors = torch.empty_like(length)
        factors[order] = stretch * radius[own] / length[order].clamp(min=1e-12)
        return x * factors.unsqueeze(1)

    return draw


def clusters(manifold: Manifold, w: Tensor, labels: Tensor, generator: Generator) -> Draw:
    """Draws of latents (n, C, P): each cluster a cloud about its centre, the centres a cloud too.

    Centres lie about their own mean, which shortens their radii by √(1 − 1/K); the draws undo it.
    """
    count = int(labels.max()) + 1
    centres = torch.cat([geometric_median(manifold, w[labels == index]) for index in range(count)])
    rest = around(manifold, w, centres[labels])
    stretch = math.sqrt(count / (count - 1)) if count > 1 else 1.0
    of_centres = cloud(centres.flatten(1), generator, stretch=stretch)
    of_rest = cloud(rest.flatten(1), generator, groups=labels)
    return lambda: manifold.add_normal(of_centres().view_as(centres)[labels], of_rest().view_as(w), dim=1)


def ledoit_wolf(x: Tensor) -> Tensor:
    """Second moments (D, D) of x (n, D), shrunk to a multiple of the identity: Ledoit & Wolf (2004), lemma 3.3."""
    n, dim = x.shape
    moments, eye = x.T @ x / n, torch.eye(dim, dtype=x.dtype)
    target = moments.trace() / dim * eye
    spread = (moments - target).square().sum()
    noise = (x.square().sum(1).square().mean() - moments.square().sum()) / n
    share = float((noise / spread).clamp(0, 1)) if spread > 0 else 1.0
    return (1 - share) * moments + share * target
