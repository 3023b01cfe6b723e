"""The evidence bound with the flow as prior: in one unit with the autoencoder's own, whatever the latent scale."""

import math

import pytest
import torch

from hldm.commands import evaluate
from hldm.config.compose import compose
from hldm.distributions import WrappedNormal
from hldm.pipeline import run
from hldm.pipeline.bound import evidence_bound
from hldm.pipeline.build import build_model
from tests.fake_data import noise_digits
from tests.pipeline.conftest import TINY, prepare

SETTINGS = {"images": 3, "steps": 1}


@pytest.fixture(scope="module")
def dataset():
    return noise_digits(12)


def model_of(dataset, *overrides):
    # so that what stands in for the network is the velocity
    velocity = "diffusion.process.prediction=velocity"
    return build_model(compose([*TINY, velocity, *overrides]), dataset).eval().requires_grad_(False)


@pytest.mark.parametrize("geometry", ["euclidean", "poincare", "hybrid"])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_latent_scale_and_curvature_are_accounted_for(dataset, geometry, scale, monkeypatch):
    """A field that stretches by e^a makes the law of the latents a wrapped normal of scale s·e^a."""
    a, model = 0.2, model_of(dataset, f"geometry={geometry}", "curvature.value=0.8")
    model.latent_scale.fill_(scale)
    monkeypatch.setattr(model.denoiser, "forward", lambda x, t, condition: a * x)
    v = 0.3 * torch.randn(3, 4, 7, 7, generator=torch.Generator().manual_seed(1))
    exact = WrappedNormal(model.autoencoder.manifold, torch.zeros_like(v), scale * math.exp(a), dim=1)
    log_p = model.log_density(v, torch.arange(3), 4, torch.Generator().manual_seed(2))
    torch.testing.assert_close(log_p, exact.log_prob_normal(v).sum((1, 2)), rtol=1e-3, atol=0.05)


@pytest.mark.parametrize(
    ("geometry", "posterior"), [("euclidean", "wrapped"), ("poincare", "wrapped"), ("euclidean", "riemannian")]
)
def test_a_flow_that_is_the_prior_gains_nothing(dataset, geometry, posterior, monkeypatch):
    """Without a velocity, and in units of the prior's scale, the flow's law is the wrapped normal prior.

    On a ball the Riemannian prior is another one.
    """
    model = model_of(
        dataset, f"geometry={geometry}", f"autoencoder.posterior={posterior}", "autoencoder.prior_scale=0.5"
    )
    model.latent_scale.fill_(0.5)
    monkeypatch.setattr(model.denoiser, "forward", lambda x, t, condition: 0 * x)
    figures = evidence_bound(model, dataset, **SETTINGS, seed=0).metrics
    assert figures["elbo_flow_gain"] == pytest.approx(0, abs=1e-3)
    assert figures["elbo_flow_bits_per_dim"] == pytest.approx(-figures["elbo_flow"] / 784 / math.log(2))
    # twice as wide, it differs, and by the same amount from either
    model.latent_scale.fill_(1.0)
    wider = evidence_bound(model, dataset, **SETTINGS, seed=0).metrics
    gain = wider["elbo_flow"] - figures["elbo_flow"]
    assert gain == pytest.approx(wider["elbo_flow_gain"], abs=1e-2)
    assert abs(gain) > 10


def test_the_bound_is_that_of_the_denoiser_without_guidance(dataset):
    # two channels per normalisation group: with one, the tiny network forgets its condition
    wide = "denoiser.block_channels=[32,32]"
    bounds = [
        evidence_bound(model_of(dataset, wide, *overrides), dataset, **SETTINGS, seed=0)
        for overrides in (["conditioning.guidance_scale=1"], ["conditioning.guidance_scale=5"], ["conditioning=none"])
    ]
    assert bounds[0] == bounds[1]
    assert bounds[0] != bounds[2]


@pytest.mark.parametrize("diffusion", ["flow", "ddpm"])
def test_a_run_reports_it_and_evaluation_reproduces_it(tmp_path, monkeypatch, diffusion):
    overrides = [f"diffusion={diffusion}", "metrics.likelihood_images=5", "metrics.likelihood_steps=2"]
    directory = prepare(tmp_path, "geometry=poincare", *overrides)
    run(directory.path)
    metrics = directory.results["metrics"]
    for name in ("elbo_flow", "elbo_flow_error", "elbo_flow_bits_per_dim", "elbo_flow_gain"):
        assert math.isfinite(metrics[name])
    per_image = directory.results["per_image"]
    assert {len(row) for row in per_image.values()} == {5}
    assert sum(per_image["elbo_flow"]) / 5 == pytest.approx(metrics["elbo_flow"], abs=1e-3)
    assert metrics["elbo_flow"] == pytest.approx(-metrics["elbo_flow_distortion"] - metrics["elbo_flow_rate"])
    argv = [f"run={directory.path}"]
    assert evaluate.main(argv) == 0


@pytest.mark.parametrize(
    ("overrides", "images"),
    [([], 200), (["autoencoder=vq"], 0), (["diffusion=none"], 0), (["metrics.likelihood_images=7"], 7),
     (["diffusion=ddpm", "diffusion.process.prediction=epsilon", "diffusion.process.schedule=squaredcos_cap_v2",
       "diffusion.sampler.method=ddpm"], 0)],
)  # fmt: skip
def test_a_run_that_was_not_asked_leaves_the_bound_out_where_there_is_none(overrides, images):
    assert compose(overrides).bound_images == images
