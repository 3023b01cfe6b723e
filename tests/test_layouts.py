"""The whole model in every latent layout: trains and samples in every geometry, flat bit for bit at c = 0."""

import pytest
import torch

from hldm.training import DiffusionStage, FirstStage, encode
from tests.fake_data import noise_digits
from tests.test_model import GEOMETRIES, model_of

SMALLER = {
    "global": ["denoiser.width=16", "denoiser.blocks=1", "autoencoder.latent_channels=3"],
    "map_global": ["denoiser.width=16", "denoiser.blocks=1", "autoencoder.global_channels=3"],
}
SMALLER["global denoiser=cross_attention"] = SMALLER["global"]


@pytest.fixture(scope="module")
def dataset():
    return noise_digits(40)


UNET = ("denoiser.block_channels", "denoiser.head_channels")


def layout(dataset, name, *overrides):
    """Without the settings of a U-Net where there is none."""
    has_map = name == "map_global"
    return model_of(dataset, *f"latent={name}".split(), *SMALLER[name], *overrides, without=() if has_map else UNET)


@pytest.mark.parametrize("conditioning", ["class", "none", "text"])
@pytest.mark.parametrize("diffusion", ["flow", "ddpm"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", SMALLER)
def test_every_combination_trains_and_samples(dataset, name, geometry, diffusion, conditioning):
    steps = ["diffusion.sampler.steps=2"]
    model = layout(
        dataset, name, f"geometry={geometry}", f"diffusion={diffusion}", f"conditioning={conditioning}", *steps
    )
    encoded = encode(model, dataset.train)
    model.fit_latents(encoded.loc)
    stage = DiffusionStage(model, encoded, dataset.train.labels, seed=0, batch_size=4)
    stage.loss(0)["loss"].backward()
    gradients = [p.grad for p in model.denoiser.parameters() if p.grad is not None]
    assert gradients
    assert all(g.isfinite().all() for g in gradients)
    images = model.sample(torch.arange(3), torch.Generator().manual_seed(0))
    assert images.shape == (3, 1, 28, 28)


@pytest.mark.parametrize(
    "solver",
    ["process.pairing=optimal_transport sampler.method=rk4", "process.pairing=posterior sampler.method=adaptive"],
)
@pytest.mark.parametrize("name", SMALLER)
def test_every_solver(dataset, name, solver):
    model = layout(dataset, name, "geometry=hybrid", *(f"diffusion.{setting}" for setting in solver.split()))
    stage = DiffusionStage(model, encode(model, dataset.train), dataset.train.labels, seed=0, batch_size=4)
    assert stage.loss(0)["loss"].isfinite()
    assert model.sample_latents(torch.arange(3), torch.Generator().manual_seed(0)).isfinite().all()


@pytest.mark.parametrize("name", SMALLER)
def test_at_curvature_zero_it_is_euclidean_bit_for_bit(dataset, name):
    flat = layout(dataset, name, "geometry=euclidean", "geometry.decoder_stem=gyroplane")
    zero = layout(dataset, name, "geometry=poincare", "curvature=0")
    results = []
    for model in (flat, zero):
        first = FirstStage(model, dataset.train, seed=0, batch_size=4).loss(0)
        encoded = encode(model, dataset.train)
        model.fit_latents(encoded.loc)
        second = DiffusionStage(model, encoded, dataset.train.labels, seed=0, batch_size=4).loss(0)
        drawn = model.sample_latents(torch.arange(2), torch.Generator().manual_seed(0))
        results.append((first["loss"], second["loss"], drawn))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_each_part_has_its_own_scale_and_its_curvature_with_it(dataset):
    model = layout(dataset, "map_global", "geometry=poincare", "curvature=0.7")
    v = torch.cat([torch.full((3, 196), 2.0), torch.full((3, 3), 0.5)], 1)
    model.fit_latents(v)
    assert model.latent_scale.tolist() == [2.0, 0.5]
    torch.testing.assert_close(v / model.layout.per_coordinate(model.latent_scale), torch.ones_like(v))
    expected = torch.tensor([0.7 * 4, 0.7 / 4], dtype=torch.float64)
    torch.testing.assert_close(model.diffusion_manifold().curvatures(), expected, rtol=1e-6, atol=0)


def test_vectors_of_the_mlp_autoencoder_are_denoised_too(dataset):
    settings = ["autoencoder=mlp", "autoencoder.hidden=8", "denoiser=mlp", "denoiser.width=16"]
    model = model_of(dataset, *settings, "geometry=poincare", without=(*UNET, "autoencoder.block_channels"))
    stage = DiffusionStage(model, encode(model, dataset.train), dataset.train.labels, seed=0, batch_size=4)
    assert stage.loss(0)["loss"].isfinite()
    assert model.sample(torch.arange(3), torch.Generator().manual_seed(0)).shape == (3, 1, 28, 28)


@pytest.mark.parametrize("name", SMALLER)
def test_hyperbolic_labels_and_densities(dataset, name):
    model = layout(dataset, name, "geometry=poincare", "conditioning.hyperbolic=true")
    v, labels = encode(model, dataset.train.first(3)).loc, dataset.train.labels[:3]
    log_p = model.log_density(v, labels, 2, torch.Generator().manual_seed(0))
    assert log_p.shape == (3,)
    assert log_p.isfinite().all()
