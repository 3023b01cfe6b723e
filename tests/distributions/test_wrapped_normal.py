"""Wrapped normal: density, sampling, KL, gradients, limits."""

import pytest
import torch

from hldm.distributions import Draw, WrappedNormal
from hldm.errors import UserError
from hldm.geometry import Euclidean, FixedCurvature, LearnableCurvature, PoincareBall, ProductManifold, ops

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("c", [1e-4, 0.7, 1.4])
@pytest.mark.parametrize("mean", [(0.0, 0.0), (0.8, -1.1)])
def test_density_integrates_to_one(c: float, mean: tuple[float, float], polar_grid) -> None:
    q = WrappedNormal(
        PoincareBall(2, FixedCurvature(c)), torch.tensor(mean, dtype=F64), torch.tensor([0.6, 1.0], dtype=F64)
    )
    v, area = polar_grid(c, 9.0)
    assert abs((q.log_prob_normal(v).exp() * area).sum().item() - 1) < 1e-6


@pytest.mark.parametrize("c", [1e-4, 0.7])
def test_density_by_change_of_variables(c: float) -> None:
    """log q = log N(w) − log |det dv/dw| − log volume element at v, by automatic differentiation."""
    manifold = PoincareBall(3, FixedCurvature(c))
    loc, scale = torch.tensor([0.5, -0.3, 0.9], dtype=F64), torch.tensor([0.4, 1.0, 0.7], dtype=F64)
    q = WrappedNormal(manifold, loc, scale)
    draw = q.draw(generator(), (8,))
    for w, v, got in zip(draw.w, draw.v, q.log_prob(draw.z), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda a: manifold.add_normal(loc, a), w)
        gaussian = torch.distributions.Normal(torch.zeros(3, dtype=F64), scale).log_prob(w).sum()
        torch.testing.assert_close(got, gaussian - jacobian.det().log() - manifold.log_volume(v), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(q.log_prob_draw(draw), q.log_prob(draw.z), rtol=1e-9, atol=1e-9)


def test_samples_follow_pvaes_construction() -> None:
    """z = exp_μ(PT_{0→μ}(v/λ_0)) with v ~ N(0, Σ): Mathieu et al. (2019)."""
    manifold = PoincareBall(3, FixedCurvature(0.7))
    loc = torch.tensor([[0.5, -0.3, 0.9]], dtype=F64)
    draw = WrappedNormal(manifold, loc, 0.8).draw(generator())
    mu, origin = manifold.from_tangent(loc), torch.zeros_like(loc)
    noise = 0.8 * torch.randn(1, 3, generator=generator(), dtype=F64)
    z = manifold.expmap(mu, manifold.transport(origin, mu, noise / 2))
    torch.testing.assert_close(draw.z, z)
    torch.testing.assert_close(draw.w, noise)


def kl_by_quadrature(q: WrappedNormal, p: WrappedNormal, v: torch.Tensor, area: torch.Tensor) -> torch.Tensor:
    log_q = q.log_prob_normal(v)
    return (log_q.exp() * (log_q - p.log_prob_normal(v)) * area).sum()


@pytest.mark.parametrize("c", [0.01, 1.4])
def test_kl_is_unbiased_and_of_low_variance(c: float, polar_grid) -> None:
    manifold = PoincareBall(2, FixedCurvature(c))
    q = WrappedNormal(manifold, torch.tensor([0.7, -0.9], dtype=F64), torch.tensor([0.5, 0.3], dtype=F64))
    exact = kl_by_quadrature(q, q.centred(1.2), *polar_grid(c, 12.0))
    draw = q.draw(generator(), (40_000,))
    low, plain = q.kl_to_centred(1.2, draw), q.kl_monte_carlo(1.2, draw)
    for estimate in (low, plain):
        assert abs(estimate.mean() - exact) < 4 * estimate.std() / 200
    assert low.std() < (0.02 if c == 0.01 else 0.6) * plain.std()
    assert q.kl_to_centred(1.2, generator=generator()).shape == ()


def test_euclidean_limit_is_torchs_normal() -> None:
    loc, scale = torch.randn(5, 4, generator=generator()), torch.rand(5, 4, generator=generator(1)) + 0.1
    q = WrappedNormal(Euclidean(4), loc, scale)
    normal, prior = torch.distributions.Normal(loc, scale), torch.distributions.Normal(0.0, 1.3)
    z = q.rsample(generator())
    assert z.equal(loc + scale * torch.randn(5, 4, generator=generator()))
    torch.testing.assert_close(q.log_prob(z), normal.log_prob(z).sum(-1))
    torch.testing.assert_close(q.kl_to_centred(1.3), torch.distributions.kl_divergence(normal, prior).sum(-1))
    torch.testing.assert_close(q.log_normalizer(), (scale * (2 * torch.pi) ** 0.5).log().sum(-1))


MAPS = {
    "ball at c = 0": PoincareBall(6, FixedCurvature(0.0), balls=2),
    "no ball": ProductManifold([Euclidean(6), PoincareBall(0, FixedCurvature(1.0))]),
    "all ball at c = 0": ProductManifold([Euclidean(2), PoincareBall(4, FixedCurvature(0.0))]),
}


@pytest.mark.parametrize("manifold", MAPS.values(), ids=MAPS.keys())
def test_zero_curvature_is_bit_identical_on_feature_maps(manifold) -> None:
    loc, scale = torch.randn(3, 6, 4, 4, generator=generator()), torch.rand(3, 6, 4, 4, generator=generator(1)) + 0.1
    results = []
    for m in (Euclidean(6), manifold):
        at = loc.clone().requires_grad_()
        q = WrappedNormal(m, at, scale, dim=1)
        draw = q.draw(generator(2))
        kl = q.kl_to_centred(1.1, draw)
        (kl.sum() + draw.v.square().sum()).backward()
        results.append((draw.v.detach(), kl.detach(), q.log_prob(draw.z).detach(), at.grad))
    for a, b in zip(*results, strict=True):
        assert a.equal(b)
    assert results[0][1].shape == (3, 4, 4)


def test_rate_of_convergence_is_c() -> None:
    loc, scale = (
        torch.randn(20, 4, generator=generator(), dtype=F64),
        torch.rand(20, 4, generator=generator(1), dtype=F64) + 0.1,
    )
    flat = WrappedNormal(Euclidean(4), loc, scale)
    errors = []
    for c in (1e-4, 1e-6):
        q = WrappedNormal(PoincareBall(4, LearnableCurvature(c).double()), loc, scale)
        draw, same = q.draw(generator(2)), flat.draw(generator(2))
        pairs = [(draw.v, same.v), (q.log_prob_draw(draw), flat.log_prob_draw(same))]
        pairs += [(q.kl_to_centred(1.0, draw), flat.kl_to_centred(1.0, same))]
        errors.append([(a - b).abs().max().item() for a, b in pairs])
    for coarse, fine in zip(*errors, strict=True):
        assert 90 < coarse / fine < 110


@pytest.mark.parametrize("s", [0.2, 5.0])
def test_homothety(s: float) -> None:
    """Lengths divided by s: c → c·s², log p → log p + n log s; the KL does not move."""
    manifold = PoincareBall(4, FixedCurvature(0.7), balls=2)
    loc, scale = (
        torch.randn(20, 4, generator=generator(), dtype=F64),
        torch.rand(20, 4, generator=generator(1), dtype=F64) + 0.1,
    )
    q, small = WrappedNormal(manifold, loc, scale), WrappedNormal(manifold.rescaled(s), loc / s, scale / s)
    draw, scaled = q.draw(generator(2)), small.draw(generator(2))
    torch.testing.assert_close(scaled.v * s, draw.v)
    torch.testing.assert_close(
        small.log_prob_draw(scaled), q.log_prob_draw(draw) + 4 * torch.tensor(s, dtype=F64).log()
    )
    torch.testing.assert_close(small.kl_to_centred(1.3 / s, scaled), q.kl_to_centred(1.3, draw))


def test_gradients_to_location_scale_and_curvature() -> None:
    loc = torch.randn(2, 4, generator=generator(), dtype=F64, requires_grad=True)
    scale = (torch.rand(2, 4, generator=generator(1), dtype=F64) + 0.3).requires_grad_()
    curvature = LearnableCurvature(0.9).double()
    prior = torch.tensor(1.1, dtype=F64, requires_grad=True)

    elsewhere = torch.full((2, 4), 0.3, dtype=F64)

    def f(loc, scale, raw, prior):
        manifold = PoincareBall(4, curvature, balls=2)
        q = WrappedNormal(manifold, loc, scale)
        draw = q.draw(generator(3))
        return draw.z, q.kl_to_centred(prior, draw), q.kl_monte_carlo(prior, draw), q.log_prob(elsewhere)

    assert torch.autograd.gradcheck(f, (loc, scale, curvature.raw, prior))


@pytest.mark.parametrize("c", [1e-6, 1.0, 10.0])
@pytest.mark.parametrize("n", [1, 2, 8])
@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_float32_stays_close_to_float64_up_to_a_spread_of_12(c: float, n: int, mean: float) -> None:
    """Draws, densities, KL and their gradients where √c σ √n = 12, with tails: √c|w| goes beyond 20."""
    sigma = 12 / (c * n) ** 0.5
    noise = sigma * torch.randn(500, n, generator=generator(), dtype=F64)
    centre = mean / c**0.5 * torch.nn.functional.normalize(noise.flip(0), dim=1)
    results = []
    for dtype in (torch.float32, F64):
        # the same numbers, rounded once
        loc, w = centre.float().to(dtype).requires_grad_(), noise.float().to(dtype)
        scale = torch.full((n,), sigma).to(dtype).requires_grad_()
        q = WrappedNormal(PoincareBall(n, FixedCurvature(c)), loc, scale)
        w = w * (scale / scale.detach())
        draw = Draw(q.manifold, -1, w, q.manifold.add_normal(loc, w))
        values = [draw.v * c**0.5, q.log_prob_draw(draw)[:, None], q.kl_to_centred(sigma, draw)[:, None]]
        gradients = torch.autograd.grad(sum(v.sum() for v in values), [loc, scale])
        results.append([*values, *(g / c**0.5 for g in gradients)])
    assert 20 < w.norm(dim=1).max() * c**0.5 < 45
    for single, double in zip(*results, strict=True):
        error = (single.double() - double).abs() / (1 + double.abs())
        assert error.max() < 1e-4


def test_a_line_is_not_curved() -> None:
    """Normal coordinates of one dimension add up, however far: the tails of a spread of 12 reach beyond 40."""
    q = WrappedNormal(PoincareBall(2, FixedCurvature(3.0), balls=2), torch.full((3, 2), 0.5), 12.0)
    w = torch.tensor([[-38.0, 1.0], [38.0, 60.0], [60.0, 0.0]])
    torch.testing.assert_close(q.manifold.add_normal(q.loc, w), q.loc + w, rtol=0, atol=0)
    z = ops.expmap0(torch.tensor([[0.7]]), 3.0), ops.expmap0(torch.tensor([[-1.1]]), 3.0)
    torch.testing.assert_close(ops.logmap0(ops.mobius_add(*z, 3.0), 3.0), torch.tensor([[-0.4]]))


def test_points_that_the_format_cannot_hold_are_refused() -> None:
    manifold = ProductManifold([Euclidean(2), PoincareBall(4, FixedCurvature(1.0), balls=2)])
    loc = torch.zeros(1, 6)
    loc[0, 3] = 15.5
    q = WrappedNormal(manifold, loc, 1e-3)
    assert q.rsample_tangent(generator()).isfinite().all()
    with pytest.raises(UserError, match=r"√c·r = 15.5.*end at 15 in"):
        q.rsample(generator())
    WrappedNormal(manifold, loc.double(), 1e-3).rsample(generator())
    far = torch.full((1, 6), 100.0)
    assert WrappedNormal(Euclidean(6), far, 1.0).rsample(generator()).isfinite().all()


def test_the_prior_is_centred_with_one_scale() -> None:
    loc = torch.randn(3, 4, 2, generator=generator())
    prior = WrappedNormal(PoincareBall(4, FixedCurvature(0.8), balls=2), loc, 0.7, dim=1).centred(1.2)
    assert prior.is_centred
    assert prior.loc.equal(torch.zeros_like(loc))
    assert prior.scale.unique().equal(torch.tensor([1.2]))
    assert prior.log_prob_normal(loc).equal(
        prior.log_prob_draw(type(prior.draw())(prior.manifold, prior.dim, loc, loc))
    )
