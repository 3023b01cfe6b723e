"""The whole model: fair across geometries, scaled as it should be, one process for all."""

import copy
import math

import pytest
import torch

from hldm.autoencoder import Losses
from hldm.config.compose import compose
from hldm.config.options import Options
from hldm.pipeline.build import build_model
from hldm.training import DiffusionStage, FirstStage, batch_indices, encode
from tests.fake_data import noise_digits

SMALL = [
    "experiment=smoke",
    "tracking=none",
    "hardware=cpu",
    "autoencoder.block_channels=[8,16]",
    "denoiser.block_channels=[16,16]",
    "denoiser.head_channels=16",
]
CELLS = tuple(Options().groups["ablation"])
GEOMETRIES = ("euclidean", "poincare", "hybrid")


@pytest.fixture(scope="module")
def dataset():
    return noise_digits(40)


def model_of(dataset, *overrides, without=()):
    """The model of SMALL and `overrides`, without the settings of SMALL that are named."""
    small = [setting for setting in SMALL if setting.partition("=")[0] not in without]
    return build_model(compose([*small, *overrides]), dataset)


@pytest.mark.parametrize("conditioning", ["class", "none", "text"])
@pytest.mark.parametrize("diffusion", ["flow", "ddpm"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_combination_trains_and_samples(dataset, geometry, diffusion, conditioning):
    steps = ["diffusion.sampler.steps=2"]
    model = model_of(dataset, f"geometry={geometry}", f"diffusion={diffusion}", f"conditioning={conditioning}", *steps)
    stage = DiffusionStage(model, encode(model, dataset.train), dataset.train.labels, seed=0, batch_size=4)
    stage.loss(0)["loss"].backward()
    gradients = [p.grad for p in model.denoiser.parameters() if p.grad is not None]
    assert gradients
    assert all(g.isfinite().all() for g in gradients)
    images = model.sample(torch.arange(3), torch.Generator().manual_seed(0))
    assert images.shape == (3, 1, 28, 28)
    assert images.dtype == torch.uint8


@pytest.mark.parametrize(
    "settings",
    [
        "flow sampler.method=rk4 process.pairing=optimal_transport",
        "flow sampler.method=adaptive sampler.tolerance=0.1",
        "flow process.pairing=posterior process.prediction=residual",
        "ddpm sampler.method=ddpm process.prediction=epsilon process.min_snr_gamma=5",
        "ddpm sampler.method=dpm_solver++ process.prediction=x0 process.schedule=squaredcos_cap_v2",
        "ddpm sampler.method=unipc process.zero_terminal_snr=true",
        "ddpm sampler.method=euler process.zero_terminal_snr=true process.prediction=x0",
        "ddpm sampler.eta=1",
    ],
)
def test_every_process_and_sampler_can_be_configured(dataset, settings):
    diffusion, *rest = settings.split()
    model = model_of(
        dataset,
        "geometry=hybrid",
        f"diffusion={diffusion}",
        "diffusion.sampler.steps=3",
        *(f"diffusion.{x}" for x in rest),
    )
    stage = DiffusionStage(model, encode(model, dataset.train), dataset.train.labels, seed=0, batch_size=4)
    assert stage.loss(0)["loss"].isfinite()
    one, same = (model.sample_latents(torch.arange(3), torch.Generator().manual_seed(0)) for _ in range(2))
    assert one.isfinite().all()
    assert torch.equal(one, same)
    assert model.evaluations >= 3


@pytest.mark.parametrize(("conditioning", "told"), [("class", True), ("text", True), ("none", False)])
def test_the_process_knows_the_labels_that_the_denoiser_may_be_told(dataset, conditioning, told):
    model, seen = model_of(dataset, f"conditioning={conditioning}"), []
    loss = model.process.loss
    model.process.loss = lambda *args: seen.append(args[4]) or loss(*args)
    stage = DiffusionStage(model, encode(model, dataset.train), dataset.train.labels, seed=0, batch_size=4)
    stage.loss(0)
    chosen = batch_indices(0, stage.name, 0, 4, len(dataset.train))
    assert torch.equal(seen[0], dataset.train.labels[chosen]) if told else seen == [None]


@pytest.mark.parametrize("autoencoder", ["kl", "vq"])
def test_geometries_start_from_the_same_weights_and_count(dataset, autoencoder):
    models = [model_of(dataset, f"autoencoder={autoencoder}", f"geometry={name}") for name in GEOMETRIES]
    counts = [sum(p.numel() for p in model.parameters()) for model in models]
    assert max(counts) <= 1.01 * min(counts)
    for model in models[1:]:
        ours, theirs = models[0].state_dict(), model.state_dict()
        assert ours.keys() <= theirs.keys()
        assert all(torch.equal(ours[name].flatten(), theirs[name].flatten()) for name in ours)


def test_the_cells_of_the_ablation_start_from_the_same_weights_and_count(dataset):
    """At the default sizes, so that the budget is that of the study."""
    models = {cell: build_model(compose([f"ablation={cell}", "tracking=none"]), dataset) for cell in CELLS}
    counts = {cell: sum(p.numel() for p in model.parameters()) for cell, model in models.items()}
    assert max(counts.values()) <= 1.01 * min(counts.values())
    states = [
        {key.replace("conv_in.conv.", "conv_in."): value for key, value in model.state_dict().items()}
        for model in models.values()
    ]
    shared = set.intersection(*map(set, states))
    assert len(shared) >= min(map(len, states)) - 1  # label embeddings on balls have another name
    assert all(torch.equal(state[key].flatten(), states[0][key].flatten()) for state in states for key in shared)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_of_the_ablation_trains_and_samples(dataset, cell):
    model = model_of(dataset, f"ablation={cell}", "diffusion.sampler.steps=2")
    encoded = encode(model, dataset.train)
    model.fit_latents(encoded.loc)
    DiffusionStage(model, encoded, dataset.train.labels, seed=0, batch_size=4).loss(0)["loss"].backward()
    assert all(p.grad.isfinite().all() for p in model.denoiser.parameters() if p.grad is not None)
    assert model.sample_latents(torch.arange(3), torch.Generator().manual_seed(0)).isfinite().all()


@pytest.mark.parametrize(
    ("control", "other"),
    [
        ("latent_flat", "baseline"),
        ("stem_flat", "baseline"),
        ("attention_flat", "distance"),
        ("conditioning_flat", "baseline"),
        ("all_flat", "distance"),
    ],
)
def test_flat_controls_of_the_ablation_are_another_cell_bit_for_bit(dataset, control, other):
    results = []
    for cell in (control, other):
        model = model_of(dataset, f"ablation={cell}", "diffusion.sampler.steps=2")
        encoded = encode(model, dataset.train)
        model.fit_latents(encoded.loc)
        stage = DiffusionStage(model, encoded, dataset.train.labels, seed=0, batch_size=4)
        results.append((stage.loss(0)["loss"], model.sample(torch.arange(2), torch.Generator().manual_seed(0))))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_geometries_see_the_same_batches_and_noise(dataset, monkeypatch):
    """What a geometry draws must not shift what the next step draws, and one draw is the same for all."""
    seen = {}
    for name in GEOMETRIES:
        model = model_of(dataset, f"geometry={name}")
        stage, calls = FirstStage(model, dataset.train, seed=3, batch_size=4), []

        def losses(images, generator, calls=calls):
            calls.append((images, torch.randn(5, generator=generator)))
            return Losses({"loss": images.new_zeros(())}, images)

        monkeypatch.setattr(model.autoencoder, "losses", losses)
        for step in range(3):
            stage.loss(step)
        seen[name] = calls
    for name in GEOMETRIES[1:]:
        for (images, noise), (other_images, other_noise) in zip(seen["euclidean"], seen[name], strict=True):
            assert torch.equal(images, other_images)
            assert torch.equal(noise, other_noise)


@pytest.mark.parametrize("autoencoder", ["kl", "vq"])
def test_poincare_at_curvature_zero_is_euclidean_bit_for_bit(dataset, autoencoder):
    chosen = f"autoencoder={autoencoder}"
    flat = model_of(dataset, chosen, "geometry=euclidean", "geometry.decoder_stem=gyroplane")
    zero = model_of(dataset, chosen, "geometry=poincare", "curvature=0")
    losses = []
    for model in (flat, zero):
        first = FirstStage(model, dataset.train, seed=0, batch_size=4).loss(0)
        encoded = encode(model, dataset.train)
        model.fit_latents(encoded.loc)
        second = DiffusionStage(model, encoded, dataset.train.labels, seed=0, batch_size=4).loss(0)
        losses.append((first["loss"], second["loss"], model.sample(torch.arange(2), torch.Generator().manual_seed(0))))
    for a, b in zip(*losses, strict=True):
        assert torch.equal(a, b)


def test_latents_are_scaled_and_their_curvature_with_them(dataset):
    model = model_of(dataset, "geometry=poincare", "curvature=0.7")
    model.fit_latents(torch.full((3, 4, 7, 7), 2.0))
    assert model.latent_scale == 2
    torch.testing.assert_close(model.diffusion_manifold().curvatures().float(), torch.tensor([0.7 * 4]))


def test_the_manifold_of_diffusion_is_built_once_for_every_scale(dataset):
    model = model_of(dataset, "geometry=poincare", "curvature=0.7")
    names = list(model.state_dict())

    def expect(c):
        manifold = model.diffusion_manifold()
        assert manifold is model.diffusion_manifold()
        assert float(manifold.curvatures()) == pytest.approx(c, rel=1e-6)

    expect(0.7)
    model.fit_latents(torch.full((3, 4, 7, 7), 2.0))
    expect(0.7 * 4)
    model.latent_scale.fill_(3.0)
    expect(0.7 * 9)
    other = model_of(dataset, "geometry=poincare", "curvature=0.7")
    other.fit_latents(torch.full((3, 4, 7, 7), 5.0))
    model.load_state_dict(other.state_dict())
    expect(0.7 * 25)
    copied = copy.deepcopy(model)
    copied.latent_scale.fill_(1.0)
    assert float(copied.diffusion_manifold().curvatures()) == pytest.approx(0.7)
    expect(0.7 * 25)
    assert list(model.state_dict()) == names


def test_the_manifold_of_diffusion_follows_a_learned_curvature(dataset):
    model = model_of(dataset, "geometry=poincare", "curvature=learnable")
    model.fit_latents(torch.full((3, 4, 7, 7), 2.0))
    manifold = model.diffusion_manifold()
    with torch.no_grad():
        model.autoencoder.manifold.curvature.raw += 1
    assert model.diffusion_manifold() is manifold
    assert float(manifold.curvatures().detach()) == pytest.approx(4 * math.e, rel=1e-6)
    manifold.curvatures().sum().backward()
    assert model.autoencoder.manifold.curvature.raw.grad != 0


def test_a_seed_changes_the_weights_and_the_batches(dataset):
    one, other = model_of(dataset, "seed=0"), model_of(dataset, "seed=1")
    assert not torch.equal(one.denoiser.unet.conv_in.weight, other.denoiser.unet.conv_in.weight)
    assert not torch.equal(one.autoencoder.encoder.conv_in.weight, other.autoencoder.encoder.conv_in.weight)


@pytest.mark.parametrize("conditioning", ["class", "text"])
def test_hyperbolic_conditioning_at_curvature_zero_is_euclidean_bit_for_bit(dataset, conditioning):
    """Weights, loss, gradients, and images."""
    results = []
    for settings in ([], ["conditioning.hyperbolic=true", "curvature=0"]):
        model = model_of(dataset, f"conditioning={conditioning}", *settings)
        stage = DiffusionStage(model, encode(model, dataset.train), dataset.train.labels, seed=0, batch_size=4)
        loss = stage.loss(0)["loss"]
        loss.backward()
        gradients = [p.grad for p in stage.model.parameters() if p.grad is not None]
        images = model.sample(torch.arange(2), torch.Generator().manual_seed(0))
        results.append([loss, *gradients, *model.state_dict().values(), images])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("conditioning", ["class", "text"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_hyperbolic_conditioning_goes_with_every_geometry(dataset, geometry, conditioning):
    settings = [f"geometry={geometry}", f"conditioning={conditioning}"]
    flat, curved = (model_of(dataset, *settings, *more) for more in ([], ["conditioning.hyperbolic=true"]))
    counts = [sum(p.numel() for p in model.parameters()) for model in (flat, curved)]
    assert counts[0] == counts[1]
    losses = []
    for model in (flat, curved):
        stage = DiffusionStage(model, encode(model, dataset.train), dataset.train.labels, seed=0, batch_size=4)
        losses.append(stage.loss(0)["loss"])
    losses[1].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in stage.model.parameters())
    assert abs(losses[0] - losses[1]) < 0.05 * losses[0]  # embeddings start where they are, apart from rounding and c
    assert curved.sample(torch.arange(3), torch.Generator().manual_seed(0)).shape == (3, 1, 28, 28)


@pytest.mark.parametrize("autoencoder", ["kl", "vq"])
def test_a_path_starts_from_the_noise_that_its_latent_was_drawn_with(dataset, autoencoder):
    model = model_of(dataset, f"autoencoder={autoencoder}", "geometry=hybrid", "diffusion.process.pairing=posterior")
    encoded, seen = encode(model, dataset.train), []
    model.diffusion_loss = lambda *args: seen.append(args) or torch.zeros(())
    stage = DiffusionStage(model, encoded, dataset.train.labels, seed=0, batch_size=4)
    stage.loss(3)
    [(v, _, _, noise)] = seen
    part = encoded.rows(batch_indices(0, stage.name, 3, 4, len(dataset.train)))
    assert torch.equal(v, model.autoencoder.draw(part, noise))
    assert (noise.shape, torch.equal(v, part.loc)) == (v.shape, autoencoder == "vq")
