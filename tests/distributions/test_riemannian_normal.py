"""Riemannian normal: normaliser, density, samples, KL, gradients, limits."""

import math

import pytest
import torch

from hldm.distributions import RiemannianNormal, WrappedNormal
from hldm.errors import UserError
from hldm.geometry import Euclidean, FixedCurvature, LearnableCurvature, PoincareBall, ProductManifold

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ball(c: float, n: int = 2, balls: int = 1) -> PoincareBall:
    return PoincareBall(n * balls, FixedCurvature(c), balls)


def alternating_sum(sigma: float, c: float, n: int) -> float:
    """The published normaliser (Mathieu et al. (2019), appendix B) at 60 digits, where its cancellation is harmless."""
    import mpmath as mp

    with mp.workdps(60):
        s, k = mp.mpf(sigma), mp.sqrt(mp.mpf(c))
        terms = [
            (-1) ** j * mp.binomial(n - 1, j) * mp.exp(((n - 1 - 2 * j) * k * s) ** 2 / 2)
            * (1 + mp.erf((n - 1 - 2 * j) * k * s / mp.sqrt(2)))
            for j in range(n)
        ]  # fmt: skip
        sphere = 2 * mp.pi ** (mp.mpf(n) / 2) / mp.gamma(mp.mpf(n) / 2)
        return float(mp.log(sphere * mp.sqrt(mp.pi / 2) * s / (2 * k) ** (n - 1) * mp.fsum(terms)))


@pytest.mark.parametrize(
    ("c", "n", "sigma"),
    [(1e-3, 10, 0.1), (0.1, 16, 0.1), (1.0, 2, 1.0), (1.4, 5, 2.0), (10.0, 8, 10.0), (1e-2, 3, 0.01), (1.0, 32, 2.0)],
)
def test_log_normalizer_where_float64_closed_forms_cancel(c: float, n: int, sigma: float) -> None:
    q = RiemannianNormal(ball(c, n), torch.zeros(n, dtype=F64), sigma)
    exact = alternating_sum(sigma, c, n)
    assert abs(q.log_normalizer().item() - exact) < 1e-9 + 1e-14 * abs(exact)


@pytest.mark.parametrize("c", [1e-4, 0.7, 1.4])
@pytest.mark.parametrize("mean", [(0.0, 0.0), (0.8, -1.1)])
def test_density_integrates_to_one(c: float, mean: tuple[float, float], polar_grid) -> None:
    q = RiemannianNormal(ball(c), torch.tensor(mean, dtype=F64), 0.7)
    v, area = polar_grid(c, 9.0)
    assert abs((q.log_prob_normal(v).exp() * area).sum().item() - 1) < 1e-6


def test_density_is_that_of_the_distance() -> None:
    manifold = ball(0.7, 3)
    loc = torch.tensor([0.5, -0.3, 0.9], dtype=F64)
    q = RiemannianNormal(manifold, loc, 0.6)
    draw = q.draw(generator(), (9,))
    d = manifold.dist(manifold.from_tangent(loc).expand(9, 3), draw.z)
    expected = -d.square() / (2 * 0.36) - q.log_normalizer()
    torch.testing.assert_close(q.log_prob(draw.z), expected)
    torch.testing.assert_close(q.log_prob_draw(draw), expected)


@pytest.mark.parametrize(("c", "n"), [(1e-6, 3), (1.0, 2), (1.0, 8), (4.0, 20)])
def test_radii_and_directions_of_samples(c: float, n: int) -> None:
    """Kolmogorov–Smirnov on the radius by its own distribution function, and a mean direction near 0."""
    from scipy import stats

    sigma, count = 0.8, 4000
    q = RiemannianNormal(ball(c, n), torch.zeros(n, dtype=F64), sigma)
    w = q.draw(generator(), (count,)).w
    t = w.norm(dim=-1).sort().values / sigma
    x = torch.linspace(1e-9, float(t.max()) + 3, 20_001, dtype=F64)
    k = math.sqrt(c) * sigma
    log_f = -x.square() / 2 + (n - 1) * (torch.sinh(k * x) / k).log()
    f = (log_f - log_f.max()).exp()
    cdf = torch.cumulative_trapezoid(f, x)
    u = torch.from_numpy(__import__("numpy").interp(t.numpy(), x[1:].numpy(), (cdf / cdf[-1]).numpy()))
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-3
    direction = torch.nn.functional.normalize(w, dim=-1).mean(0) * math.sqrt(count * n)
    assert direction.abs().max() < 4


@pytest.mark.parametrize("c", [0.01, 1.4])
def test_kl_is_unbiased_and_of_low_variance(c: float) -> None:
    q = RiemannianNormal(ball(c, 3), torch.tensor([0.7, -0.9, 0.4], dtype=F64), 0.5)
    draw = q.draw(generator(), (40_000,))
    low, plain = q.kl_to_centred(1.2, draw), q.kl_monte_carlo(1.2, draw)
    assert abs(low.mean() - plain.mean()) < 4 * plain.std() / 200
    assert low.std() < (0.02 if c == 0.01 else 0.6) * plain.std()


def test_kl_between_concentric_laws_is_exact() -> None:
    q = RiemannianNormal(ball(1.0, 3), torch.zeros(3, dtype=F64), 0.5)
    draw = q.draw(generator(), (200,))
    low = q.kl_to_centred(1.2, draw)
    assert low.std() < 1e-12
    assert abs(q.kl_monte_carlo(1.2, q.draw(generator(1), (100_000,))).mean() - low[0]) < 0.02
    assert q.kl_to_centred(0.5, generator=generator()).abs() < 1e-12


def test_gradients_to_location_scale_and_curvature() -> None:
    loc = torch.randn(2, 6, generator=generator(), dtype=F64, requires_grad=True)
    scale = (torch.rand(2, 3, generator=generator(1), dtype=F64) + 0.3).requires_grad_()
    curvature = LearnableCurvature(0.9).double()
    elsewhere = torch.full((2, 6), 0.3, dtype=F64)
    manifold = ProductManifold([Euclidean(2), PoincareBall(4, curvature, balls=2)])

    def f(loc, scale, raw):
        q = RiemannianNormal(manifold, loc, scale)
        draw = q.draw(generator(3))
        return (
            draw.z,
            q.kl_to_centred(1.2, draw),
            q.kl_monte_carlo(1.2, draw),
            q.log_prob(elsewhere),
            q.log_normalizer(),
        )

    assert torch.autograd.gradcheck(f, (loc, scale, curvature.raw))


def test_euclidean_limit() -> None:
    """Flat: the isotropic Gaussian, from the same noise as the wrapped normal, bit for bit."""
    loc, scale = torch.randn(3, 6, 2, 2, generator=generator()), torch.rand(3, 1, 2, 2, generator=generator(1)) + 0.1
    for manifold in (Euclidean(6), PoincareBall(6, FixedCurvature(0.0))):
        q, wrapped = RiemannianNormal(manifold, loc, scale, dim=1), WrappedNormal(manifold, loc, scale, dim=1)
        draw, same = q.draw(generator(2)), wrapped.draw(generator(2))
        assert draw.v.equal(same.v)
        torch.testing.assert_close(q.log_prob_draw(draw), wrapped.log_prob_draw(same))
        torch.testing.assert_close(q.kl_to_centred(1.3, draw), wrapped.kl_to_centred(1.3, same))
        torch.testing.assert_close(q.log_normalizer(), wrapped.log_normalizer())


def test_rate_of_convergence_is_c() -> None:
    loc, scale = (
        torch.randn(20, 4, generator=generator(), dtype=F64),
        torch.rand(20, 2, generator=generator(1), dtype=F64) + 0.1,
    )
    flat = RiemannianNormal(PoincareBall(4, FixedCurvature(0.0), balls=2), loc, scale)
    errors = []
    for c in (1e-4, 1e-6):
        q = RiemannianNormal(PoincareBall(4, LearnableCurvature(c).double(), balls=2), loc, scale)
        draw, same = q.draw(generator(2)), flat.draw(generator(2))
        pairs = [(draw.v, same.v), (q.log_prob_draw(draw), flat.log_prob_draw(same))]
        pairs += [(q.kl_to_centred(1.0, draw), flat.kl_to_centred(1.0, same))]
        errors.append([(a - b).abs().max().item() for a, b in pairs])
    for coarse, fine in zip(*errors, strict=True):
        assert 90 < coarse / fine < 110


def test_nearly_flat_draws_are_gaussian_ones_to_ten_digits_in_the_tails_too() -> None:
    """The quantile of |ε| among Gaussians goes through a distribution function near 1, which takes float64."""
    loc = torch.zeros(20_000, 3, dtype=F64)
    draw = RiemannianNormal(ball(1e-12, 3), loc, 1.3).draw(generator())
    torch.testing.assert_close(draw.w, RiemannianNormal(Euclidean(3), loc, 1.3).draw(generator()).w, rtol=0, atol=1e-9)


@pytest.mark.parametrize("s", [0.2, 5.0])
def test_homothety(s: float) -> None:
    manifold = PoincareBall(4, FixedCurvature(0.7), balls=2)
    loc, scale = (
        torch.randn(20, 4, generator=generator(), dtype=F64),
        torch.rand(20, 2, generator=generator(1), dtype=F64) + 0.1,
    )
    q, small = RiemannianNormal(manifold, loc, scale), RiemannianNormal(manifold.rescaled(s), loc / s, scale / s)
    draw, scaled = q.draw(generator(2)), small.draw(generator(2))
    torch.testing.assert_close(scaled.v * s, draw.v)
    torch.testing.assert_close(small.log_prob_draw(scaled), q.log_prob_draw(draw) + 4 * math.log(s))
    torch.testing.assert_close(small.kl_to_centred(1.3 / s, scaled), q.kl_to_centred(1.3, draw))


def test_float32_and_feature_maps() -> None:
    manifold = ProductManifold([Euclidean(2), PoincareBall(4, FixedCurvature(1.0), balls=2)])
    loc, scale = torch.randn(3, 6, 2, 2, generator=generator()), torch.rand(3, 3, 2, 2, generator=generator(1)) + 0.1
    q, exact = (
        RiemannianNormal(manifold, loc, scale, dim=1),
        RiemannianNormal(manifold, loc.double(), scale.double(), dim=1),
    )
    draw = q.draw(generator(2))
    assert draw.v.dtype == torch.float32
    assert q.kl_to_centred(1.0, draw).shape == (3, 2, 2)
    widened = type(draw)(manifold, draw.dim, draw.w.double(), manifold.add_normal(loc.double(), draw.w.double(), 1))
    torch.testing.assert_close(draw.v.double(), widened.v, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        q.kl_to_centred(1.0, draw).double(), exact.kl_to_centred(1.0, widened), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(q.log_prob_draw(draw).double(), exact.log_prob_draw(widened), rtol=1e-4, atol=1e-4)


def test_high_dimensions_keep_samples_as_radius_and_direction() -> None:
    """At n = 64 all mass lies where no ball coordinates exist; radius, density and KL do not need them."""
    q = RiemannianNormal(ball(1.0, 64), torch.zeros(5, 64), 1.0)
    draw = q.draw(generator())
    assert ((draw.w.norm(dim=-1) - 63).abs() < 5).all()
    assert q.log_prob_draw(draw).isfinite().all()
    assert q.kl_to_centred(0.9, draw).isfinite().all()
    with pytest.raises(UserError, match="ball coordinates end at 15"):
        q.rsample(generator())


def test_wrong_number_of_scales_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 2 scales per point"):
        RiemannianNormal(ball(1.0, 2, balls=2), torch.zeros(3, 4), torch.ones(3, 4))
    assert RiemannianNormal.scale_channels(ball(1.0, 2, balls=2)) == 2
    assert WrappedNormal.scale_channels(ball(1.0, 2, balls=2)) == 4


def test_the_prior_is_centred_with_one_scale() -> None:
    loc = torch.randn(3, 4, 2, generator=generator())
    prior = RiemannianNormal(PoincareBall(4, FixedCurvature(0.8), balls=2), loc, 0.7, dim=1).centred(1.2)
    assert prior.is_centred
    assert prior.loc.equal(torch.zeros_like(loc))
    assert prior.scale.unique().equal(torch.tensor([1.2]))
    assert prior.log_prob_normal(loc).equal(
        prior.log_prob_draw(type(prior.draw())(prior.manifold, prior.dim, loc, loc))
    )
