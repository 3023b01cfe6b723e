"""Whether latents are arranged like a hierarchy, and whether curvature can act on them at all.

δ_rel describes and tests nothing: independent Gaussians reach a low one in high dimension, heavy-tailed radii lie below
both controls and a tree in the hyperbolic plane above them. What tests is `tree_test`.
Legend: N latents, C channels, P positions (H·W; 1 for a global point); `v` normal coordinates, so that a point's |v| is
its distance to the origin; a latent's squares add up over positions (the product metric).
"""

import math
from collections.abc import Iterator, Mapping
from copy import deepcopy

import numpy as np
import torch
from torch import Generator, Tensor

from hldm.errors import UserError
from hldm.geometry import Manifold
from hldm.metrics.distances import around, frechet_means, pairwise_dist
from hldm.metrics.gromov import gromov_delta
from hldm.metrics.resampling import rank_correlation

QUANTILES = {"q05": 0.05, "median": 0.5, "q95": 0.95}


@torch.no_grad()
def latent_hierarchy(
    manifold: Manifold,
    v: Tensor,
    against: Mapping[str, Tensor],
    *,
    points: int,
    tries: int,
    seed: int,
    base_points: int = 1,
    clusters: Tensor | None = None,
) -> dict[str, float]:
    """δ with its controls, the radii and their rank correlations, and how far curvature reaches.

    Args:
        v: (N, C, *positions) normal coordinates of posterior means.
        against: name → values (N,) that the radius is correlated with: a classifier's entropy, the depth in a tree.
        points: how many latents one δ is computed from; all of them where there are fewer.
        tries: how many times so many latents are drawn.
        seed: seed of the draws, the controls and the permutations.
        base_points: how many base points one δ is the mean over.
        clusters: int64 (N,), which latents depend on each other, see `rank_correlation`; None: none does.

    Returns:
        delta_points, delta_base_points: how many latents and base points a δ is of; it grows with the first and moves
            with the second, so that δ of other numbers do not compare.
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
    n = min(points, len(v))
    metrics = {"delta_points": float(n), "delta_base_points": float(min(base_points, n))}
    results = [
        [relative_delta(manifold, latents, base_points) for latents in draw] for draw in _draws(v, points, tries, seed)
    ]
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
        correlation = rank_correlation(radius, values, seed=seed, clusters=clusters)
        metrics |= {f"radius_{other}_{name}": value for name, value in correlation.items()}
    metrics |= curvature_reach(manifold, v)
    metrics["saturation"] = float(manifold.saturation(manifold.from_tangent(v.float(), dim=1), dim=1))
    return metrics


def _draws(v: Tensor, points: int, tries: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each try: latents drawn without replacement, as many from the Gaussian control, and the shuffled control.

    The first latents of a draw are the base points of δ.
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


def relative_delta(manifold: Manifold, v: Tensor, base_points: int = 1) -> tuple[float, float]:
    """δ_rel = 2 δ / diameter and the diameter, of latents (n, C, *positions) in normal coordinates.

    Khrulkov et al. (2020), section 3.2, but drawn without replacement: 0 for a tree, at most 1. δ is the mean over the
    first latents as base points. Latents that are all equal are a tree of one point: (0, 0).
    """
    dist = pairwise_dist(manifold, v)
    diameter = dist.max().item()
    if diameter <= 1e-9 * v.norm(dim=1).max().item():  # distances that are nothing but rounding have no shape
        return 0.0, 0.0
    deltas = [gromov_delta(dist, base) for base in range(min(base_points, len(v)))]
    return 2 * float(np.mean(deltas)) / diameter, diameter


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


@torch.no_grad()
def signal_and_noise(manifold: Manifold, loc: Tensor, drawn: Tensor) -> dict[str, float]:
    """What of the latents' spread is between images, and what is the width of their posteriors.

        signal² = mean |log_m(loc)|²,   noise² = mean |log_loc(drawn)|²,   share = noise² / (signal² + noise²)

    with m the Fréchet mean of the means and squares per coordinate. Diffusion sees `drawn`; an encoder that says the
    same of every image has signal 0 and a share of 1, and one that is sure has noise 0 and a share of 0.

    Args:
        loc: (N, C, *positions) normal coordinates of posterior means.
        drawn: same shape, one draw from each posterior.

    Returns:
        signal_rms, noise_rms: root mean squares of a coordinate.
        sqrt_c_rms_signal, sqrt_c_rms_noise, sqrt_c_rms_drawn: √c times each, as in `curvature_reach`.
        posterior_noise_share: in [0, 1]; 0 where there is neither signal nor noise.
    """
    loc, drawn = loc.double().cpu(), drawn.double().cpu()
    manifold = deepcopy(manifold).cpu()
    mean = frechet_means(manifold, loc, torch.zeros(len(loc), dtype=torch.long))
    between, within = around(manifold, loc, mean), around(manifold, drawn, loc)
    signal, noise = float(between.square().mean()), float(within.square().mean())
    if signal <= 1e-12 * float(loc.square().mean()):  # rounding of means that are all equal
        signal = 0.0
    return {
        "signal_rms": math.sqrt(signal),
        "noise_rms": math.sqrt(noise),
        "sqrt_c_rms_signal": curvature_reach(manifold, between)["sqrt_c_rms"] if signal else 0.0,
        "sqrt_c_rms_noise": curvature_reach(manifold, within)["sqrt_c_rms"],
        "sqrt_c_rms_drawn": curvature_reach(manifold, drawn)["sqrt_c_rms"],
        "posterior_noise_share": noise / (signal + noise) if signal + noise else 0.0,
    }
