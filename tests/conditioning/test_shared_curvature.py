"""A conditioning on balls whose curvature was learned with the autoencoder: frozen, shared, and saved once."""

from functools import partial

import pytest
import torch
from safetensors import safe_open
from torch import nn

from hldm.autoencoder import KLAutoencoder
from hldm.conditioning import ClassConditioning, TextConditioning
from hldm.config import conditioning as config
from hldm.config.autoencoder import KL
from hldm.config.diffusion import UNet
from hldm.diffusion import FlowMatching, FlowSampler, UNetDenoiser
from hldm.geometry import Euclidean, LearnableCurvature, PoincareBall
from hldm.model import LatentDiffusion
from hldm.training import DiffusionStage, encode, initialised, load_weights, save_weights, train
from hldm.training.ema import Ema
from hldm.training.optimizer import Optimizer
from tests.conditioning.test_text import DIGITS

LEARNED = 2.5
IMAGES = torch.randint(0, 256, (8, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
KINDS = {
    "class": (ClassConditioning, config.ClassConditioning(hyperbolic=True)),
    "text": (TextConditioning, config.TextConditioning(channels=16, hyperbolic=True)),
}


def model_of(kind, learned=LEARNED, flat=False):
    """A model with a trained autoencoder and an untrained denoiser; `learned` is what training made of c = 1."""
    curvature = LearnableCurvature(1.0)
    manifold = Euclidean(4) if flat else PoincareBall(4, curvature)
    build = partial(
        KLAutoencoder,
        KL(block_channels=(8, 16)),
        manifold=manifold,
        decoder_stem="gyroplane",
        image_shape=(1, 28, 28),
    )
    autoencoder = initialised(0, "autoencoder", build)
    with torch.no_grad():
        curvature.raw.fill_(torch.tensor(learned).log())
    autoencoder.eval().requires_grad_(False)
    cls, settings = KINDS[kind]
    conditioning = initialised(0, "conditioning", partial(cls, settings, class_names=DIGITS, curvature=curvature))
    denoiser = initialised(
        0,
        "denoiser",
        partial(
            UNetDenoiser, UNet(block_channels=(16, 16), head_channels=16), layout=autoencoder.layout, classes=10,
            context_channels=conditioning.context_channels, label_embedding=conditioning.label_embedding,
        ),
    )  # fmt: skip
    return LatentDiffusion(autoencoder, denoiser, FlowMatching(), FlowSampler(steps=2), conditioning)


def stage_of(model):
    labels = torch.arange(8) % 10
    return DiffusionStage(model, encode(model, IMAGES), labels, seed=0, batch_size=4)


def optimizer_of(parameters):
    return torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)


def curvatures(model):
    return {id(part): part for part in model.modules() if isinstance(part, LearnableCurvature)}


def samples(model):
    return model.eval().sample_latents(torch.arange(3), torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_one_curvature_and_it_acts(kind):
    model = model_of(kind)
    [c] = curvatures(model).values()
    torch.testing.assert_close(c(), torch.tensor(LEARNED))
    assert c is model.autoencoder.manifold.curvature
    before = samples(model)
    with torch.no_grad():
        c.raw += 0.5
    assert not torch.equal(samples(model), before)


def test_points_are_made_for_the_curvature_that_was_learned():
    points = model_of("class").denoiser.unet.class_embedding
    [weight] = points.weights
    assert float(weight.manifold.c) == pytest.approx(LEARNED)
    assert (weight.square().sum(-1) * LEARNED < 1).all()
    ours = model_of("class", learned=1e-3).denoiser.unet.class_embedding(torch.arange(11))
    theirs = model_of("class").denoiser.unet.class_embedding(torch.arange(11))
    within = ours.unflatten(1, (-1, 8)).norm(dim=-1) * LEARNED**0.5 < 3.9
    assert within.any()
    torch.testing.assert_close(
        theirs.unflatten(1, (-1, 8))[within], ours.unflatten(1, (-1, 8))[within], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("flat", [False, True], ids=["latents on balls", "flat latents"])
@pytest.mark.parametrize("kind", KINDS)
def test_training_leaves_it_alone_and_moves_the_rest(kind, flat):
    """Also where no autoencoder learned it: it stays what it was."""
    model = model_of(kind, flat=flat)
    stage = stage_of(model)
    optimizer, average = Optimizer(stage.model.parameters(), optimizer_of), Ema(stage.model, 0.5)
    before = {name: value.clone() for name, value in stage.model.state_dict().items()}
    optimizer.set_rate(1e-2)
    for step in range(3):
        loss = stage.loss(step)["loss"]
        optimizer.zero_grad()
        loss.backward()
        assert optimizer.clip(1.0).isfinite()
        optimizer.step()
        average.update(stage.model)
    [c] = curvatures(model).values()
    torch.testing.assert_close(c(), torch.tensor(LEARNED))
    assert len(curvatures(average.model)) == 1
    embeddings = "class_embedding.weights" if kind == "class" else "conditioning.stem.weight"
    for state in (stage.model.state_dict(), average.model.state_dict()):
        changed = {name for name, value in state.items() if not torch.equal(value, before[name])}
        assert any(embeddings in name for name in changed)
        assert not any("curvature" in name for name in changed)
    stage.model.load_state_dict(average.model.state_dict())
    assert len(curvatures(model)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_weights_bring_the_curvature_with_them(kind, tmp_path):
    """Into a model that was built before it was loaded, from a curvature that is not the learned one."""
    model = model_of(kind)
    stage_of(model).loss(0)["loss"].backward()
    with torch.no_grad():
        for parameter in model.denoiser.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    model.fit_latents(torch.full((2, 4, 8, 8), 0.5))
    save_weights(tmp_path / "w.safetensors", model)
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert sum(name.endswith("curvature.raw") for name in file.keys()) == 1  # noqa: SIM118  # no mapping
    loaded, copied = model_of(kind, learned=1.0), model_of(kind, learned=1.0)
    load_weights(tmp_path / "w.safetensors", loaded)
    copied.load_state_dict(model.state_dict())
    for other in (loaded, copied):
        assert len(curvatures(other)) == 1
        torch.testing.assert_close(other.autoencoder.manifold.curvature(), torch.tensor(LEARNED))
        assert torch.equal(samples(other), samples(model))
    # a run that takes only the autoencoder finds its curvature under the autoencoder's names
    alone = model_of(kind, learned=1.0).autoencoder
    load_weights(tmp_path / "w.safetensors", nn.ModuleDict({"autoencoder": alone}), part=True)
    torch.testing.assert_close(alone.manifold.curvature(), torch.tensor(LEARNED))


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_stage_goes_on_bit_for_bit(kind, tmp_path):
    def run(name, stop=None):
        stage = stage_of(model_of(kind))
        loss = stage.loss

        def stopped(step):
            if step == stop:
                raise KeyboardInterrupt
            return loss(step)

        stage.loss = stopped
        return train(
            stage, steps=4, make_optimizer=optimizer_of, schedule="constant", clip_norm=1.0, ema_decay=0.5,
            state_path=tmp_path / name, checkpoint_every=2, log_every=1, on_start=lambda step: None,
            log=lambda step, figures: None,
        ).state_dict()  # fmt: skip

    straight = run("straight")
    with pytest.raises(KeyboardInterrupt):
        run("stopped", stop=3)
    resumed = run("stopped")
    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())
