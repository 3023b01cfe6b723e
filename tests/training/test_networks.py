"""Batches in pieces, inner values computed again, other memory and bfloat16 train the same model."""

import copy
import inspect
from functools import cache

import pytest
import torch

from hldm.config.compose import compose
from hldm.model import LatentDiffusion
from hldm.nn import PoincareConv2d
from hldm.pipeline.build import build_model, prepare_training
from hldm.run.identity import first_stage_identity, run_identity
from hldm.training import DiffusionStage, DigitDistance, FirstStage, RealisticFirstStage, encode
from hldm.training.networks import Way, set_way
from tests.edited import edited
from tests.fake_data import noise_digits

DATA = noise_digits(24)
KINDS = {
    "kl": ["denoiser.stem=gyroplane", "denoiser.attention=hyperbolic_distance"],
    "vq": ["autoencoder=vq", "geometry=euclidean"],
    "global": ["latent=global"],
    "both": ["latent=map_global", "conditioning=text", "diffusion=ddpm"],
}
SMALL = ["autoencoder.block_channels=[8,16]"]
SMALL_UNET = ["denoiser.block_channels=[16,16]", "denoiser.head_channels=16"]


@cache
def configured(kind=None):
    if kind is None:
        return compose(["paths.outputs=/nowhere"])
    small = [*SMALL, *(SMALL_UNET if kind != "global" else ["denoiser.width=16", "denoiser.blocks=1"])]
    return compose([*KINDS[kind], *small, "paths.outputs=/nowhere"])


def made(kind, way=None):
    """(the first stage, the second stage) of a model that is always the same."""
    model = build_model(configured(kind), DATA)
    encoded = encode(model, DATA.train)
    if way is not None:
        set_way(model, way)
    assert isinstance(model, LatentDiffusion)
    first = FirstStage(model, DATA.train, seed=0, batch_size=10)
    return first, DiffusionStage(model, encoded, DATA.train.labels, seed=0, batch_size=10)


def gradients(stage):
    """The loss, and the gradient by name."""
    loss = stage.loss(0)["loss"]
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in stage.model.named_parameters() if p.grad is not None}


def agree(one, other, tolerance=1e-4):
    """Gradients are equal up to rounding, each by its own size."""
    torch.testing.assert_close(one[0], other[0], rtol=1e-5, atol=0)
    assert one[1].keys() == other[1].keys()
    scale = max(gradient.abs().max() for gradient in one[1].values())
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, other[1][name], rtol=1e-3, atol=tolerance * scale, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_in_pieces_has_the_gradient_of_the_whole(kind):
    """Pieces of 4, 4 and 2 rows, with channels last, and blocks computed again."""
    way = Way(microbatch=4, recomputes=True, is_channels_last=True)
    for stage, other in zip(made(kind), made(kind, way), strict=True):
        agree(gradients(stage), gradients(other))


def test_pieces_go_with_losses_that_look_at_gradients_and_at_whole_batches():
    """A discriminator with batch normalisation, its adaptive weight, and a perceptual distance."""
    losses = ["training.first_stage.perceptual_weight=1", "training.first_stage.adversarial_weight=0.5",
              "training.first_stage.adversarial_start=0", "training.first_stage.batch_size=10"]  # fmt: skip
    found = []
    for way in (None, Way(microbatch=4, recomputes=True)):
        _, second = made("kl", way)
        settings = edited(configured(), *losses).training.first_stage
        found.append(
            gradients(RealisticFirstStage(second.diffusion, DATA.train, settings, seed=0, distance=DigitDistance()))
        )
    agree(*found)


def kept(stage):
    """Bytes of inner values that are kept for backwards."""
    seen = {}

    def note(tensor):
        seen[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        stage.loss(0)["loss"]
    return sum(seen.values())


def test_less_is_kept_for_backwards():
    plain = [kept(stage) for stage in made("kl")]
    for way in (Way(microbatch=4), Way(recomputes=True)):
        for less, whole in zip([kept(stage) for stage in made("kl", way)], plain, strict=True):
            assert less < 0.8 * whole


def test_bfloat16_is_for_networks_and_geometry_stays_float32():
    seen = []
    first, second = made("kl", Way(is_half=True))
    (stem,) = [module for module in second.model.modules() if isinstance(module, PoincareConv2d)]
    stem.register_forward_hook(lambda module, args, out: seen.append((args[0].dtype, out.dtype)))
    inner = [module for module in first.autoencoder.encoder.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    inner.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    head = first.autoencoder.posterior_head
    head.register_forward_hook(lambda module, args, out: seen.append((args[0].dtype, out.dtype)))
    for stage, other in zip(made("kl"), (first, second), strict=True):
        loss, found = gradients(stage)
        half_loss, half = gradients(other)
        assert half_loss.dtype == torch.float32
        torch.testing.assert_close(loss, half_loss, rtol=0.02, atol=0)
        assert not torch.equal(loss, half_loss)
        assert all(gradient.dtype == torch.float32 for gradient in half.values())
        flat, half_flat = (torch.cat([g.flatten() for g in each.values()]) for each in (found, half))
        assert torch.cosine_similarity(flat, half_flat, dim=0) > 0.99
    whole = torch.float32
    assert seen == [torch.bfloat16, (whole, whole), (whole, whole)]
    seen.clear()
    with torch.no_grad():  # latents and samples are what they always are
        encode(first_model := second.diffusion, DATA.train)
    assert seen[0] == torch.float32
    assert first_model.autoencoder is first.autoencoder


def test_a_copy_of_a_network_works_with_its_own_weights():
    """As the average does that validation looks at."""
    _, stage = made("kl", Way(microbatch=4))
    network = stage.model["denoiser"]
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.zero_()
    assert twin.forward.__self__ is twin
    assert inspect.isfunction(twin.forward.__func__)  # torch.compile takes no partial functions
    condition = stage.diffusion.conditioning.for_training(DATA.train.labels[:10], torch.Generator().manual_seed(0))
    v = torch.ones(10, *stage.diffusion.layout.shape)
    assert not twin(v, torch.ones(10), condition).any()
    assert network(v, torch.ones(10), condition).any()


def test_the_number_format_is_part_of_both_identities_and_pieces_are_not():
    def names(*overrides):
        config = edited(configured(), *overrides)
        return run_identity(config).digest, first_stage_identity(config).digest

    plain = names()
    assert names("training.microbatch=8", "hardware.recompute=true", "hardware.channels_last=true") == plain
    assert not set(names("training.precision=bfloat16")) & set(plain)


def test_settings_reach_the_networks(monkeypatch):
    ways = []
    monkeypatch.setattr("hldm.pipeline.build.set_way", lambda model, way: ways.append(way))
    for overrides in ([], ["training.precision=bfloat16", "training.microbatch=3"], ["hardware.recompute=true"]):
        config = edited(configured(), *overrides)
        prepare_training(None, config)
    assert ways == [Way(is_half=True, microbatch=3), Way(recomputes=True)]
