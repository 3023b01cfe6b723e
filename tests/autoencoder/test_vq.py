"""The vector-quantised autoencoder: its loss, what diffusion and the decoder see of it, and its limit c → 0."""

import pytest
import torch
import torch.nn.functional as F

from hldm.autoencoder import KLAutoencoder, VQAutoencoder
from hldm.config.autoencoder import KL, VQ
from hldm.errors import UserError
from hldm.geometry import Euclidean, FixedCurvature, LearnableCurvature, PoincareBall, ProductManifold
from hldm.training import initialised

MANIFOLDS = {
    "euclidean": lambda: Euclidean(4),
    "poincare": lambda: PoincareBall(4, FixedCurvature(1.0)),
    "hybrid": lambda: ProductManifold([Euclidean(2), PoincareBall(2, FixedCurvature(1.0))]),
    "learnable": lambda: PoincareBall(4, LearnableCurvature(1.0)),
}
IMAGES = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))


SMALL = {"block_channels": (8, 16)}


def build(manifold, codebook="gradient", stem="gyroplane", **settings):
    usual = {"codebook_size": 32, "ema_decay": 0.9, "initial_batches": 2, "revive_after": 1}
    section = VQ(**SMALL, codebook=codebook, **{**usual, **settings})
    return initialised(
        0,
        "autoencoder",
        lambda: VQAutoencoder(section, manifold=manifold, decoder_stem=stem, image_shape=(1, 28, 28)),
    )


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("codebook", ["gradient", "ema"])
@pytest.mark.parametrize("name", MANIFOLDS)
def test_shapes_and_gradients(name, codebook):
    model = build(MANIFOLDS[name](), codebook)
    losses = model.losses(IMAGES, generator())
    losses.loss.backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    assert isinstance(model.quantizer.codes, torch.nn.Parameter) == (codebook == "gradient")
    v, scale = model.encode(IMAGES)
    assert scale is None
    assert v.shape == (6, *model.latent_shape) == (6, 4, 8, 8)
    assert model.to_images(v).shape == IMAGES.shape
    assert 1 < losses.terms["perplexity"] <= 32


def test_the_loss_is_what_it_says():
    model = build(Euclidean(4), stem="linear", initial_batches=0, revive_after=None)
    with torch.no_grad():
        model.quantizer.codes.normal_(generator=generator())
    v, scale = model.encode(IMAGES)
    assert scale is None
    nearest = torch.cdist(v.permute(0, 2, 3, 1), model.quantizer.codes).argmin(-1)
    codes = model.quantizer.codes[nearest].permute(0, 3, 1, 2)
    reconstruction = F.binary_cross_entropy(model.to_images(codes), IMAGES, reduction="none").sum((1, 2, 3)).mean()
    distance2 = (v - codes).square().sum((1, 2, 3)).mean()
    losses, images = model.losses(IMAGES, generator())
    torch.testing.assert_close(images, model.to_images(v))
    torch.testing.assert_close(losses["reconstruction"], reconstruction)
    torch.testing.assert_close(losses["quantization"], 1.25 * distance2)
    torch.testing.assert_close(losses["loss"], reconstruction + 1.25 * distance2)
    shares = F.one_hot(nearest.flatten(), 32).double().mean(0)
    torch.testing.assert_close(losses["perplexity"].double(), torch.special.entr(shares).sum().exp())


@pytest.mark.parametrize("name", MANIFOLDS)
def test_diffusion_sees_points_and_the_decoder_codes(name):
    model = build(MANIFOLDS[name]()).eval()
    encoded = model.encode(IMAGES)
    v = model.draw(encoded, generator())
    assert v is encoded.loc
    rows = model.quantizer(v.permute(0, 2, 3, 1).flatten(0, 2)).v
    codes = rows.view(6, 8, 8, 4).permute(0, 3, 1, 2)
    assert not torch.allclose(v, codes)
    torch.testing.assert_close(model.decode(v), model.decode(codes))
    torch.testing.assert_close(model.decode(v), model.decoder(model.decoder_stem(codes)))


@pytest.mark.parametrize("codebook", ["gradient", "ema"])
def test_only_training_changes_the_codebook(codebook):
    model = build(MANIFOLDS["hybrid"](), codebook).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.losses(IMAGES, generator())
    model.decode(model.encode(IMAGES).loc)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.train().losses(IMAGES, generator())
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed >= {"quantizer.codes", "quantizer.steps", *(["quantizer.mass"] if codebook == "ema" else [])}


@pytest.mark.parametrize("codebook", ["gradient", "ema"])
def test_where_codes_are_placed_depends_on_the_generator_alone(codebook):
    one, same, other = (build(MANIFOLDS["poincare"](), codebook) for _ in range(3))
    for step in range(4):
        for model, seed in ((one, step), (same, step), (other, step + 9)):
            torch.rand(step)  # the global generator has no say
            model.losses(IMAGES, generator(seed))
    assert torch.equal(one.quantizer.codes, same.quantizer.codes)
    assert not torch.equal(one.quantizer.codes, other.quantizer.codes)


@pytest.mark.parametrize("codebook", ["gradient", "ema"])
@pytest.mark.parametrize("other", ["ball of curvature 0", "empty ball beside flat channels"])
def test_at_c_zero_it_is_the_euclidean_model_bit_for_bit(other, codebook):
    zero = (
        PoincareBall(4, FixedCurvature(0.0))
        if other == "ball of curvature 0"
        else ProductManifold([Euclidean(4), PoincareBall(0, FixedCurvature(1.0))])
    )
    models = [build(manifold, codebook) for manifold in (Euclidean(4), zero)]
    for step in range(4):
        flat, curved = (model.losses(IMAGES, generator(step)) for model in models)
        assert all(torch.equal(curved.terms[name], term) for name, term in flat.terms.items())
        assert torch.equal(flat.images, curved.images)
        assert torch.equal(models[0].quantizer.codes, models[1].quantizer.codes)


def test_it_shares_the_decoder_of_the_kl_autoencoder():
    vq = build(Euclidean(4))
    kl = initialised(
        0,
        "autoencoder",
        lambda: KLAutoencoder(KL(**SMALL), manifold=Euclidean(4), decoder_stem="gyroplane", image_shape=(1, 28, 28)),
    )
    shapes = [{k: v.shape for k, v in model.decoder.state_dict().items()} for model in (vq, kl)]
    assert shapes[0] == shapes[1]
    differing = {k for k, v in kl.encoder.state_dict().items() if vq.encoder.state_dict()[k].shape != v.shape}
    assert differing == {"conv_out.weight", "conv_out.bias"}


def test_test_figures_are_those_of_all_images_together():
    model = build(Euclidean(4)).train()
    model.losses(IMAGES, generator())
    model.eval()

    def figures(*batches):
        means = {}
        for batch in batches:
            for name, term in model.test_terms(batch, model.encode(batch), generator()).items():
                means[name] = means.get(name, 0.0) + term.double() * len(batch) / 6
        return model.test_figures(means)

    whole = figures(IMAGES)
    assert whole == pytest.approx(figures(IMAGES[:4], IMAGES[4:]), rel=1e-5)
    assert 1 < whole["codebook_perplexity"] <= 32
    assert 0 < whole["codebook_used"] <= 1


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="padded_side=32"):
        build(Euclidean(4), padded_side=24)
