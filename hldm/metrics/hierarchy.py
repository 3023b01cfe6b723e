"""Whether latents are arranged like a hierarchy, and whether curvature can act on them at all.

A low δ is no evidence by itself: independent Gaussians reach it in high dimension, and a product of many balls
contains a large flat space. So every δ stands beside the same statistic of two controls on the same manifold.
Legend: N latents, C channels, P positions (H·W; 1 for a global point); `v` normal coordinates, so that a point's |v| is
its distance to the origin; a latent's squares add up over positions (the product metric).
"""

import math
from collections.abc import Iterator, Mapping
from copy import deepcopy

import numpy as np
import torch
from scipy import stats
from torch import Generator, Tensor

from hldm.errors import UserError
from hldm.geometry import Manifold
from hldm.metrics.gromov import gromov_delta

PERMUTATIONS = 500
QUANTILES = {"q05": 0.05, "median": 0.5, "q95": 0.95}


@torch.no_grad()
def latent_hierarchy(
    manifold: Manifold, v: Tensor, against: Mapping[str, Tensor], *, points: int, tries: int, seed: int
) -> dict[str, float]:
    """δ with its controls, the radii and their rank correlations, and how far curvature reaches.

    Args:
        v: (N, C, *positions) normal coordinates of posterior means.
        against: name → values (N,) that the radius is correlated with: a classifier's entropy, the depth in a tree.
        points: how many latents one δ is computed from; all of them where there are fewer.
        tries: how many times so many latents are drawn.
        seed: seed of the draws, the controls and the permutations.

    Returns:
        delta_rel, delta_rel_sd, diameter: see `relative_delta`; mean and standard deviation over the tries. The same
            for the controls: <name>_gaussian of equal mean and covariance in normal coordinates, and
            <name>_shuffled, where each coordinate is permuted over the latents.
        radius_*: quantiles of the distance of a latent to the origin; point_radius_*: of its single points.
        radius_<name>_*: see `rank_correlation`.
        sqrt_c_rms, sqrt_c_radius: see `curvature_reach`.
        saturation: share of points at the boundary clamp.
    """
    if len(v) < 4 or points < 4 or tries < 1:
        raise UserError(
            f"Gromov's δ needs four latents and one try: there are {len(v)}, metrics.hierarchy.points={points} and "
            f"metrics.hierarchy.tries={tries}."
        )
    v = v.detach().double().cpu()
    manifold = deepcopy(manifold).cpu()  # the caller's stays where it is
    metrics: dict[str, float] = {}
    results = [[relative_delta(manifold, latents) for latents in draw] for draw in _draws(v, points, tries, seed)]
    for name, per_try in zip(("", "_gaussian", "_shuffled"), zip(*results, strict=True), strict=True):
        deltas, diameters = zip(*per_try, strict=True)
        metrics[f"delta_rel{name}"] = float(np.mean(deltas))
        metrics[f"delta_rel{name}_sd"] = float(np.std(deltas, ddof=1)) if tries > 1 else 0.0
        metrics[f"diameter{name}"] = float(np.mean(diameters))

    radius = v.flatten(1).norm(dim=1)
    for name, values in [("radius", radius), ("point_radius", v.norm(dim=1).flatten())]:
        quantiles = np.quantile(values.numpy(), list(QUANTILES.values()))
        metrics |= {f"{name}_{key}": float(q) for key, q in zip(QUANTILES, quantiles, strict=True)}
    for other, values in against.items():
        correlation = rank_correlation(radius, values.detach().double().cpu(), seed=seed)
        metrics |= {f"radius_{other}_{name}": value for name, value in correlation.items()}
    metrics |= curvature_reach(manifold, v)
    metrics["saturation"] = float(manifold.saturation(manifold.from_tangent(v.float(), dim=1), dim=1))
    return metrics


def _draws(v: Tensor, points: int, tries: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each try: latents drawn without replacement, as many from the Gaussian control, and the shuffled control.

    The first latent of a draw is the base point of δ.
    """
    generator = Generator().manual_seed(seed)
    n = min(points, len(v))
    mean, flat = v.flatten(1).mean(dim=0), v.flatten(1)
    for _ in range(tries):
        draw = v[torch.randperm(len(v), generator=generator)[:n]]
        # Gaussian weights over the centred latents give exactly their covariance, whatever its rank
        weights = torch.randn(n, len(v), generator=generator, dtype=v.dtype) / math.sqrt(len(v) - 1)
        gaussian = (mean + weights @ (flat - mean)).view_as(draw)
        shuffled = [column[torch.randperm(n, generator=generator)] for column in draw.flatten(1).T]
        yield draw, gaussian, torch.stack(shuffled, dim=1).view_as(draw)


def relative_delta(manifold: Manifold, v: Tensor) -> tuple[float, float]:
    """δ_rel = 2 δ / diameter and the diameter, of latents (n, C, *positions) in normal coordinates.

    Khrulkov et al. (2020), section 3.2, but drawn without replacement: 0 for a tree, at most 1. Latents that are all
    equal are a tree of one point: (0, 0).
    """
    dist = pairwise_dist(manifold, v)
    diameter = dist.max().item()
    if diameter <= 1e-9 * v.norm(dim=1).max().item():  # distances that are nothing but rounding have no shape
        return 0.0, 0.0
    return 2 * gromov_delta(dist) / diameter, diameter


def pairwise_dist(manifold: Manifold, v: Tensor) -> Tensor:
    """(n, n) distances of latents (n, C, *positions): squares add up over the positions."""
    z = manifold.from_tangent(v.view(*v.shape[:2], -1), dim=1)  # normal coordinates → points, one per position
    total = torch.zeros(len(v), len(v), dtype=v.dtype)
    for at_position in z.movedim(2, 0).contiguous():
        total += manifold.pairwise_sqdist(at_position, at_position)
    return total.sqrt()


def rank_correlation(x: Tensor, y: Tensor, *, seed: int) -> dict[str, float]:
    """Spearman's ρ of two samples (N,), with an interval and what chance alone would give.

    Returns:
        spearman: ρ in [−1, 1]; 0 where either side is constant and there is no order to speak of.
        low, high: 95 % interval by Fisher's z with variance (1 + ρ²/2)/(N − 3), Bonett & Wright (2000).
        null: the 95 % quantile of |ρ| over permutations.
        p: share of permutations with at least this |ρ|, the observed order counted as one of them.
    """
    n = len(x)
    ranks = np.stack([stats.rankdata(side.numpy()) for side in (x, y)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(ranks, axis=1, keepdims=True)
    if n < 4 or not norms.all():
        return {"spearman": 0.0, "low": -1.0, "high": 1.0, "null": 0.0, "p": 1.0}
    a, b = ranks / norms
    rho = float(np.clip(a @ b, -1, 1))
    centre, half = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12)), 1.96 * math.sqrt((1 + rho**2 / 2) / (n - 3))
    generator = np.random.default_rng(seed)
    null = np.abs([a @ generator.permutation(b) for _ in range(PERMUTATIONS)])
    return {
        "spearman": rho,
        "low": float(np.tanh(centre - half)),
        "high": float(np.tanh(centre + half)),
        "null": float(np.quantile(null, 0.95)),
        "p": float((1 + (null >= abs(rho) - 1e-12).sum()) / (1 + PERMUTATIONS)),
    }


def curvature_reach(manifold: Manifold, v: Tensor) -> dict[str, float]:
    """How much of the curvature the latents (N, C, *positions) feel, from the factor that feels it most.

    Scaling (c, v) → (c s², v / s) is an isometry up to units, so c alone says nothing. Below about 0.1 the space is
    flat for them.

    Returns:
        sqrt_c_rms: √c · rms of a coordinate.
        sqrt_c_radius: √c · rms distance of a ball's point to the origin, √(dimension of the ball) times as large.
    """
    rms, radius = [0.0], [0.0]
    for leaf, part in manifold.pieces(v, 1):
        if not leaf.is_flat:
            reach = float(leaf.curvatures().sqrt()) * float(part.square().mean().sqrt())
            rms.append(reach)
            radius.append(reach * math.sqrt(leaf.ball_dim))
    return {"sqrt_c_rms": max(rms), "sqrt_c_radius": max(radius)}
