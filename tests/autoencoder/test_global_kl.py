"""KL autoencoders with a global point: the loss that they claim, the limit c → 0, and a decoder that uses the point."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.resnet import ResnetBlock2D

from hldm.autoencoder import GlobalKLAutoencoder, MapGlobalKLAutoencoder
from hldm.config.autoencoder import GlobalKL, MapGlobalKL
from hldm.geometry import Euclidean, FixedCurvature, LearnableCurvature, PoincareBall, ProductManifold
from hldm.training import initialised

IMAGES = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))
MANIFOLDS = {
    "euclidean": lambda: Euclidean(4),
    "poincare": lambda: PoincareBall(4, FixedCurvature(1.0)),
    "hybrid": lambda: ProductManifold([Euclidean(2), PoincareBall(2, FixedCurvature(1.0))]),
    "learnable": lambda: PoincareBall(4, LearnableCurvature(1.0)),
}
SMALL = {"latent_channels": 4, "block_channels": (8, 16), "feature_channels": 4, "style_channels": 10}
KINDS = {
    "global": (GlobalKLAutoencoder, lambda **settings: GlobalKL(**SMALL, **settings)),
    "map_global": (MapGlobalKLAutoencoder, lambda **settings: MapGlobalKL(**SMALL, global_channels=3, **settings)),
}


def build(kind, manifold, stem="gyroplane", seed=0, **settings):
    cls, section = KINDS[kind]
    return initialised(
        seed,
        "autoencoder",
        lambda: cls(section(**settings), manifold=manifold, decoder_stem=stem, image_shape=(1, 28, 28)),
    )


def generator():
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MANIFOLDS)
def test_shapes_and_gradients(kind, name):
    model = build(kind, MANIFOLDS[name]())
    model.losses(IMAGES, generator()).loss.backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    loc, scale = model.posterior_parameters(IMAGES)
    size = 4 if kind == "global" else 4 * 8 * 8 + 3
    assert loc.shape == scale.shape == (6, *model.latent_shape) == (6, size)
    assert model.manifold.channels == sum(model.layout.sizes) == size
    assert (scale > 0).all()
    assert model.to_images(loc).shape == IMAGES.shape


@pytest.mark.parametrize("kind", KINDS)
def test_the_euclidean_loss_is_the_closed_form(kind):
    model = build(kind, Euclidean(4), "linear")
    loc, scale = model.posterior_parameters(IMAGES)
    v = loc + scale * torch.randn(loc.shape, generator=generator())
    reconstruction = F.binary_cross_entropy(model.to_images(v), IMAGES, reduction="none").sum((1, 2, 3)).mean()
    kl = 0.5 * (loc**2 + scale**2 - 1 - 2 * scale.log()).sum(1).mean()
    losses = model.losses(IMAGES, generator())
    torch.testing.assert_close(losses.loss, reconstruction + 0.1 * kl)


@pytest.mark.parametrize("kind", KINDS)
def test_at_c_zero_it_is_the_euclidean_model_bit_for_bit(kind):
    flat, zero = build(kind, Euclidean(4)), build(kind, PoincareBall(4, FixedCurvature(0.0)))
    ours, theirs = (model.losses(IMAGES, generator()) for model in (flat, zero))
    assert all(torch.equal(theirs.terms[name], term) for name, term in ours.terms.items())
    assert torch.equal(ours.images, theirs.images)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_tends_to_the_euclidean_one_at_rate_c(kind):
    def loss(manifold):
        return build(kind, manifold).double().losses(IMAGES.double(), generator()).loss.item()

    flat = loss(Euclidean(4))
    gaps = [abs(loss(PoincareBall(4, FixedCurvature(c))) - flat) for c in (1e-3, 1e-5)]
    assert 50 < gaps[0] / gaps[1] < 200


@pytest.mark.parametrize("kind", KINDS)
def test_all_geometries_have_the_same_initial_weights(kind):
    stems = ["linear"] + 3 * ["gyroplane"]
    models = [build(kind, make(), stem) for make, stem in zip(MANIFOLDS.values(), stems, strict=True)]
    reference = models[0].state_dict()
    for model in models[1:]:
        state = model.state_dict()
        assert reference.keys() <= state.keys()
        for name in reference:
            assert torch.equal(reference[name].flatten(), state[name].flatten()), name


def test_a_flat_map_leaves_only_the_point_curved():
    model = build("map_global", PoincareBall(4, FixedCurvature(0.7)), flat_map=True)
    assert [(type(leaf), leaf.channels) for leaf in model.manifold.leaves()] == [(Euclidean, 256), (PoincareBall, 3)]
    assert model.manifold.curvatures().tolist() == pytest.approx([0.0, 0.7])


def test_the_decoder_uses_the_point_and_the_map():
    model = build("map_global", MANIFOLDS["hybrid"]())
    v = model.posterior_parameters(IMAGES)[0].detach()
    images = model.to_images(v)
    for part in (slice(0, 256), slice(256, None)):
        other = v.clone()
        other[:, part] += 1
        assert (model.to_images(other) - images).abs().amax((1, 2, 3)).min() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_point_scales_and_shifts_every_normalisation_of_the_decoder(kind):
    """A zero style weight leaves images as they were without a style; a bias in one block alone changes them."""
    model = build(kind, MANIFOLDS["poincare"]())
    v = model.posterior_parameters(IMAGES)[0].detach()
    blocks = [block for block in model.decoder.modules() if isinstance(block, ResnetBlock2D)]
    for block in blocks:
        torch.nn.init.zeros_(block.time_emb_proj.weight)
        torch.nn.init.zeros_(block.time_emb_proj.bias)
    plain = model.to_images(v)
    assert len(blocks) >= 4
    for block in blocks:
        torch.nn.init.normal_(block.time_emb_proj.weight, generator=generator())
        assert (model.to_images(v) - plain).abs().amax((1, 2, 3)).min() > 1e-4
        torch.nn.init.zeros_(block.time_emb_proj.weight)
    assert torch.equal(model.to_images(v), plain)


def test_a_fixed_scale_is_that_of_all_points_and_is_remembered():
    """An encoder that shrinks its points gains nothing, and they keep radii of their own."""

    def scaled(seed):
        return build("global", MANIFOLDS["poincare"](), "linear", seed, latent_rms=1.7)

    free, model = build("global", MANIFOLDS["poincare"](), "linear"), scaled(0)
    loc, of_free = model.posterior_parameters(IMAGES)[0], free.posterior_parameters(IMAGES)[0]
    torch.testing.assert_close(loc, of_free * (1.7 / of_free.square().mean().sqrt()))
    with torch.no_grad():
        model.posterior_head[-1].weight[:4] *= 0.01
        model.posterior_head[-1].bias[:4] *= 0.01
        torch.testing.assert_close(model.posterior_parameters(IMAGES)[0], loc, rtol=1e-4, atol=1e-6)
        for _ in range(300):
            model.scaled(0.01 * of_free)
    loaded = scaled(1)
    loaded.load_state_dict(model.state_dict())
    for seen in (model.eval(), loaded.eval()):
        assert not torch.equal(before := seen.scaled.mean_square.clone(), torch.ones(()))
        torch.testing.assert_close(seen.posterior_parameters(IMAGES[:1])[0], loc[:1], rtol=1e-4, atol=1e-6)
        assert torch.equal(seen.scaled.mean_square, before)


def test_the_factors_of_a_latent_and_where_they_live():
    model = build("map_global", MANIFOLDS["hybrid"]())
    v = torch.randn(5, 259, generator=generator())
    (of_map, map_part), (of_point, point_part) = model.layout.factors(v)
    assert torch.equal(torch.cat([map_part, point_part], 1), v)
    assert (of_map.channels, of_point.channels) == (256, 3)
    assert isinstance(of_point, PoincareBall)
    alone = build("global", Euclidean(4))
    assert alone.layout.factors(v) == [(alone.manifold, v)]
