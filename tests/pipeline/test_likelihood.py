"""The marginal likelihood: against a model whose integral is known, against itself by two methods, in its controls."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from hldm.autoencoder import VariationalAutoencoder
from hldm.config.autoencoder import Posterior
from hldm.geometry import Euclidean, FixedCurvature, PoincareBall
from hldm.layout import LatentLayout
from hldm.pipeline import MarginalLikelihood, likelihood
from hldm.pipeline.likelihood import fits, importance_sampling, nodes, posterior_reach, quadrature, rings

SIGMA0 = 0.8
PIXELS = 6
IMAGES = torch.randn(12, PIXELS, generator=torch.Generator().manual_seed(0))
BALLS = [PoincareBall(2, FixedCurvature(c)) for c in (0.1, 1.4)]


class LinearAutoencoder(VariationalAutoencoder):
    """p(x | z) = N(Wv + b, 1). In flat space p(x) is a Gaussian; its posterior here is only about right."""

    likelihood = "normal"

    def __init__(self, manifold, posterior="wrapped", latents=2):
        settings = Posterior(posterior=posterior, prior_scale=SIGMA0)
        super().__init__(settings, layout=LatentLayout.of_point(manifold), image_shape=(PIXELS,))
        self.layer = nn.Linear(latents, PIXELS)
        random = torch.Generator().manual_seed(3)
        nn.init.normal_(self.layer.weight, 0, 0.7, random)
        nn.init.normal_(self.layer.bias, 0, 0.7, random)

    def posterior_parameters(self, images):
        weight = self.layer.weight
        precision = weight.T @ weight + torch.eye(weight.shape[1]) / SIGMA0**2
        loc = torch.linalg.solve(precision, (images - self.layer.bias) @ weight, left=False)
        return loc, (1.3 / precision.diagonal().sqrt()).expand_as(loc)

    @property
    def last_layer(self):
        return self.layer.weight

    def decode(self, v):
        return self.layer(v)

    def exact(self, images):
        weight = self.layer.weight
        return MultivariateNormal(self.layer.bias, SIGMA0**2 * weight @ weight.T + torch.eye(PIXELS)).log_prob(images)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def test_both_methods_find_the_gaussian_integral():
    model = LinearAutoencoder(Euclidean(2))
    exact = model.exact(IMAGES).double()
    by_quadrature = quadrature(model, IMAGES, posterior_reach(model, IMAGES), 0.1)
    torch.testing.assert_close(by_quadrature, exact, rtol=0, atol=2e-4)
    estimate, variance = importance_sampling(model, IMAGES, 4000, generator())
    assert ((estimate - exact).abs() < 5 * variance.sqrt()).all()
    assert variance.max().sqrt() < 0.05


@torch.no_grad()
def test_importance_sampling_in_more_dimensions():
    model = LinearAutoencoder(Euclidean(4), latents=4)
    estimate, variance = importance_sampling(model, IMAGES, 20000, generator())
    assert ((estimate - model.exact(IMAGES)).abs() < 5 * variance.sqrt() + 1e-4).all()


@pytest.mark.parametrize("posterior", ["wrapped", "riemannian"])
@pytest.mark.parametrize("manifold", BALLS, ids=["c=0.1", "c=1.4"])
@torch.no_grad()
def test_nodes_integrate_the_prior_to_one(manifold, posterior):
    model = LinearAutoencoder(manifold, posterior)
    rule = nodes(model, 5.0, 0.1)
    log_mass = (rule.log_weight + model.prior(rule.v).log_prob_normal(rule.v)).logsumexp(0)
    assert float(log_mass) == pytest.approx(0, abs=2e-5)


@pytest.mark.parametrize("posterior", ["wrapped", "riemannian"])
@pytest.mark.parametrize("manifold", BALLS, ids=["c=0.1", "c=1.4"])
@torch.no_grad()
def test_both_methods_agree_in_curved_space(manifold, posterior):
    model = LinearAutoencoder(manifold, posterior)
    by_quadrature = quadrature(model, IMAGES, posterior_reach(model, IMAGES), 0.1)
    estimate, variance = importance_sampling(model, IMAGES, 8000, generator())
    assert ((estimate - by_quadrature).abs() < 5 * variance.sqrt() + 1e-3).all()


@torch.no_grad()
def test_the_variance_is_that_of_repeated_estimates():
    model = LinearAutoencoder(BALLS[1])
    repeated = [importance_sampling(model, IMAGES, 300, generator(seed)) for seed in range(60)]
    observed = torch.stack([estimate for estimate, _ in repeated]).var(0)
    claimed = torch.stack([variance for _, variance in repeated]).mean(0)
    assert 0.6 < float(observed.sum() / claimed.sum()) < 1.6


@torch.no_grad()
def test_images_beyond_the_others_are_seen_by_the_outer_rings_alone():
    model = LinearAutoencoder(BALLS[0])
    reach = posterior_reach(model, IMAGES)
    assert reach.max() > reach.min()
    far = quadrature(model, IMAGES, reach.clamp(min=float(reach.max())), 0.1)
    torch.testing.assert_close(quadrature(model, IMAGES, reach, 0.1), far, rtol=0, atol=1e-4)


@torch.no_grad()
def test_chunks_change_nothing(monkeypatch):
    model = LinearAutoencoder(BALLS[1])
    reach = posterior_reach(model, IMAGES)
    whole, (estimate, variance) = (
        quadrature(model, IMAGES, reach, 0.2),
        importance_sampling(model, IMAGES, 2000, generator()),
    )
    monkeypatch.setattr(likelihood, "MEMORY", 600)
    torch.testing.assert_close(quadrature(model, IMAGES, reach, 0.2), whole, rtol=0, atol=1e-4)
    chunked, _ = importance_sampling(model, IMAGES, 2000, generator())
    assert ((chunked - estimate).abs() < 8 * variance.sqrt()).all()


@torch.no_grad()
def test_importance_sampling_misses_what_the_encoder_misplaces():
    """The bias that a comparison with quadrature shows: the encoder looks elsewhere for the first image."""
    model = LinearAutoencoder(Euclidean(2))
    encoder = model.posterior_parameters
    model.posterior_parameters = lambda images: (encoder(images)[0] + 3.0, 0.3 * encoder(images)[1])
    metrics = MarginalLikelihood(images=12, importance_samples=100, checked_images=12, spacing=0.1)(
        model, IMAGES, generator()
    )
    assert metrics["nll"] == pytest.approx(-float(model.exact(IMAGES).mean()), abs=1e-3)
    assert metrics["nll_importance"] > metrics["nll"] + 1


@torch.no_grad()
def test_a_plane_goes_by_quadrature_and_more_dimensions_by_sampling():
    metric = MarginalLikelihood(images=10, importance_samples=500, checked_images=4, spacing=0.1)
    plane = metric(LinearAutoencoder(Euclidean(2)), IMAGES, generator())
    model = LinearAutoencoder(Euclidean(2))
    exact = float(model.exact(IMAGES[:10]).mean())
    assert plane["nll"] == pytest.approx(-exact, abs=1e-3)
    assert plane["nll_sd"] == pytest.approx(float(model.exact(IMAGES[:10]).std()), abs=1e-3)
    assert plane["nll_error"] < 1e-3
    assert plane["nll_importance"] == pytest.approx(-exact, abs=5 * plane["nll_importance_error"] + 1e-3)
    assert 0 < plane["nll_importance_error"] < 0.1
    space = metric(LinearAutoencoder(Euclidean(3), latents=3), IMAGES, generator())
    assert space.keys() == {"nll", "nll_sd", "nll_error"}
    assert 0 < space["nll_error"] < 0.1
    two_lines = LinearAutoencoder(PoincareBall(2, FixedCurvature(1.0), balls=2))
    assert not math.isnan(metric(two_lines, IMAGES, generator())["nll"])
    assert "nll_importance" not in metric(two_lines, IMAGES, generator())


@pytest.mark.parametrize("c", [10.0, 100.0])
@torch.no_grad()
def test_where_quadrature_has_no_end_importance_sampling_gives_the_figure(c, capsys):
    model = LinearAutoencoder(PoincareBall(2, FixedCurvature(c)))
    metrics = MarginalLikelihood(images=12, importance_samples=4000, checked_images=4, spacing=0.08)(
        model, IMAGES, generator()
    )
    assert metrics.keys() == {"nll", "nll_sd", "nll_error"}
    estimate, _ = importance_sampling(model, IMAGES, 4000, generator())
    assert metrics["nll"] == -float(estimate.mean())
    assert math.isfinite(metrics["nll"])
    assert f"at curvature {c:g} would take too many nodes" in capsys.readouterr().out


@torch.no_grad()
def test_nodes_are_counted_before_they_are_made(monkeypatch):
    model = LinearAutoencoder(BALLS[1])
    reach = posterior_reach(model, IMAGES)
    radius = float(reach.max())
    count = int(rings(1.4, radius, 0.1).counts.sum())
    assert len(nodes(model, radius, 0.1).v) == count
    assert fits(model, reach, 0.1)
    for bound, most in {"MOST_NODES": count, "MOST_PRODUCTS": PIXELS * len(IMAGES) * count}.items():
        with monkeypatch.context() as patch:
            patch.setattr(likelihood, bound, most)
            assert fits(model, reach, 0.1)
            patch.setattr(likelihood, bound, most // 100)
            assert not fits(model, reach, 0.1)
    for far in (1e4, math.inf, math.nan):
        assert not fits(LinearAutoencoder(Euclidean(2)), torch.tensor([1.0, far]), 0.1)
