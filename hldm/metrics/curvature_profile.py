"""What latents of a fixed encoder say about the curvature of their balls: the likelihood of every c.

Legend: N images, K balls of dimension n (all positions of a map, all balls of a leaf); `v` (N, K, n) normal
coordinates. Groups are images that share a centre in every ball: the classes, or all images.

Densities are those of the normal coordinates themselves, so they compare across c. A normal law around the origin of
the chart says nothing then: a wrapped one is N(0, σ²) for every c. What tells c is the shape of a cloud away from the
origin, whose spread across the radius shrinks as r/sinh r, and the law of the distances to a centre.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hldm.distributions.radial import RadialLaw
from hldm.geometry import FixedCurvature, Manifold, PoincareBall
from hldm.geometry.means import frechet_mean

FAMILIES = ("wrapped", "riemannian")
REACHES = np.geomspace(1e-3, 10, 17)
"""c·(mean square coordinate) of the grid: √c·rms from .03, where space is flat, to 3.2."""
RESAMPLES = 1000
ERRORS = 2.0
"""Standard errors by which a curvature has to be better than none."""


@dataclass(frozen=True)
class Profile:
    """Log likelihood per held-out image, in nats, against that of flat space.

    Attributes:
        curvatures: (G,) the c > 0 of the grid.
        gain: (G,) mean of log p_c(v) − log p_0(v) over the held-out images.
        error: (G,) standard error of the gain, over images or clusters.
        flat: mean of log p_0(v).
        best: c of the largest gain, between grid points by a parabola through three of them.
        interval: 95 % of the best c over resamples; 0 at the lower end where flat space does as well.
        is_identified: whether the best c is better than flat space by `ERRORS` standard errors, and inside the grid.
    """

    curvatures: list[float]
    gain: list[float]
    error: list[float]
    flat: float
    best: float
    interval: tuple[float, float]
    is_identified: bool


def balls_of(manifold: Manifold, v: Tensor) -> list[Tensor]:
    """(N, K, n) float64 for every leaf whose curvature is in question: curved ones, or all where all are flat.

    A flat leaf counts as one ball at every position. A ball of one dimension is a line, which no c bends.

    Args:
        v: (N, C, *positions) normal coordinates.
    """
    pieces = manifold.pieces(v.detach().double().cpu(), 1)
    curved = [pair for pair in pieces if not pair[0].is_flat] or pieces
    balls = []
    for leaf, part in curved:
        split = part.reshape(len(v), leaf.balls, leaf.ball_dim, -1)
        balls.append(split.movedim(3, 1).flatten(1, 2))
    return [part for part in balls if part.shape[-1] > 1]


@torch.no_grad()
def curvature_profiles(
    balls: list[Tensor], groups: Tensor, clusters: Tensor | None = None, *, seed: int = 0
) -> dict[str, Profile]:
    """The profile of each family of normal laws, whose centres and scales are fitted anew at every c.

    Every group has a law of its own in every ball, fitted to every second image; the others are judged. Wrapped normals
    are at the Fréchet mean with any covariance in the frame there, so that a cloud that is long in some direction is no
    sign of curvature by itself; Riemannian ones have one scale.

    Args:
        balls: latents as `balls_of` gives them, (N, K, n) each.
        groups: int64 (N,).
        clusters: int64 (N,), images that depend on each other; by default each is one of its own.
        seed: of the resamples.
    """
    order = torch.argsort(groups, stable=True)  # so that halves have equal shares of every group
    balls, groups = [part[order] for part in balls], groups[order]
    clusters = torch.arange(len(order)) if clusters is None else clusters[order]
    held = torch.arange(len(order)) % 2 == 1
    square = float(torch.cat([part.flatten() for part in balls]).square().mean())
    grid = [float(reach) / square for reach in REACHES]
    table: dict[str, list[Tensor]] = {family: [] for family in FAMILIES}
    for c in (0.0, *grid):
        total = {family: torch.zeros(int(held.sum()), dtype=torch.float64) for family in FAMILIES}
        for part in balls:
            for family, log_p in _log_likelihood(part, groups, held, c):
                total[family] += log_p
        for family in FAMILIES:
            table[family].append(total[family])
    return {name: summarised(torch.stack(rows), grid, clusters[held], seed) for name, rows in table.items()}


def _log_likelihood(v: Tensor, groups: Tensor, held: Tensor, c: float) -> Iterator[tuple[str, Tensor]]:
    """Family → log p_c of the held-out images, (N/2,), from the laws fitted to the others."""
    n = v.shape[-1]
    ball = PoincareBall(n, FixedCurvature(c))
    index = torch.unique(groups, return_inverse=True)[1]
    fitted, own = v[~held], index[held]
    members = [fitted[index[~held] == group] for group in range(int(index.max()) + 1)]
    # a group that has held-out images alone takes the law of all
    members = [part if len(part) else fitted for part in members]
    centres = torch.stack([
        frechet_mean(part.transpose(0, 1), part.new_ones(part.shape[1], len(part)), c, steps=8) for part in members
    ])  # fmt: skip
    frames = [ball.add_normal(-m.expand_as(part), part) for m, part in zip(centres, members, strict=True)]
    w = ball.add_normal(-centres[own], v[held])
    chart = ball.log_volume(v[held])

    covariance = covariances(frames)
    factor = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(factor[own], w.unsqueeze(-1), upper=False).squeeze(-1)
    log_z = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) + 0.5 * n * math.log(2 * math.pi)
    log_p = -0.5 * white.square().sum(-1) - log_z[own] - ball.log_volume(w) + chart
    yield "wrapped", log_p.sum(1)

    square = torch.stack([part.square().sum(-1).mean(0) for part in frames]).clamp(min=1e-12)
    scale = riemannian_scale(square, n, c)
    sphere = math.log(2) + 0.5 * n * math.log(math.pi) - math.lgamma(n / 2)
    log_z = sphere + n * scale.log() + RadialLaw(c * scale.square(), n).log_integral()
    yield "riemannian", (-0.5 * w.square().sum(-1) / scale[own].square() - log_z[own] + chart).sum(1)


def covariances(frames: list[Tensor]) -> Tensor:
    """(groups, K, n, n) second moments of frame vectors (N_g, K, n) of each group.

    Those of all groups together count as n + 1 more vectors, so that a small group has one of full rank.
    """
    sums = torch.stack([torch.einsum("ski,skj->kij", w, w) for w in frames])
    counts = torch.tensor([len(w) for w in frames], dtype=sums.dtype).view(-1, 1, 1, 1)
    pooled = sums.sum(0) / counts.sum()
    n = sums.shape[-1]
    floor = 1e-9 * pooled.diagonal(dim1=-2, dim2=-1).mean().clamp(min=1e-12) * torch.eye(n, dtype=sums.dtype)
    return (sums + (n + 1) * pooled) / (counts + n + 1) + floor


def riemannian_scale(square: Tensor, n: int, c: float) -> Tensor:
    """The σ of a Riemannian normal whose squared distance to its mean is `square` on average: of its shape, float64.

    This is maximum likelihood. σ² E[t²] = square with E[t²] from n (c = 0, one step) to a multiple of σ² (large c), so
    two thirds of the way to s/√E[t²], in log σ, shrink the error to a third each time.
    """
    target = square.double().sqrt()
    sigma = target / math.sqrt(n)
    for _ in range(14 if c else 0):
        moment = RadialLaw(c * sigma.square(), n).second_moment()
        sigma = sigma * (target / (sigma * moment.sqrt())) ** (2 / 3)
    return sigma


def summarised(log_p: Tensor, grid: list[float], clusters: Tensor, seed: int) -> Profile:
    """The profile of log likelihoods (1 + G, N), flat space first, with errors over clusters (N,)."""
    gain = (log_p[1:] - log_p[0]).numpy()
    names, inverse = np.unique(clusters.numpy(), return_inverse=True)
    sums = np.zeros((len(gain), len(names)))
    np.add.at(sums.T, inverse, gain.T)
    sizes = np.bincount(inverse).astype(float)
    weights = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    means = weights @ sums.T / (weights @ sizes)[:, None]  # (resamples, G)
    mean, error = gain.mean(1), means.std(0, ddof=1)
    best = peak(mean, grid)
    found = np.array([peak(resampled, grid) for resampled in means])
    low, high = np.quantile(found, [0.025, 0.975])
    at = int(mean.argmax())
    identified = mean[at] > ERRORS * error[at] and low > 0 and grid[0] < best < grid[-1]
    return Profile(
        curvatures=grid,
        gain=mean.tolist(),
        error=error.tolist(),
        flat=float(log_p[0].mean()),
        best=best,
        interval=(float(low), float(high)),
        is_identified=bool(identified),
    )


def peak(gain: np.ndarray, grid: list[float]) -> float:
    """The c of the largest gain (G,), by a parabola in log c where it has neighbours; 0 where none is better than 0."""
    at = int(gain.argmax())
    if gain[at] <= 0:
        return 0.0
    if 0 < at < len(grid) - 1:
        below, here, above = gain[at - 1 : at + 2]
        bend = below - 2 * here + above
        shift = 0.5 * (below - above) / bend if bend < 0 else 0.0
        return float(grid[at] * (grid[1] / grid[0]) ** shift)
    return grid[at]
