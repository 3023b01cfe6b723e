"""Gromov's δ: how far a finite metric space is from a tree.

Legend: n points, d_ij their distances, w the base point, A_ij = (d_iw + d_jw − d_ij)/2 the Gromov product (i|j)_w.
"""

import numpy as np
from torch import Tensor

PAIRS_AT_ONCE = 256


def gromov_delta(dist: Tensor, base: int = 0) -> float:
    """The smallest δ for which the four-point condition holds for all quadruples with the base point.

        δ_w = max_ijk (min(A_ik, A_kj) − A_ij)               Gromov (1987); Fournier, Ismail & Vigneron (2015)

    0 for a tree; the δ over all bases is at most 2 δ_w. The max–min product of A with itself takes n³ steps. Here
    k can raise δ through (i, j) only where A_ik > A_ij + δ, so that a point i needs few of its j and few k for them
    once the first points have found a large δ. The result is the exact maximum.

    Args:
        dist: (n, n) distances, symmetric with a zero diagonal, in any unit; computed in float64.
        base: index of the base point w.

    Returns:
        δ_w ≥ 0 in the unit of the distances; 0 for fewer than four points, as any three points lie on a tree.
    """
    if len(dist) < 4:
        return 0.0
    d = dist.double().cpu().numpy()
    products = (d[base, :, None] + d[base] - d) / 2
    np.fill_diagonal(products, 0)  # i = k and j = k give 0, which is where the search starts
    # points that are far from all others first: with i < j, the fewer k have to be looked at
    order = products.mean(axis=1).argsort(kind="stable")
    products = np.ascontiguousarray(products[np.ix_(order, order)])
    peaks = products.max(axis=1)
    bounds = np.triu(np.minimum(peaks[:, None], peaks) - products, k=1)  # min(A_ik, A_kj) is at most either peak

    delta = 0.0
    for i in (-bounds.max(axis=1)).argsort(kind="stable"):
        row = products[i]
        candidates = np.flatnonzero(bounds[i] > delta)
        candidates = candidates[row[candidates].argsort(kind="stable")]
        for start in range(0, len(candidates), PAIRS_AT_ONCE):
            j = candidates[start : start + PAIRS_AT_ONCE]
            k = np.flatnonzero(row > row[j[0]] + delta)  # j[0] has the smallest A_ij of those that are left
            if not len(k):
                break
            joined = np.minimum(products.take(k, axis=0).take(j, axis=1), row[k, None]).max(axis=0)
            delta = max(delta, float((joined - row[j]).max()))
    return delta
