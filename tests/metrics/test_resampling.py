"""Rank correlation of samples that depend on each other."""

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from hldm.metrics import resampling
from hldm.metrics.resampling import rank_correlation

DEPTHS = torch.tensor([level for level in range(5) for _ in range(2**level)])  # a binary tree of 31 nodes
SIBLINGS = torch.arange(31).repeat_interleave(5)


def siblings(seed: int, slope: float = 0.0) -> tuple[Tensor, Tensor]:
    """Radii of five alike siblings of each node, and their depths."""
    generator = Generator().manual_seed(seed)
    of_node = torch.randn(31, generator=generator) + slope * DEPTHS
    return of_node[SIBLINGS] + 0.2 * torch.randn(155, generator=generator), DEPTHS[SIBLINGS]


def rates(trials: int, clusters: Tensor | None) -> tuple[float, float]:
    """How often the interval holds 0, and how often p ≤ .05, where there is no relation."""
    found = [rank_correlation(*siblings(seed), seed=seed, clusters=clusters) for seed in range(trials)]
    covered = np.mean([result["low"] < 0 < result["high"] for result in found])
    return float(covered), float(np.mean([result["p"] <= 0.05 for result in found]))


def test_siblings_are_one_observation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "PERMUTATIONS", 79)
    monkeypatch.setattr(resampling, "BOOTSTRAPS", 80)
    trials = 200
    error = 2.4 * (0.05 * 0.95 / trials) ** 0.5
    covered, false = rates(trials, SIBLINGS)
    assert covered >= 0.95 - error
    assert false <= 0.05 + error
    counted_one_by_one = rates(60, None)
    assert counted_one_by_one[0] < 0.8
    assert counted_one_by_one[1] > 0.2


def test_a_relation_is_found_through_siblings() -> None:
    result = rank_correlation(*siblings(0, slope=1.0), seed=0, clusters=SIBLINGS)
    assert 0 < result["low"] < result["spearman"] < result["high"] < 1
    assert result["p"] == pytest.approx(1 / (1 + resampling.PERMUTATIONS))
    assert result["null"] < result["spearman"]


def test_clusters_of_one_are_no_clusters_and_few_say_nothing() -> None:
    x, y = siblings(0)
    alone = rank_correlation(x, y, seed=0)
    assert rank_correlation(x, y, seed=0, clusters=torch.arange(155).flip(0)) == alone
    few = rank_correlation(x, y, seed=0, clusters=torch.arange(155) // 60)
    assert few == {"spearman": alone["spearman"], "low": -1.0, "high": 1.0, "null": 0.0, "p": 1.0}


def test_clusters_of_unequal_size() -> None:
    x, y = siblings(1, slope=1.0)
    kept = torch.randperm(155, generator=Generator().manual_seed(0))[:100]
    result = rank_correlation(x[kept], y[kept], seed=0, clusters=SIBLINGS[kept])
    assert 0 < result["low"] < result["spearman"] < result["high"] < 1
