"""How far metrics of samples would move if other samples were drawn: the bootstrap over samples (Efron 1979).

Rows are drawn again with replacement, which weighs row i by w_i = count_i / N, and the standard deviation of a metric
over such draws estimates that over fresh sets of samples of the same model. Where samples were asked for with as many
of each class, so are rows: classes that came and went would widen the spread several times. Only the spread is given:
resampled sets have rows twice, so that FID of them is larger.

Legend: N samples, M real images, D features, K classes, R draws.
"""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

DRAWS = 100
"""R: the standard deviation is then known to about 1/√(2R) = 7 % of itself."""

WIDE = 256
"""Features beyond which a tenth of the draws has to do: a Fréchet distance costs D³."""

ROWS = 500
"""Rows of a kernel's matrix that are held at once."""


def resampled(n: int, draws: int, seed: int, classes: Tensor | None = None) -> Tensor:
    """How often each of n rows is drawn: float64 (R, n), whose rows have the sum n, and within each class its size."""
    generator, ones = Generator().manual_seed(seed), torch.ones(draws, n, dtype=torch.float64)
    if classes is None:
        chosen = torch.randint(n, (draws, n), generator=generator)
    else:
        parts = [torch.nonzero(classes == label)[:, 0] for label in classes.unique()]
        chosen = torch.cat(
            [part[torch.randint(len(part), (draws, len(part)), generator=generator)] for part in parts], dim=1
        )
    return torch.zeros(draws, n, dtype=torch.float64).scatter_add_(1, chosen, ones)


def sample_spread(
    features: Tensor, logits: Tensor | None, reference: Tensor, *, seed: int, classes: Tensor | None = None
) -> dict[str, float]:
    """Standard deviations over the draw of the samples.

    Args:
        features: float64 (N, D) of the samples.
        logits: float64 (N, K), or None where there are none.
        reference: float64 (M, D) of real images, which stay as they are.
        seed: of the draws.
        classes: int64 (N,), what each sample was asked to show; None where they were asked for nothing.

    Returns:
        fid, kid, inception_score, the last one where there are logits.
    """
    counts = resampled(len(features), DRAWS, seed, classes)
    few = counts[: DRAWS // 10] if features.shape[1] > WIDE else counts
    found = {"fid": frechet_distances(features, reference, few), "kid": kernel_distances(features, reference, counts)}
    if logits is not None and logits.shape[1] > 1:
        found["inception_score"] = inception_scores(logits, counts)
    return {name: float(values.std()) for name, values in found.items()}


def share_spread(share: float, n: int) -> float:
    """That of a share of n samples: what R → ∞ draws give is known, √(p(1 − p)/n)."""
    return float((share * (1 - share) / n) ** 0.5)


def frechet_distances(features: Tensor, reference: Tensor, counts: Tensor) -> Tensor:
    """FID of each weighted set of samples against the reference: (R,).

    |μ − μ_r|² + tr Σ + tr Σ_r − 2 tr (√Σ_r Σ √Σ_r)^½
    """
    weights = counts / counts.sum(1, keepdim=True)
    mean = reference.mean(0)
    x, real = features - mean, reference - mean
    covariance = real.T @ real / (len(real) - 1)
    values, vectors = torch.linalg.eigh(covariance)
    y = x @ (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    means, means_y = weights @ x, weights @ y
    spread = weights @ x.square().sum(1) - means.square().sum(1)
    overlap = [
        torch.linalg.eigvalsh((y * w.unsqueeze(1)).T @ y - torch.outer(m, m)).clamp(min=0).sqrt().sum()
        for w, m in zip(weights, means_y, strict=True)
    ]
    return means.square().sum(1) + spread + covariance.trace() - 2 * torch.stack(overlap)


def kernel_distances(features: Tensor, reference: Tensor, counts: Tensor) -> Tensor:
    """KID of each weighted set of samples, up to the term of the reference alone, which does not move: (R,).

    Σ_{i≠j} c_i c_j k(x_i, x_j) / Σ_{i≠j} c_i c_j − 2/(NM) Σ_i Σ_j c_i k(x_i, r_j),   k(x, y) = (x·y/D + 1)³
    """
    n = len(features)
    among, across = counts.new_zeros(len(counts)), counts.new_zeros(len(counts))
    for rows in _blocks(n):
        kernel = cubic_kernel(features[rows], features)
        kernel[:, rows].fill_diagonal_(0)
        among += ((counts[:, rows] @ kernel) * counts).sum(1)
        across += counts[:, rows] @ cubic_kernel(features[rows], reference).mean(1)
    return among / (n**2 - counts.square().sum(1)) - 2 * across / n


def inception_scores(logits: Tensor, counts: Tensor) -> Tensor:
    """exp of the mean divergence of p(y|x) from p(y), of each weighted set: (R,). In one part, where IS has ten."""
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    weights = counts / counts.sum(1, keepdim=True)
    marginal = weights @ p
    return (weights @ (p * log_p).sum(1) - torch.special.xlogy(marginal, marginal).sum(1)).exp()


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x·y/D + 1)³ of KID, (N, M), for x (N, D) and y (M, D)."""
    root = x @ y.T / x.shape[1] + 1
    return root * root * root


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + ROWS, n)) for start in range(0, n, ROWS))
