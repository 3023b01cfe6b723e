"""The hierarchy metrics on latents whose structure is known."""

import math

import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from hldm.errors import UserError
from hldm.geometry import Euclidean, FixedCurvature, Manifold, PoincareBall, ProductManifold
from hldm.metrics import latent_hierarchy
from hldm.metrics.distances import pairwise_dist
from hldm.metrics.hierarchy import curvature_reach, relative_delta, signal_and_noise
from hldm.metrics.resampling import rank_correlation


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def ball(channels: int, c: float = 1.0, balls: int = 1) -> PoincareBall:
    return PoincareBall(channels, FixedCurvature(c), balls)


def branches(n: int) -> Tensor:
    """(n, 2) points on eight rays from the origin, up to radius 8: nearly a star in the ball, not in the plane."""
    angle = torch.arange(n, dtype=torch.float64) % 8 * (math.pi / 4)
    return torch.stack([angle.cos(), angle.sin()], dim=1) * torch.linspace(0.1, 8, n, dtype=torch.float64)[:, None]


MANIFOLDS = [Euclidean(4), ball(4), ball(4, balls=2), ProductManifold([Euclidean(2), ball(2, 0.3)])]


@pytest.mark.parametrize("manifold", MANIFOLDS)
@pytest.mark.parametrize("positions", [(), (2, 3)])
def test_squared_distances_add_up_over_positions(manifold: Manifold, positions: tuple[int, ...]) -> None:
    v = normal(7, 4, *positions)
    z = manifold.from_tangent(v, dim=1)
    dist = pairwise_dist(manifold, v)
    for i, j in [(0, 1), (3, 6), (5, 2)]:
        assert dist[i, j].item() == pytest.approx(manifold.sqdist(z[i], z[j], dim=0).sum().sqrt().item())
    assert dist.diagonal().abs().max() == 0


def test_delta_sees_the_tree_in_the_ball_and_not_in_the_plane() -> None:
    v = branches(200)
    assert relative_delta(ball(2), v)[0] < 0.12
    assert relative_delta(Euclidean(2), v)[0] > 0.3


def test_independent_gaussians_are_their_own_controls() -> None:
    cloud = latent_hierarchy(Euclidean(6), normal(600, 6), {"entropy": normal(600).abs()}, points=200, tries=5, seed=0)
    for control in ("gaussian", "shuffled"):
        spread = cloud["delta_rel_sd"] + cloud[f"delta_rel_{control}_sd"]
        assert abs(cloud["delta_rel"] - cloud[f"delta_rel_{control}"]) < 2 * spread
        assert cloud[f"diameter_{control}"] == pytest.approx(cloud["diameter"], rel=0.15)


def test_gaussian_control_keeps_the_covariance() -> None:
    # latents on a line: so are Gaussians of their covariance, while shuffling fills the square
    line = normal(500, 1) * torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    metrics = latent_hierarchy(Euclidean(2), line, {"entropy": normal(500).abs()}, points=200, tries=2, seed=0)
    assert metrics["delta_rel"] == pytest.approx(0, abs=1e-6)
    assert metrics["delta_rel_gaussian"] == pytest.approx(0, abs=1e-6)
    assert metrics["delta_rel_shuffled"] > 0.2


def test_radii_are_distances_to_the_origin() -> None:
    v = normal(400, 4, 2, 2)
    metrics = latent_hierarchy(ball(4), v, {"entropy": normal(400).abs()}, points=20, tries=1, seed=0)
    z, origin = ball(4).from_tangent(v, dim=1), torch.zeros_like(v)
    squares = ball(4).sqdist(origin, z, dim=1)
    assert metrics["radius_median"] == pytest.approx(squares.sum(dim=(1, 2)).sqrt().quantile(0.5).item())
    assert metrics["point_radius_q95"] == pytest.approx(squares.sqrt().flatten().quantile(0.95).item())
    assert metrics["radius_q05"] < metrics["radius_median"] < metrics["radius_q95"]


def test_rank_correlation_against_scipy_and_its_coverage() -> None:
    x, noise = normal(300), normal(300, seed=1)
    result = rank_correlation(x, (x + noise).exp(), seed=0)
    assert result["spearman"] == pytest.approx(stats.spearmanr(x, x + noise).statistic)
    assert result["low"] < result["spearman"] < result["high"]
    assert result["p"] == pytest.approx(1 / 501)
    assert rank_correlation(x, -x.pow(3), seed=0)["spearman"] == pytest.approx(-1)

    # no relation: the interval holds 0 and p is below 0.05 about once in twenty
    trials = [rank_correlation(normal(100, seed=s), normal(100, seed=s + 1000), seed=s) for s in range(60)]
    assert sum(t["low"] < 0 < t["high"] for t in trials) >= 52
    assert sum(t["p"] < 0.05 for t in trials) <= 8
    # 1.96/√n
    assert sum(t["null"] for t in trials) / 60 == pytest.approx(0.196, rel=0.1)


def test_no_order_gives_no_correlation() -> None:
    expected = {"spearman": 0.0, "low": -1.0, "high": 1.0, "null": 0.0, "p": 1.0}
    assert rank_correlation(torch.ones(50), normal(50), seed=0) == expected
    assert rank_correlation(normal(50), torch.zeros(50), seed=0) == expected


def test_curvature_reach_is_invariant_under_rescaling() -> None:
    v = 1.5 * normal(20_000, 4)
    reach = curvature_reach(ball(4, 0.25), v)
    assert reach["sqrt_c_rms"] == pytest.approx(0.5 * 1.5, rel=0.02)
    assert reach["sqrt_c_radius"] == pytest.approx(2 * reach["sqrt_c_rms"])
    assert curvature_reach(ball(4, 0.25 * 9), v / 3)["sqrt_c_rms"] == pytest.approx(reach["sqrt_c_rms"])
    assert curvature_reach(ball(4, 0.25, balls=2), v)["sqrt_c_radius"] == pytest.approx(2**0.5 * reach["sqrt_c_rms"])
    assert curvature_reach(Euclidean(4), v) == {"sqrt_c_rms": 0.0, "sqrt_c_radius": 0.0}
    # a flat factor does not hide the ball
    stretched = v * torch.tensor([9.0, 9, 1, 1], dtype=torch.float64)
    hybrid = ProductManifold([Euclidean(2), ball(2, 0.25)])
    assert curvature_reach(hybrid, stretched)["sqrt_c_rms"] == pytest.approx(0.75, rel=0.02)


def test_saturation_is_reported() -> None:
    v = torch.cat([normal(50, 4), 200 * torch.nn.functional.normalize(normal(50, 4), dim=1)])
    metrics = latent_hierarchy(ball(4), v, {"entropy": normal(100).abs()}, points=20, tries=1, seed=0)
    assert metrics["saturation"] == pytest.approx(0.5)
    assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("manifold", MANIFOLDS)
@pytest.mark.parametrize("value", [0.0, 0.7])
def test_collapsed_latents_are_a_tree_of_one_point(manifold: Manifold, value: float) -> None:
    v = torch.full((50, 4, 2, 2), value)
    metrics = latent_hierarchy(manifold, v, {"entropy": normal(50).abs()}, points=20, tries=2, seed=0)
    assert all(math.isfinite(number) for number in metrics.values())
    assert metrics["delta_rel"] == metrics["diameter"] == metrics["delta_rel_gaussian"] == 0
    assert metrics["radius_entropy_spearman"] == 0


def test_same_inputs_give_the_same_bits_and_knobs_matter() -> None:
    v, entropy = normal(300, 4, 2, 2), {"entropy": normal(300).abs()}
    default = latent_hierarchy(ball(4), v, entropy, points=50, tries=3, seed=0)
    assert latent_hierarchy(ball(4), v, entropy, points=50, tries=3, seed=0) == default
    for points, tries, seed in [(60, 3, 0), (50, 2, 0), (50, 3, 1)]:
        other = latent_hierarchy(ball(4), v, entropy, points=points, tries=tries, seed=seed)
        assert other["delta_rel"] != default["delta_rel"]


def test_too_few_latents_are_refused() -> None:
    for n, points, tries in [(3, 10, 1), (10, 3, 1), (10, 10, 0)]:
        with pytest.raises(UserError, match=r"metrics\.hierarchy"):
            latent_hierarchy(Euclidean(2), normal(n, 2), {}, points=points, tries=tries, seed=0)


@pytest.mark.parametrize("manifold", MANIFOLDS)
@pytest.mark.parametrize("positions", [(), (2, 3)])
def test_signal_and_noise(manifold: Manifold, positions: tuple[int, ...]) -> None:
    loc, noise = 0.3 * normal(500, 4, *positions), 0.4 * normal(500, 4, *positions, seed=1)
    found = signal_and_noise(manifold, loc, manifold.add_normal(loc, noise, dim=1))
    assert found["signal_rms"] == pytest.approx(0.3, rel=0.05)
    assert found["noise_rms"] == pytest.approx(0.4, rel=0.05)
    assert found["posterior_noise_share"] == pytest.approx(0.64, abs=0.03)
    assert found["sqrt_c_rms_drawn"] >= found["sqrt_c_rms_noise"] * 0.99

    # an encoder that says the same of every image, wherever it says it
    same = torch.full_like(loc, 0.7)
    nothing = signal_and_noise(manifold, same, manifold.add_normal(same, noise, dim=1))
    assert nothing["signal_rms"] == nothing["sqrt_c_rms_signal"] == 0
    assert nothing["posterior_noise_share"] == 1
    # and one that is sure
    sure = signal_and_noise(manifold, loc, loc)
    assert sure["noise_rms"] == pytest.approx(0, abs=1e-6)
    assert sure["posterior_noise_share"] == pytest.approx(0, abs=1e-9)


def test_delta_is_a_mean_over_base_points() -> None:
    v = normal(60, 4)
    each = [relative_delta(ball(4), torch.cat([v[i:], v[:i]]))[0] for i in range(3)]
    assert relative_delta(ball(4), v, 3)[0] == pytest.approx(sum(each) / 3)
    found = latent_hierarchy(ball(4), v, {}, points=50, tries=1, base_points=3, seed=0)
    assert (found["delta_points"], found["delta_base_points"]) == (50, 3)
