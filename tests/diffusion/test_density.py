"""Densities under the flow: normalised, closed forms, limits, homothety, and an unbiased estimate of the divergence."""

import math

import numpy as np
import pytest
import torch

from hldm.diffusion import FlowMatching, TangentDDPM, log_density
from hldm.diffusion.density import velocity_and_divergence
from hldm.distributions import WrappedNormal
from hldm.geometry import Euclidean, FixedCurvature, PoincareBall, ProductManifold

FLOW = FlowMatching(time="uniform")
STEPS = 24


def ball(c, channels=2, balls=1):
    return PoincareBall(channels, FixedCurvature(c), balls)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def network(channels, scale=1.0):
    """A smooth random field of points, (B, C, 1, 1)."""
    layers = torch.randn(2, 8, channels + 1, generator=generator(7), dtype=torch.float64)

    def predict(v, t):
        x = torch.cat([v.flatten(1) / scale, t.double().unsqueeze(1)], 1)
        return scale * (torch.tanh(x @ layers[0].T) @ layers[1, :, :channels]).view_as(v)

    return predict


def points(*shape, seed=1):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def density(manifold, v, predict, process=FLOW, steps=STEPS, **how):
    return log_density(process, manifold, predict, v, steps, generator(3), **how)


@pytest.mark.parametrize("c", [0.0, 0.1, 1.0])
def test_a_density_in_a_plane_integrates_to_one(c):
    """∫ p dvol in polar coordinates, whose area element is sinh(√c r)/√c dr dθ."""
    manifold = ball(c) if c else Euclidean(2)
    x, weights = np.polynomial.legendre.leggauss(48)
    reach = 7.0
    r, dr = torch.as_tensor(reach / 2 * (x + 1)), torch.as_tensor(reach / 2 * weights)
    angle = 2 * math.pi * torch.arange(96, dtype=torch.float64) / 96
    v = (r.view(-1, 1, 1) * torch.stack([angle.cos(), angle.sin()], 1)).view(-1, 2, 1, 1)
    predict = network(2)
    p = density(manifold, v, lambda v, t: 0.3 * predict(v, t), steps=8).exp().view(48, 96)
    area = torch.sinh(math.sqrt(c) * r) / math.sqrt(c) if c else r
    assert (p.sum(1) * area * dr).sum().item() * 2 * math.pi / 96 == pytest.approx(1, abs=1e-6)


def test_the_divergence_is_that_of_the_manifold_in_ball_coordinates():
    """div_g f = Σ ∂_i f_i + n c λ ⟨x, f⟩, and in the chart what it adds to the field's own is d/dt log √g."""
    c, n = 0.7, 3
    manifold, predict, v = ball(c, n), network(3), points(20, n, 1, 1)
    t = torch.full((20,), 0.4, dtype=torch.float64)

    def in_ball(x):
        return manifold.from_frame(x, predict(manifold.to_tangent(x, 1), t), 1)

    x = manifold.from_tangent(v, 1)
    f, euclidean = velocity_and_divergence(in_ball, x)
    lam = 2 / (1 - c * x.square().sum(1))
    expected = euclidean + (n * c * lam * (x * f).sum(1)).flatten()
    u, div = velocity_and_divergence(lambda v: FLOW.velocity(manifold, predict, v, 0.4), v)
    _, rate = torch.func.jvp(lambda v: manifold.log_volume(v, 1), (v,), (u,))
    torch.testing.assert_close(div + rate.flatten(), expected, rtol=1e-9, atol=1e-9)


def test_a_linear_field_makes_a_gaussian_in_flat_space():
    """dv/dt = Av takes N(0, I) to N(0, BBᵀ) with B = exp A."""
    a = 0.4 * points(4, 4)
    covariance = torch.linalg.matrix_exp(a) @ torch.linalg.matrix_exp(a).T
    v = points(50, 4, 1, 1)
    ours = density(Euclidean(4), v, lambda v, t: (v.flatten(1) @ a.T).view_as(v))
    normal = torch.distributions.MultivariateNormal(torch.zeros(4, dtype=torch.float64), covariance)
    torch.testing.assert_close(ours, normal.log_prob(v.flatten(1)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "manifold",
    [Euclidean(4), ball(0.8, 4), ball(0.8, 4, 2), ProductManifold([Euclidean(1), ball(1.2, 3)])],
    ids=["flat", "ball", "two balls", "product"],
)
def test_a_radial_field_makes_a_wrapped_normal_on_every_manifold(manifold):
    """w = a·v stretches all normal coordinates by e^a, at every position of a map alike."""
    a, v = 0.3, points(10, 4, 2, 2)
    ours = density(manifold, v, lambda v, t: a * v)
    exact = WrappedNormal(manifold, torch.zeros_like(v), math.exp(a), dim=1).log_prob_normal(v)
    torch.testing.assert_close(ours, exact.sum((1, 2)), rtol=1e-6, atol=1e-6)


def test_one_point_per_image_is_a_map_of_one_position():
    v, predict = points(5, 3), network(3)
    one = density(ball(0.7, 3), v, predict, steps=2)
    torch.testing.assert_close(one, density(ball(0.7, 3), v.view(5, 3, 1, 1), predict, steps=2), rtol=1e-12, atol=1e-12)


def test_at_c_zero_it_is_the_flat_density_bit_for_bit_and_near_it_at_rate_c():
    v, predict = points(10, 4, 1, 1), network(4)
    flat = density(Euclidean(4), v, predict, steps=6)
    empty = ball(1.0, 0)
    for same in (ball(0.0, 4), ball(0.0, 4, 2), ProductManifold([Euclidean(4), empty])):
        assert torch.equal(density(same, v, predict, steps=6), flat)
    # sums of gradients come in another order through a product
    curved, product = (
        density(m, v, predict, steps=6) for m in (ball(0.5, 4), ProductManifold([Euclidean(0), ball(0.5, 4)]))
    )
    torch.testing.assert_close(product, curved, rtol=1e-12, atol=1e-12)
    gaps = [(density(ball(c, 4), v, predict, steps=6) - flat).abs().max().item() for c in (1e-3, 1e-5)]
    assert 50 < gaps[0] / gaps[1] < 200


def test_a_homothety_divides_the_density_by_its_volume():
    """A flow on v/s with curvature c·s² and noise of scale 1 is one on v with curvature c and noise of scale s."""
    c, s, v = 0.6, 2.5, points(10, 3, 1, 1)
    scaled = density(ball(c * s**2, 3), v / s, lambda v, t: -0.2 * v) - 3 * math.log(s)
    exact = WrappedNormal(ball(c, 3), torch.zeros_like(v), s * math.exp(-0.2), dim=1).log_prob_normal(v)
    torch.testing.assert_close(scaled, exact.sum((1, 2)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("manifold", [Euclidean(3), ball(1.0, 3)], ids=["flat", "ball"])
def test_the_estimate_of_the_divergence_is_unbiased(manifold):
    one = points(1, 3, 1, 1)
    many = one.expand(3000, 3, 1, 1)
    exact = density(manifold, one, network(3), steps=4, exact=True)
    estimates = density(manifold, many, network(3), steps=4, exact=False)
    error = estimates.std() / 3000**0.5
    assert 0 < error < 0.1
    assert (estimates.mean() - exact).abs().item() < 4 * error.item()


def test_many_dimensions_are_estimated_and_few_computed():
    predict = network(4)
    few, many = points(1, 4, 1, 1), points(1, 4, 5, 1)
    assert torch.equal(
        density(ball(1.0, 4), few, predict, steps=2), density(ball(1.0, 4), few, predict, steps=2, exact=True)
    )

    def everywhere(v, t):
        return torch.sin(v) + v.mean((1, 2, 3), keepdim=True)

    by_default = density(ball(1.0, 4), many, everywhere, steps=2)
    assert torch.equal(by_default, density(ball(1.0, 4), many, everywhere, steps=2, exact=False))
    assert not torch.equal(by_default, density(ball(1.0, 4), many, everywhere, steps=2, exact=True))


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_tangent_diffusion_of_gaussian_latents(prediction):
    """The probability flow of N(0, s²): what the best network predicts is linear, and so is the flow.

    It takes N(0, 1) at the last step to the variance V₀/V₉₉₉ at the first, V_k = ᾱ_k s² + 1 − ᾱ_k.
    """
    process, s2 = TangentDDPM(prediction=prediction), 0.49
    alpha_bar = process.scheduler.alphas_cumprod.double()
    angles = torch.acos(alpha_bar.sqrt()).numpy()

    def best(x, t):
        angle = float(np.interp(1000 * t[0].item(), np.arange(1000), angles))
        cos, sin = math.cos(angle), math.sin(angle)
        variance = cos**2 * s2 + sin**2
        noise, latent = sin * x / variance, cos * s2 * x / variance
        return {"epsilon": noise, "x0": latent, "v": cos * noise - sin * latent}[prediction]

    first, last = (float(a * s2 + 1 - a) for a in (alpha_bar[0], alpha_bar[-1]))
    scale = math.sqrt(first / last)
    for manifold in (Euclidean(2), ball(0.9)):
        v = 0.7 * points(10, 2, 1, 1)
        exact = WrappedNormal(manifold, torch.zeros_like(v), scale, dim=1).log_prob_normal(v).sum((1, 2))
        torch.testing.assert_close(density(manifold, v, best, process, 60), exact, rtol=1e-5, atol=1e-5)
