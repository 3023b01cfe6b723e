"""The KL autoencoder: its loss is the ELBO it claims; at c = 0 it is the Euclidean one bit for bit."""

import math

import pytest
import torch
import torch.nn.functional as F

from hldm.autoencoder import KLAutoencoder
from hldm.config.autoencoder import KL
from hldm.errors import UserError
from hldm.geometry import Euclidean, FixedCurvature, LearnableCurvature, PoincareBall, ProductManifold
from hldm.training import initialised

MANIFOLDS = {
    "euclidean": lambda: Euclidean(4),
    "poincare": lambda: PoincareBall(4, FixedCurvature(1.0)),
    "hybrid": lambda: ProductManifold([Euclidean(2), PoincareBall(2, FixedCurvature(1.0))]),
    "learnable": lambda: PoincareBall(4, LearnableCurvature(1.0)),
}
SMALL = {"block_channels": (8, 16)}
IMAGES = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def build(manifold, stem="gyroplane", **settings):
    return initialised(
        0,
        "autoencoder",
        lambda: KLAutoencoder(KL(**SMALL, **settings), manifold=manifold, decoder_stem=stem, image_shape=(1, 28, 28)),
    )


def generator():
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("posterior", ["wrapped", "riemannian"])
@pytest.mark.parametrize("name", MANIFOLDS)
def test_shapes_and_gradients(name, posterior):
    model = build(MANIFOLDS[name](), posterior=posterior)
    losses = model.losses(IMAGES, generator())
    losses.loss.backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    loc, scale = model.posterior_parameters(IMAGES)
    assert loc.shape == scale.shape == (6, *model.latent_shape) == (6, 4, 8, 8)
    assert (scale > 0).all()
    assert model.to_images(loc).shape == IMAGES.shape


def test_euclidean_loss_is_the_closed_form():
    model = build(Euclidean(4), "linear")
    loc, scale = model.posterior_parameters(IMAGES)
    v = loc + scale * torch.randn(loc.shape, generator=generator())
    reconstruction = F.binary_cross_entropy(model.to_images(v), IMAGES, reduction="none").sum((1, 2, 3)).mean()
    kl = 0.5 * (loc**2 + scale**2 - 1 - 2 * scale.log()).sum((1, 2, 3)).mean()
    losses = model.losses(IMAGES, generator())
    torch.testing.assert_close(losses.terms["reconstruction"], reconstruction)
    torch.testing.assert_close(losses.terms["kl"], kl)
    torch.testing.assert_close(losses.images, model.to_images(v))
    torch.testing.assert_close(losses.loss, reconstruction + 0.1 * kl)


@pytest.mark.parametrize("other", ["ball of curvature 0", "empty ball beside flat channels"])
def test_at_c_zero_it_is_the_euclidean_model_bit_for_bit(other):
    zero = (
        PoincareBall(4, FixedCurvature(0.0))
        if other == "ball of curvature 0"
        else ProductManifold([Euclidean(4), PoincareBall(0, FixedCurvature(1.0))])
    )
    flat = build(Euclidean(4), "gyroplane").losses(IMAGES, generator())
    curved = build(zero, "gyroplane").losses(IMAGES, generator())
    assert flat.terms.keys() == curved.terms.keys()
    assert all(torch.equal(curved.terms[name], term) for name, term in flat.terms.items())
    assert torch.equal(flat.images, curved.images)


def test_a_gyroplane_stem_in_flat_space_is_the_linear_one():
    linear, gyroplane = build(Euclidean(4), "linear"), build(Euclidean(4), "gyroplane")
    one, other = (model.losses(IMAGES, generator()).terms for model in (linear, gyroplane))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=0)


def test_the_loss_tends_to_the_euclidean_one_at_rate_c():
    def loss(manifold):
        return build(manifold).double().losses(IMAGES.double(), generator()).loss.item()

    flat = loss(Euclidean(4))
    gaps = [abs(loss(PoincareBall(4, FixedCurvature(c))) - flat) for c in (1e-3, 1e-5)]
    assert 50 < gaps[0] / gaps[1] < 200


def test_curvature_is_learned():
    model = build(PoincareBall(4, LearnableCurvature(1.0)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model.losses(IMAGES, generator()).loss.backward()
        optimizer.step()
    assert model.manifold.curvatures().item() != pytest.approx(1.0, abs=1e-3)


def test_all_geometries_have_the_same_parameters_and_initial_weights():
    models = [
        build(make(), stem) for make, stem in zip(MANIFOLDS.values(), ["linear"] + 3 * ["gyroplane"], strict=True)
    ]
    counts = [sum(p.numel() for p in model.parameters()) for model in models]
    assert max(counts) <= 1.01 * min(counts)
    reference = models[0].state_dict()
    for model in models[1:]:
        state = model.state_dict()
        for name in reference.keys() & state.keys():
            assert torch.equal(reference[name].flatten(), state[name].flatten()), name
        assert len(reference.keys() & state.keys()) >= len(reference)


def test_images_must_fit_the_padded_side():
    with pytest.raises(UserError, match="padded_side=32 is less than the 28 × 40"):
        KLAutoencoder(KL(**SMALL), manifold=Euclidean(4), decoder_stem="linear", image_shape=(1, 28, 40))


def test_kl_weight_zero_leaves_the_reconstruction():
    terms = build(Euclidean(4), kl_weight=0.0).losses(IMAGES, generator()).terms
    assert torch.equal(terms["loss"], terms["reconstruction"])
    assert math.isfinite(terms["kl"].item())


@pytest.mark.parametrize("name", MANIFOLDS)
def test_a_fixed_latent_scale(name) -> None:
    """Every image's locations have it, in the direction that the free encoder says."""
    free, fixed = build(MANIFOLDS[name]()), build(MANIFOLDS[name](), latent_rms=1.7)
    loc, scale = fixed.posterior_parameters(IMAGES)
    torch.testing.assert_close(loc.square().mean((1, 2, 3)).sqrt(), torch.full((6,), 1.7))
    free_loc, free_scale = free.posterior_parameters(IMAGES)
    torch.testing.assert_close(loc, free_loc * (loc[:, :1, :1, :1] / free_loc[:, :1, :1, :1]))
    assert torch.equal(scale, free_scale)


@pytest.mark.parametrize("name", ["euclidean", "poincare"])
def test_the_loss_compiles_in_one_graph(name) -> None:
    """As a function of images and noise; `backend="eager"` stands in for the compiler, which takes half a minute."""
    plain, compiled = (build(MANIFOLDS[name]()) for _ in range(2))
    names = list(compiled.state_dict())
    compiled.compile(backend="eager", fullgraph=True)
    for model in (plain, compiled):
        model.losses(IMAGES, generator()).loss.backward()
    ours, theirs = (model.losses(IMAGES, generator()) for model in (plain, compiled))
    assert ours.terms.keys() == theirs.terms.keys()
    for term, other in zip(ours.terms.values(), theirs.terms.values(), strict=True):
        torch.testing.assert_close(term, other)
    torch.testing.assert_close(ours.images, theirs.images)
    assert list(compiled.state_dict()) == names
    assert compiled._compiled_call_impl is not None
