"""Nearest neighbours: whether samples lie where real images lie, whether they lie everywhere there, and whether they
are copies of training images.

All distances are Euclidean and exact, in blocks of rows, so that memory stays at `NUMBERS_AT_ONCE` numbers.
Legend: N samples, M real images, D features, k neighbours.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from hldm.errors import UserError

PRECISION_NEIGHBOURS = 3
"""k of precision and recall: Kynkäänniemi et al. (2019), section 3.1."""
DENSITY_NEIGHBOURS = 5
"""k of density and coverage: Naeem et al. (2020), section 4.1."""
NEIGHBOURS = (PRECISION_NEIGHBOURS, DENSITY_NEIGHBOURS)

NUMBERS_AT_ONCE = 2**20
"""Distances that are held at once: 8 MiB in float64, which stay near the processor."""
TIE = 1e-12
"""Squared distances that differ by less than this part of the largest squared norm are equal: rounding tells copies of
one image apart."""


def neighbour_radii(points: Tensor, neighbours: Sequence[int] = NEIGHBOURS) -> Tensor:
    """Squared distance (M, len(neighbours)) of each point to its k-th nearest other point, for every k asked for.

    Args:
        points: (M, D), M > max(neighbours).

    Raises:
        UserError: there are too few points.
    """
    most = max(neighbours)
    if len(points) <= most:
        raise UserError(f"Neighbours number {most} need more than {most} images, and there are {len(points)}.")
    # the nearest of all is the point itself
    found = [block.topk(most + 1, largest=False).values[:, list(neighbours)] for block in _blocks(points, points)]
    return torch.cat(found)


def precision_recall_density_coverage(samples: Tensor, real: Tensor, radii: Tensor | None = None) -> dict[str, float]:
    """Four shares that tell apart what FID adds up: samples beside the data, and data beside the samples.

    With B_k(x) the closed ball around x that reaches to its k-th nearest neighbour among its own kind,

        precision = 1/N Σ_j 1[sample_j ∈ ∪_i B_3(real_i)]             Kynkäänniemi et al. (2019), eqs. 1 and 2
        recall    = 1/M Σ_i 1[real_i ∈ ∪_j B_3(sample_j)]
        density   = 1/(kN) Σ_j Σ_i 1[sample_j ∈ B_5(real_i)], k = 5   Naeem et al. (2020), eq. 3
        coverage  = 1/M Σ_i 1[∃ j: sample_j ∈ B_5(real_i)]            Naeem et al. (2020), eq. 4

    Args:
        samples: features (N, D), N > 3.
        real: features (M, D), M > 5.
        radii: `neighbour_radii(real)`, where that is known already.

    Returns:
        precision, recall, coverage in [0, 1], and density ≥ 0. Of samples and data from one law density is 1 on
        average and coverage 1 − Π_{i<k} (M − 1 − i)/(N + M − 1 − i), which is 1 − 2⁻ᵏ for N = M → ∞.
    """
    radii = neighbour_radii(real) if radii is None else radii
    own = neighbour_radii(samples, (PRECISION_NEIGHBOURS,))[:, 0]
    scale = torch.cat([samples, real]).sub(real.mean(0)).square().sum(1).max()
    near, dense, own = (radius + TIE * scale for radius in (radii[:, 0], radii[:, 1], own))
    inside = hits = 0
    recalled, covered = torch.zeros(2, len(real), dtype=torch.bool, device=real.device)
    for rows, block in zip(_rows(samples, real), _blocks(samples, real), strict=True):
        inside += int((block <= near).any(1).sum())
        hit = block <= dense
        hits += int(hit.sum())
        covered |= hit.any(0)
        recalled |= (block <= own[rows, None]).any(0)
    return {
        "precision": inside / len(samples),
        "recall": recalled.double().mean().item(),
        "density": hits / (DENSITY_NEIGHBOURS * len(samples)),
        "coverage": covered.double().mean().item(),
    }


def nearest(queries: Tensor, points: Tensor | Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Distance (N,) from each query to the nearest point, and that point's index (N,).

    Args:
        queries: (N, D).
        points: (M, D), or chunks of it in order, as `Split.chunks` gives them where they do not fit in memory. Where
            some are equally near, the first of them is the nearest.
    """
    best = queries.new_full((len(queries),), torch.inf)
    index = torch.zeros(len(queries), dtype=torch.long, device=queries.device)
    seen = 0
    for chunk in [points] if isinstance(points, Tensor) else points:
        found = [block.min(1) for block in _blocks(queries, chunk)]
        squared, at = torch.cat([least.values for least in found]), torch.cat([least.indices for least in found])
        closer = squared < best
        best, index = torch.where(closer, squared, best), torch.where(closer, at + seen, index)
        seen += len(chunk)
    return best.sqrt(), index


def nearest_labels(queries: Tensor, points: Tensor, labels: Tensor, neighbours: int) -> Tensor:
    """int64 (N,), the most frequent label among each query's nearest points; of equally frequent ones the least.

    Args:
        queries: (N, D).
        points: (M, D), M ≥ neighbours, with int64 labels (M,).
    """
    found = [labels[block.topk(neighbours, largest=False).indices].mode(1).values for block in _blocks(queries, points)]
    return torch.cat(found)


def _rows(queries: Tensor, points: Tensor) -> Iterator[slice]:
    """The rows of `queries` that are compared at once."""
    step = max(1, NUMBERS_AT_ONCE // max(1, len(points)))
    return (slice(start, start + step) for start in range(0, len(queries), step))


def _blocks(queries: Tensor, points: Tensor) -> Iterator[Tensor]:
    """Squared distances (rows, M) ≥ 0, for the rows of `queries` in order."""
    centre = points.mean(0)  # |a − b|² = |a|² + |b|² − 2a·b cancels less around the middle
    a, b = queries - centre, points - centre
    a_norm, b_norm = a.square().sum(1), b.square().sum(1)
    for rows in _rows(queries, points):
        yield (
            torch.addmm(b_norm.expand(len(a[rows]), -1), a[rows], b.T, alpha=-2).add_(a_norm[rows, None]).clamp_min_(0)
        )
