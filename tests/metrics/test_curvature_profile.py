"""The likelihood of a curvature: known ones are found, and flat clouds of many kinds tell none."""

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from hldm.distributions import RiemannianNormal, WrappedNormal
from hldm.distributions.radial import RadialLaw
from hldm.geometry import Euclidean, FixedCurvature, PoincareBall, ProductManifold
from hldm.metrics.curvature_profile import (
    FAMILIES,
    _log_likelihood,
    balls_of,
    curvature_profiles,
    peak,
    riemannian_scale,
    summarised,
)

N = 1500


def generator(seed):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def better(balls, groups=None, **options):
    """The profile of the family that is likelier."""
    groups = torch.zeros(len(balls[0]), dtype=torch.long) if groups is None else groups
    profiles = curvature_profiles(balls, groups, **options)
    return max(profiles.values(), key=lambda profile: profile.flat + max(0.0, *profile.gain))


CLASSES = torch.arange(N) % 5


def riemannian(c):
    """Around the origin: the radii tell."""
    law = RiemannianNormal(PoincareBall(8, FixedCurvature(c)), torch.zeros(N, 8, dtype=torch.float64), 0.8 * c**-0.5)
    return law.draw(generator(0)).v.unsqueeze(1), None


def wrapped(c):
    """Clouds away from the origin, longer in some directions than in others: their shapes tell."""
    scale = torch.linspace(0.2, 0.8, 8, dtype=torch.float64) * c**-0.5
    law = WrappedNormal(PoincareBall(8, FixedCurvature(c)), c**-0.5 * randn(5, 8, seed=1)[CLASSES], scale)
    return law.draw(generator(2)).v.unsqueeze(1), CLASSES


@pytest.mark.parametrize("c", [0.2, 5.0])
@pytest.mark.parametrize("data", [riemannian, wrapped])
def test_a_known_curvature_is_found(data, c):
    v, groups = data(c)
    profile = better([v], groups)
    assert profile.is_identified
    assert profile.interval[0] <= c <= profile.interval[1]
    assert profile.best == pytest.approx(c, rel=0.15)


CENTRES = randn(5, 1, 8, seed=7)[CLASSES]
FLAT = {
    "round": lambda seed: (randn(N, 1, 8, seed=seed), None),
    "long": lambda seed: (randn(N, 1, 8, seed=seed) * torch.linspace(0.3, 2, 8, dtype=torch.float64), None),
    "off the origin": lambda seed: (1 + 0.3 * randn(N, 1, 8, seed=seed), None),
    "clusters": lambda seed: (CENTRES + 0.4 * randn(N, 1, 8, seed=seed), CLASSES),
    "long along the radius": lambda seed: (
        CENTRES * (1 + 0.3 * randn(N, 1, 1, seed=seed + 50)) + 0.2 * randn(N, 1, 8, seed=seed), CLASSES
    ),
    "many balls": lambda seed: (0.3 + 0.5 * randn(400, 16, 4, seed=seed), None),
}  # fmt: skip


@pytest.mark.parametrize("kind", FLAT)
def test_flat_gaussians_tell_none(kind):
    profile = better([FLAT[kind](0)[0]], FLAT[kind](0)[1])
    assert not profile.is_identified


def test_a_likelihood_that_falls_from_the_first_c_on_tells_no_c():
    grid = [0.1, 0.3, 1.0, 3.0]
    gain = torch.tensor([0.0, 4.0, 3.0, 2.0, 1.0]).unsqueeze(1) + 0.1 * randn(5, 200)
    profile = summarised(gain, grid, torch.arange(200), seed=0)
    assert profile.best == grid[0]
    assert not profile.is_identified
    inside = summarised(gain[[0, 2, 1, 3, 4]], grid, torch.arange(200), seed=0)
    assert inside.is_identified


def test_flat_gaussians_are_taken_for_curved_ones_at_most_as_often_as_two_errors_allow():
    """One side of a normal law: 2.3 of 100."""
    found = [better([randn(200, 1, 3, seed=seed)]).is_identified for seed in range(10)]
    assert sum(found) <= 1


def test_a_wrapped_normal_around_the_origin_is_flat_in_its_normal_coordinates():
    """So a run's own prior tells nothing, whatever its c: the wrapped family is at the origin of the chart."""
    v, groups = 0.8 * randn(N, 1, 4), torch.zeros(N, dtype=torch.long)
    profile = curvature_profiles([v], groups)["wrapped"]
    assert not profile.is_identified
    assert max(map(abs, profile.gain)) < 0.1


@pytest.mark.parametrize("c", [0.0, 0.7])
def test_the_densities_are_those_of_the_fitted_laws(c):
    """Against torch in flat space and against the Riemannian normal on a ball, both with the volume of the chart."""
    v = 0.4 + 0.5 * randn(60, 1, 3)
    groups, held = torch.arange(60) % 2, torch.arange(60) % 4 >= 2
    found = dict(_log_likelihood(v, groups, held, c))
    assert tuple(found) == FAMILIES
    ball = PoincareBall(3, FixedCurvature(c))
    frames, means = {}, {}
    for group in (0, 1):
        own = v[(groups == group) & ~held, 0]
        means[group] = ball.frechet_mean(own, torch.ones(len(own), dtype=torch.float64))
        frames[group] = ball.add_normal(-means[group].expand_as(own), own)
    pooled = sum(w.T @ w for w in frames.values()) / 30
    for i, (x, group) in enumerate(zip(v[held, 0], groups[held].tolist(), strict=True)):
        w, m = frames[group], means[group]
        at = ball.add_normal(-m, x)
        covariance = (w.T @ w + 4 * pooled) / (len(w) + 4)
        expected = MultivariateNormal(torch.zeros(3, dtype=torch.float64), covariance).log_prob(at)
        expected = expected - ball.log_volume(at) + ball.log_volume(x)
        torch.testing.assert_close(found["wrapped"][i], expected, rtol=1e-6, atol=1e-6)
        sigma = float(riemannian_scale(w.square().sum(1).mean(), 3, c))
        expected = RiemannianNormal(ball, m, sigma).log_prob_normal(x) + ball.log_volume(x)
        torch.testing.assert_close(found["riemannian"][i], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", [2, 4, 16])
@pytest.mark.parametrize("c", [0.0, 1e-3, 1.0, 10.0])
def test_the_scale_of_a_riemannian_normal_has_the_second_moment_of_the_data(n, c):
    square = torch.logspace(-3, 1.5, 10, dtype=torch.float64)
    sigma = riemannian_scale(square, n, c)
    torch.testing.assert_close(
        sigma.square() * RadialLaw(c * sigma.square(), n).second_moment(), square, rtol=1e-5, atol=0
    )


def test_lengths_in_another_unit_change_c_alone():
    """(v, c) → (s·v, c/s²) is the same law in other units."""
    v, groups = wrapped(1.0)
    one, other = (better([s * v], groups) for s in (1.0, 3.0))
    assert other.best == pytest.approx(one.best / 9, rel=1e-6)
    assert other.gain == pytest.approx(one.gain, rel=1e-6)


def test_images_that_depend_on_each_other_count_as_one():
    v = riemannian(1.0)[0][:300]
    copies, alone = v.repeat_interleave(4, 0), torch.zeros(1200, dtype=torch.long)
    clusters = torch.arange(300).repeat_interleave(4)
    naive = curvature_profiles([copies], alone)["riemannian"]
    honest = curvature_profiles([copies], alone, clusters)["riemannian"]
    assert honest.gain == naive.gain
    ratio = np.array(honest.error) / np.array(naive.error)
    assert ratio == pytest.approx(2**0.5, rel=0.15)  # two of each four copies are judged


def test_the_error_is_that_of_the_mean():
    log_p = torch.cat([torch.zeros(1, 4000), 0.1 + randn(1, 4000)]).double()
    profile = summarised(torch.cat([log_p, log_p[1:] - 1]), [1.0, 2.0], torch.arange(4000), 0)
    assert profile.error[0] == pytest.approx(4000**-0.5, rel=0.1)
    assert profile.gain[0] == pytest.approx(float(log_p[1].mean()))


def test_the_peak_lies_between_grid_points():
    grid = [1.0, 10.0, 100.0]
    logs = np.log10(grid)
    assert peak(5 - (logs - 1.2) ** 2, grid) == pytest.approx(10**1.2)
    assert peak(np.array([1.0, 2.0, 3.0]), grid) == 100.0
    assert peak(np.array([-1.0, -2.0, -3.0]), grid) == 0.0


def test_balls_are_those_of_every_position_and_factor():
    ball = PoincareBall(4, FixedCurvature(1.0), balls=2)
    v = randn(3, 7, 2, 2)
    (found,) = balls_of(ProductManifold([Euclidean(3), ball]), v)
    assert found.shape == (3, 8, 2)
    expected = {tuple(v[0, at : at + 2, i, j].tolist()) for at in (3, 5) for i in (0, 1) for j in (0, 1)}
    assert {tuple(point.tolist()) for point in found[0]} == expected
    (flat,) = balls_of(Euclidean(7), v)
    assert flat.shape == (3, 4, 7)
    torch.testing.assert_close(flat[0, 1], v[0, :, 0, 1])
    assert balls_of(PoincareBall(2, FixedCurvature(1.0), balls=2), randn(3, 2)) == []
