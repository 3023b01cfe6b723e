"""The Poincaré VAE: flat, it is the VAE of Kingma & Welling; every published form of encoder and decoder trains."""

import pytest
import torch
import torch.nn.functional as F
from torch import distributions as td

from hldm.autoencoder import MLPAutoencoder
from hldm.config.autoencoder import MLP
from hldm.errors import UserError
from hldm.geometry import Euclidean, FixedCurvature, LearnableCurvature, PoincareBall, ProductManifold
from hldm.training import initialised

IMAGES = torch.rand(6, 1, 5, 4, generator=torch.Generator().manual_seed(0))
IMAGES[0, 0, 0] = torch.tensor([0.0, 1.0, 0.0, 1.0])


def ball(c=1.0, channels=2):
    return PoincareBall(channels, FixedCurvature(c))


def build(manifold, stem="gyroplane", **settings):
    section = MLP(latent_channels=manifold.channels, hidden=16, kl_weight=1.0, **settings)
    return initialised(
        0,
        "autoencoder",
        lambda: MLPAutoencoder(section, manifold=manifold, decoder_stem=stem, image_shape=(1, 5, 4)),
    )


def generator():
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("posterior", ["wrapped", "riemannian"])
@pytest.mark.parametrize("head", ["wrapped", "mobius"])
@pytest.mark.parametrize("stem", ["linear", "gyroplane", "mobius"])
@pytest.mark.parametrize("make", [ball, lambda: Euclidean(2), lambda: PoincareBall(2, LearnableCurvature(0.7))])
def test_every_form_trains(make, stem, head, posterior):
    model = build(make(), stem, posterior=posterior, encoder_head=head)
    losses = model.losses(IMAGES, generator())
    losses.loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    loc, scale = model.posterior_parameters(IMAGES)
    assert loc.shape == scale.shape == (6, 2)
    assert model.to_images(loc).shape == IMAGES.shape


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal"])
def test_flat_it_is_the_gaussian_vae(likelihood):
    model = build(Euclidean(3), "linear", likelihood=likelihood)
    loc, scale = model.posterior_parameters(IMAGES)
    v = loc + scale * torch.randn(loc.shape, generator=generator())
    parameters = model.decode(v)
    if likelihood == "normal":
        reconstruction = -td.Normal(parameters, 1.0).log_prob(IMAGES).sum((1, 2, 3)).mean()
    else:
        grey = IMAGES.clamp(1e-5, 1 - 1e-5)
        reconstruction = F.binary_cross_entropy_with_logits(parameters, grey, reduction="none").sum((1, 2, 3)).mean()
    kl = td.kl_divergence(td.Normal(loc, scale), td.Normal(0.0, 1.0)).sum(1).mean()
    losses = model.losses(IMAGES, generator())
    torch.testing.assert_close(losses.terms["reconstruction"], reconstruction)
    torch.testing.assert_close(losses.terms["kl"], kl)
    torch.testing.assert_close(losses.images, torch.sigmoid(parameters) if likelihood == "bernoulli" else parameters)


@pytest.mark.parametrize("form", ["paper", "pvae"])
def test_at_c_zero_it_is_the_flat_model_bit_for_bit(form):
    flat, zero = (
        build(manifold, gyroplane_form=form).losses(IMAGES, generator()) for manifold in (Euclidean(2), ball(0.0))
    )
    assert all(torch.equal(zero.terms[name], term) for name, term in flat.terms.items())


@pytest.mark.parametrize("head", ["wrapped", "mobius"])
@pytest.mark.parametrize("stem", ["linear", "gyroplane", "mobius"])
def test_the_loss_tends_to_the_flat_one_at_rate_c(stem, head):
    def loss(manifold):
        model = build(manifold, stem, encoder_head=head).double()
        model.kl_estimator = "monte_carlo"  # also where it is flat, to compare like with like
        return model.losses(IMAGES.double(), generator()).loss.item()

    flat = loss(Euclidean(2))
    gaps = [abs(loss(ball(c)) - flat) for c in (1e-3, 1e-5)]
    assert 50 < gaps[0] / gaps[1] < 200


def test_forms_of_the_gyroplane_layer_differ():
    v = torch.randn(4, 2, generator=generator())
    paper, pvae = (build(ball(), gyroplane_form=form).decode(v) for form in ("paper", "pvae"))
    assert (paper - pvae).abs().max() > 1e-3


def test_monte_carlo_kl_is_that_of_the_sample():
    model = build(ball(0.7))
    loc, scale = model.posterior_parameters(IMAGES)
    q = model.distribution(loc, scale)
    v = q.rsample_tangent(generator())
    expected = (q.log_prob_normal(v) - model.prior(loc).log_prob_normal(v)).mean()
    torch.testing.assert_close(model.losses(IMAGES, generator()).terms["kl"], expected, rtol=1e-4, atol=1e-5)


def test_the_riemannian_posterior_has_one_bounded_scale():
    model = build(ball(), posterior="riemannian")
    for bias, bound in ((-50.0, 0.1), (50.0, 7.0)):
        torch.nn.init.constant_(model.scale_head.bias, bias)
        assert (model.posterior_parameters(IMAGES)[1] == bound).all()
    torch.nn.init.constant_(model.scale_head.bias, 0.0)
    scale = model.posterior_parameters(IMAGES)[1]
    assert torch.equal(scale[:, 0], scale[:, 1])


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal"])
def test_the_output_starts_at_the_mean_image(likelihood):
    model = build(ball(), likelihood=likelihood)
    mean = IMAGES.double().mean(0)
    model.begin(mean)
    torch.nn.init.zeros_(model.decoder.weight)
    torch.testing.assert_close(model.to_images(torch.zeros(1, 2))[0], mean.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal"])
def test_log_likelihoods_of_all_pairs_and_of_own_latents(likelihood):
    model = build(ball(), likelihood=likelihood).double()
    images = IMAGES.double()
    v = torch.randn(3, 6, 2, generator=generator(), dtype=torch.float64)

    def alone(s, b):
        return -model.negative_log_likelihood(model.decode(v[s, b : b + 1]), images[b : b + 1])

    expected = torch.stack([torch.stack([alone(s, b) for b in range(6)]) for s in range(3)])
    torch.testing.assert_close(model.log_likelihood(v, images), expected)
    pairs = model.log_likelihood(v[:, 0], images)
    assert pairs.shape == (3, 6)
    torch.testing.assert_close(pairs[:, 0], expected[:, 0])
    torch.testing.assert_close(pairs[:, 4:5], model.log_likelihood(v[:, :1], images[4:5]))


def test_a_mobius_decoder_wants_one_ball():
    product = ProductManifold([Euclidean(1), ball(channels=1)])
    with pytest.raises(UserError, match="gyroplane"):
        build(product, "mobius")
    assert build(product, "gyroplane").losses(IMAGES, generator()).loss.isfinite()
