"""Numbers beside their null, and rank correlation where samples depend on each other: siblings, views of one object.

Dependent samples form clusters, and clusters are what is resampled and permuted. Counted one by one, five siblings of a
node give intervals that are too short and p-values that are too small.
Legend: N samples, G clusters.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

PERMUTATIONS = 500
BOOTSTRAPS = 500


def with_control(name: str, value: float, null: Sequence[float], sign: int = 1) -> dict[str, float]:
    """A number beside its null.

    Args:
        null: its values where there is no relation, one for each draw.
        sign: 1 where more is more like the tree, −1 where less is.

    Returns:
        name: the number; <name>_null: the mean of the null; <name>_effect: by how many standard deviations of the null
        it is more like the tree; <name>_p: share of draws at least as much like it, the observed number counted.
    """
    if not len(null):
        return {name: value}
    others = np.asarray(null)
    spread = float(others.std(ddof=1)) if len(others) > 1 else 0.0
    return {
        name: value,
        f"{name}_null": float(others.mean()),
        f"{name}_effect": sign * (value - float(others.mean())) / spread if spread > 1e-12 else 0.0,
        f"{name}_p": float((1 + (sign * others >= sign * value - 1e-12).sum()) / (1 + len(others))),
    }


def rank_correlation(x: Tensor, y: Tensor, *, seed: int, clusters: Tensor | None = None) -> dict[str, float]:
    """Spearman's ρ of two samples (N,), with an interval and what chance alone would give.

    Args:
        clusters: int64 (N,), which samples depend on each other; None: none does.

    Returns:
        spearman: ρ in [−1, 1]; 0 where either side is constant and there is no order to speak of.
        low, high: 95 % interval about Fisher's z. Its variance is (1 + ρ²/2)/(N − 3), Bonett & Wright (2000), or of a
            bootstrap over clusters, with Student's t for G − 1 degrees of freedom.
        null: the 95 % quantile of |ρ| over permutations.
        p: share of permutations with at least this |ρ|, the observed order counted as one of them. With clusters, whole
            clusters change places: y goes to the clusters as they were, in another order.
    """
    n = len(x)
    a, b = (side.detach().double().cpu().numpy() for side in (x, y))
    none = {"spearman": 0.0, "low": -1.0, "high": 1.0, "null": 0.0, "p": 1.0}
    if n < 4 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return none
    generator = np.random.default_rng(seed)
    rho = _spearman(a, b)
    centre = math.atanh(max(-1 + 1e-12, min(rho, 1 - 1e-12)))
    members = _members(n, clusters)
    if all(len(own) == 1 for own in members):
        half = 1.96 * math.sqrt((1 + rho**2 / 2) / (n - 3))
        ranks = _ranks(a), _ranks(b)
        null = np.array([ranks[0] @ generator.permutation(ranks[1]) for _ in range(PERMUTATIONS)])
    elif len(members) < 4:
        return none | {"spearman": rho}
    else:
        half = _bootstrap_half(a, b, members, generator)
        null = _cluster_null(a, b, members, generator)
    return {
        "spearman": rho,
        "low": math.tanh(centre - half),
        "high": math.tanh(centre + half),
        "null": float(np.quantile(np.abs(null), 0.95)),
        "p": float((1 + (np.abs(null) >= abs(rho) - 1e-12).sum()) / (1 + len(null))),
    }


def _members(n: int, clusters: Tensor | None) -> list[NDArray[np.int64]]:
    """The samples of each cluster."""
    if clusters is None:
        return [np.array([index]) for index in range(n)]
    _, sizes = torch.unique(clusters, return_counts=True)
    return [part.numpy() for part in clusters.argsort(stable=True).split(sizes.tolist())]


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks about their mean, of norm 1; 0 where all are equal."""
    ranks = stats.rankdata(values)
    ranks -= ranks.mean()
    return ranks / max(float(np.linalg.norm(ranks)), 1e-300)


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.clip(_ranks(a) @ _ranks(b), -1, 1))


def _bootstrap_half(
    a: NDArray[np.float64], b: NDArray[np.float64], members: list[NDArray[np.int64]], generator: np.random.Generator
) -> float:
    """Half the width of the 95 % interval of z, from clusters drawn with replacement."""
    count, zs = len(members), []
    for _ in range(BOOTSTRAPS):
        rows = np.concatenate([members[index] for index in generator.integers(0, count, count)])
        zs.append(math.atanh(max(-1 + 1e-12, min(_spearman(a[rows], b[rows]), 1 - 1e-12))))
    return float(stats.t.ppf(0.975, count - 1) * np.std(zs, ddof=1))


def _cluster_null(
    a: NDArray[np.float64], b: NDArray[np.float64], members: list[NDArray[np.int64]], generator: np.random.Generator
) -> NDArray[np.float64]:
    """ρ where the clusters' y have changed places. A cluster of another size takes them round and round."""
    null = []
    for _ in range(PERMUTATIONS):
        moved = np.empty_like(b)
        for to, source in enumerate(generator.permutation(len(members))):
            moved[members[to]] = np.resize(b[members[source]], len(members[to]))
        null.append(_spearman(a, moved))
    return np.array(null)
