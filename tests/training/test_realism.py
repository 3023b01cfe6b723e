"""Perceptual and adversarial losses: what they measure, who learns from which, and that a stopped stage goes on."""

from functools import partial

import pytest
import torch
from torchmetrics.image import LearnedPerceptualImagePatchSimilarity
from torchvision.models import vgg16

from hldm.autoencoder import KLAutoencoder, VQAutoencoder
from hldm.config import autoencoder as sections
from hldm.config import training as config
from hldm.errors import UserError
from hldm.geometry import Euclidean
from hldm.model import PriorModel
from hldm.pipeline.build import optimization
from hldm.training import initialised, train
from hldm.training.realism import (
    LPIPS,
    DigitDistance,
    PatchDiscriminator,
    PatchDiscriminator70,
    RealisticFirstStage,
    adaptive_weight,
    hinge_loss,
)
from hldm.training.stages import FirstStage
from tests.fake_data import noise_digits


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def dataset():
    return noise_digits(40)


AUTOENCODERS = {
    "kl": (KLAutoencoder, sections.KL(block_channels=(8, 16))),
    "vq": (VQAutoencoder, sections.VQ(block_channels=(8, 16))),
}


def model_of(kind):
    cls, section = AUTOENCODERS[kind]
    build = lambda: cls(section, manifold=Euclidean(4), decoder_stem="linear", image_shape=(1, 28, 28))  # noqa: E731
    return PriorModel(initialised(0, "autoencoder", build))


def stage_of(dataset, kind="kl", **settings):
    """The plain stage where the settings give no weight to realism."""
    section = config.FirstStage(batch_size=4, **settings)
    if not section.perceptual_weight and not section.adversarial_weight:
        return FirstStage(model_of(kind), dataset.train, seed=0, batch_size=4)
    distance = None
    if section.perceptual_weight:
        distance = LPIPS(section.perceptual_backbone) if section.uses_lpips else DigitDistance()
    return RealisticFirstStage(model_of(kind), dataset.train, section, seed=0, distance=distance)


def test_the_digit_distance_grows_with_what_is_changed():
    x = torch.zeros(2, 1, 28, 28)
    x[:, :, 6:22, 12:16] = 1
    shifted, missing = x.roll(1, 3), torch.zeros_like(x)
    distance = DigitDistance()
    assert distance(x, x) == 0
    assert 0 < distance(x, 0.99 * x) < distance(x, shifted) < distance(x, missing)
    assert distance(x, shifted) == pytest.approx(distance(shifted, x).item(), rel=1e-5)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A file of VGG16 with random weights, without the layers that LPIPS leaves alone, which would be 500 MB."""
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with torch.device("meta"):
            layers = vgg16().features
        layers.to_empty(device="cpu")
        for layer in layers:
            if isinstance(layer, torch.nn.Conv2d):
                layer.reset_parameters()
    torch.save({f"features.{key}": value for key, value in layers.state_dict().items()}, path)
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_lpips_is_that_of_torchmetrics(backbone, channels, monkeypatch):
    with torch.device("meta"):
        network = vgg16()
    state = {key.removeprefix("features."): value for key, value in torch.load(backbone, weights_only=True).items()}
    network.features.load_state_dict(state, assign=True)
    monkeypatch.setattr("torchvision.models.vgg16", lambda weights=None: network)
    theirs = LearnedPerceptualImagePatchSimilarity("vgg", normalize=True)
    x, y = torch.rand(2, 3, channels, 28, 28, generator=generator())
    expected = theirs(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1))
    monkeypatch.undo()
    before = torch.get_rng_state()
    distance = LPIPS(backbone)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(distance(x, y), expected)
    assert expected > 0
    assert distance(x, x) == 0


def test_lpips_pulls_images_together_and_learns_nothing_itself(backbone):
    distance = LPIPS(backbone)
    x, y = torch.rand(2, 2, 1, 28, 28, generator=generator())
    for start in (y, x.clone(), torch.zeros_like(x)):
        start = start.requires_grad_()
        distance(x, start).backward()
        assert start.grad.isfinite().all()
    before = distance(x, y).detach()
    assert distance(x, y - 1e-2 * y.grad / y.grad.abs().max()) < before
    assert not any(p.requires_grad for p in distance.parameters())
    with torch.no_grad():
        distance.layers[28].bias.fill_(-1e6)  # nothing leaves the last ReLU
    assert distance(x, y).isfinite()


def test_the_stage_measures_in_the_features_that_are_asked_for(dataset, backbone):
    digits = stage_of(dataset, perceptual_weight=1)
    lpips = stage_of(dataset, perceptual_weight=1, perceptual_features="lpips", perceptual_backbone=str(backbone))
    assert isinstance(digits.distance, DigitDistance)
    assert isinstance(lpips.distance, LPIPS)
    terms = [stage.loss(0) for stage in (digits, lpips)]
    assert torch.equal(terms[0]["reconstruction"], terms[1]["reconstruction"])
    assert terms[0]["perceptual"] != terms[1]["perceptual"]


@pytest.mark.parametrize("content", [b"", b"no weights", {"features.0.weight": torch.zeros(3)}, [1.0]])
def test_another_file_is_not_taken_for_vgg(tmp_path, content):
    path = tmp_path / "vgg.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=r"perceptual_backbone=.*vgg.pth does not hold"):
        LPIPS(path)


def test_hinge_loss_in_closed_form():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.0])
    assert hinge_loss(real, fake) == pytest.approx(0.5 * (0.5 + 2) / 3 + 0.5 * (1 + 2) / 3)


def test_the_adaptive_weight_balances_both_gradients():
    layer = torch.ones(3, requires_grad=True)
    reconstruction, adversarial = 6 * layer.sum(), -0.5 * layer.sum()
    assert adaptive_weight(reconstruction, adversarial, layer) == pytest.approx(12, rel=1e-3)
    assert adaptive_weight(reconstruction, 0 * layer.sum(), layer) == 1e4  # as the authors clamp it


def test_a_logit_sees_a_patch_of_22_pixels():
    discriminator = PatchDiscriminator(1).eval()
    x = torch.rand(1, 1, 40, 40, generator=generator()).requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(x)[0, 0, 4, 4], x)
    assert [int(gradient.abs().sum(axis).gt(0).sum()) for axis in ((0, 1, 2), (0, 1, 3))] == [22, 22]


def test_the_larger_discriminator_is_that_of_latent_diffusion():
    """Patches of 70 × 70 pixels, and the 2,765,633 weights of NLayerDiscriminator (ndf = 64, three layers)."""
    torch.manual_seed(0)
    discriminator = PatchDiscriminator70(3).eval()
    assert sum(p.numel() for p in discriminator.parameters()) == 2_765_633
    assert discriminator[2].weight.std().item() == pytest.approx(0.02, rel=0.02)
    x = torch.rand(1, 3, 96, 96, generator=generator()).requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(x)[0, 0, 5, 5], x)
    assert [int(gradient.abs().sum(axis).gt(0).sum()) for axis in ((0, 1, 2), (0, 1, 3))] == [70, 70]


def test_the_first_stage_may_have_an_optimizer_of_its_own():
    adam = {"_target_": "torch.optim.Adam", "betas": (0.5, 0.9)}
    training = config.Training.model_validate({"first_stage": {"optimizer": adam, "learning_rate": 0.1}})
    weight = [torch.nn.Parameter(torch.ones(1))]
    own, other = (
        optimization(training, stage)["make_optimizer"](weight) for stage in (training.first_stage, training.diffusion)
    )
    assert (type(own), own.defaults["betas"], own.defaults["lr"]) == (torch.optim.Adam, (0.5, 0.9), 0.1)
    assert (type(other), other.defaults["betas"]) == (torch.optim.AdamW, (0.9, 0.99))


@pytest.mark.parametrize("autoencoder", AUTOENCODERS)
def test_before_its_start_the_discriminator_changes_nothing(dataset, autoencoder):
    plain = stage_of(dataset, autoencoder)
    one = stage_of(dataset, autoencoder, adversarial_weight=0.5, adversarial_start=1)
    assert torch.equal(one.loss(0)["loss"], plain.loss(0)["loss"])


@pytest.mark.parametrize("autoencoder", AUTOENCODERS)
def test_every_weight_changes_the_gradient_of_the_decoder(dataset, autoencoder):
    gradients = []
    for weights in ({}, {"perceptual_weight": 1}, {"adversarial_weight": 0.5, "adversarial_start": 0}):
        stage = stage_of(dataset, autoencoder, **weights)
        terms = stage.loss(0)
        terms["loss"].backward()
        assert all(value.isfinite() for value in terms.values())
        gradients.append(stage.model.get_parameter("decoder.conv_out.weight").grad)
    plain, *others = gradients
    assert all((plain - other).norm() > 1e-3 * plain.norm() for other in others)


def test_the_discriminator_learns_from_its_own_loss_alone(dataset):
    stage = stage_of(dataset, adversarial_weight=0.5, adversarial_start=0)
    assert isinstance(stage, RealisticFirstStage)
    losses = []
    for _ in range(8):  # the same step and an autoencoder that is left as it is
        terms = stage.loss(0)
        losses.append(terms["discriminator"].item())
        terms["loss"].backward()  # must not reach it
    assert losses[-1] < 0.8 * losses[0]
    apart = stage_of(dataset, adversarial_weight=0.5, adversarial_start=0)
    for _ in range(8):
        apart.loss(0)
    ours, theirs = stage.discriminator.state_dict(), apart.discriminator.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("autoencoder", AUTOENCODERS)
def test_a_stopped_stage_goes_on_bit_for_bit(dataset, tmp_path, autoencoder):
    def run(name, stop=None):
        stage = stage_of(dataset, autoencoder, perceptual_weight=1, adversarial_weight=0.5,
                         adversarial_start=1)  # fmt: skip
        loss = stage.loss

        def stopped(step):
            if step == stop:
                raise KeyboardInterrupt
            return loss(step)

        stage.loss = stopped
        model = train(
            stage, steps=4, make_optimizer=partial(torch.optim.AdamW, lr=1e-3), schedule="constant", clip_norm=1.0,
            ema_decay=None, state_path=tmp_path / name, checkpoint_every=2, log_every=1, on_start=lambda step: None,
            log=lambda step, figures: None,
        )  # fmt: skip
        return {**model.state_dict(), **stage.discriminator.state_dict(prefix="discriminator.")}

    straight = run("straight")
    with pytest.raises(KeyboardInterrupt):
        run("stopped", stop=3)
    resumed = run("stopped")
    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())
