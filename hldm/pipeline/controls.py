"""What can be done to latents between sampling and decoding: move, join, average and compare them on their manifold.

Legend: `v` normal coordinates of latents (N, *latent shape), with the coordinates of a point along axis 1; `m` those of
one latent (*latent shape). A latent of several points (a map, or a product) is one point of their product: squared
distances add up over positions and factors. All is computed in float64 and returned in the dtype that came in.
"""

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor

from hldm.geometry import Manifold


def in_float64(manifold: Manifold) -> Manifold:
    """The same manifold, in which a learned curvature is a number in float64."""
    return deepcopy(manifold).double().requires_grad_(False)


def moved(manifold: Manifold, v: Tensor, factor: float, centre: Tensor | None = None) -> Tensor:
    """v moved along the geodesics from `centre` (by default the origin) until it is `factor` times as far from it.

        exp_m(f · log_m v) = Φ⁻¹(Φ(m) ⊕ Φ(f·w)),   w = Φ⁻¹(−Φ(m) ⊕ Φ(v))          hldm.geometry.normal.add_normal

    At the origin this is f·v on every manifold, since the geodesics through it are the rays of normal coordinates.
    f = 1 is the identity and f = 0 the centre, both bit for bit. As c → 0 it is m + f·(v − m).

    Args:
        v: (N, *latent shape).
        factor: f ≥ 0.
        centre: m, (*latent shape).
    """
    if factor == 1:
        return v
    if centre is None:
        return v * factor
    m = centre.unsqueeze(0)
    if factor == 0:
        return m.to(v).expand_as(v).clone()
    away = factor * to_frame(manifold, m, v)
    return in_float64(manifold).add_normal(m.double(), away, dim=1).to(v.dtype)


def to_frame(manifold: Manifold, m: Tensor, v: Tensor) -> Tensor:
    """The frame vectors at m, broadcastable to v, whose geodesics reach v at time 1, in float64: v − m if flat."""
    return in_float64(manifold).add_normal(-m.double(), v.double(), dim=1)


def distances(manifold: Manifold, m: Tensor, v: Tensor) -> Tensor:
    """Geodesic distance (N,) in float64 of each latent of v from m (1 or N, *latent shape)."""
    return to_frame(manifold, m, v).flatten(1).norm(dim=1)


def geodesic_path(manifold: Manifold, a: Tensor, b: Tensor, times: Tensor) -> Tensor:
    """The geodesic from a (t = 0) to b (t = 1), each (*latent shape), at times (T,) in [0, 1]: (T, *latent shape).

    Its speed d(a, b) is constant; at t = 0 and 1 it is a and b bit for bit. As c → 0 it is `straight_path`.
    """
    exact = in_float64(manifold)
    ends = exact.from_tangent(torch.stack([a, b]).double(), dim=1)
    t = times.double().view(-1, *[1] * a.ndim)
    start, end = (point.expand(len(times), *a.shape) for point in ends)
    x, _ = exact.geodesic(start, end, t, dim=1)
    return _with_ends(exact.to_tangent(x, dim=1).to(a.dtype), a, b, times)


def straight_path(a: Tensor, b: Tensor, times: Tensor) -> Tensor:
    """a + t·(b − a): the chord in normal coordinates, the chart that networks see. (T, *latent shape)."""
    t = times.double().view(-1, *[1] * a.ndim)
    return _with_ends((a.double() + t * (b.double() - a.double())).to(a.dtype), a, b, times)


def _with_ends(path: Tensor, a: Tensor, b: Tensor, times: Tensor) -> Tensor:
    path[times == 0], path[times == 1] = a, b
    return path


def path_length(manifold: Manifold, path: Tensor) -> float:
    """Sum of the geodesic distances between neighbours on a path (T, *latent shape)."""
    return float(distances(manifold, path[:-1], path[1:]).sum())


def mean_latent(manifold: Manifold, v: Tensor) -> Tensor:
    """The Fréchet mean of latents v (N, *latent shape), N ≥ 1: the m (*latent shape) of least Σ d(m, v_i)².

    Squares add up over positions, so it is the mean at each of them. As c → 0 it is the mean of coordinates.
    """
    points = v.double().flatten(2).permute(2, 0, 1) if v.ndim > 2 else v.double()  # (positions, N, C), or (N, C)
    mean = in_float64(manifold).frechet_mean(points, points.new_ones(len(v)))
    return (mean.T if v.ndim > 2 else mean).reshape(v.shape[1:]).to(v.dtype)


def pairwise_distances(manifold: Manifold, x: Tensor, y: Tensor) -> Tensor:
    """(N, *latent shape) and (M, *latent shape) → geodesic distances (N, M) in float64."""
    exact = in_float64(manifold)
    rows, columns = (
        exact.from_tangent(v.double(), dim=1).reshape(*v.shape[:2], -1).permute(2, 0, 1).contiguous() for v in (x, y)
    )
    total = exact.pairwise_sqdist(rows[0], columns[0])
    # position by position: (positions, N, M) is never made
    for row, column in zip(rows[1:], columns[1:], strict=True):
        total += exact.pairwise_sqdist(row, column)
    return total.sqrt()


def nearest(blocks: Iterable[Tensor], k: int) -> tuple[Tensor, Tensor]:
    """The k least distances (N, k) in each row, and int64 (N, k) which columns they stand in; the first of equal ones.

    Args:
        blocks: distances (N, B), the columns of all blocks one after the other, k at least in all of them.
    """
    best: Tensor | None = None
    columns, seen = torch.empty(0), 0
    for block in blocks:
        own = torch.arange(seen, seen + block.shape[1], device=block.device).expand_as(block)
        candidates = block if best is None else torch.cat([best, block], 1)
        places = own if best is None else torch.cat([columns, own], 1)
        values, order = candidates.sort(dim=1, stable=True)
        best, columns, seen = values[:, :k], places.gather(1, order[:, :k]), seen + block.shape[1]
    assert best is not None, "there are blocks"
    return best, columns
