"""The published U-Net and first stage: so many weights, the models of diffusers, and the published sampler."""

from functools import cache
from typing import Any

import diffusers
import pytest
import torch

from hldm.autoencoder import VQAutoencoder
from hldm.config import diffusion as config
from hldm.config.autoencoder import VQ
from hldm.config.compose import compose
from hldm.diffusion import DiffusionSampler, TangentDDPM, UNetDenoiser
from hldm.errors import UserError
from hldm.geometry import Euclidean, FixedCurvature, Manifold, PoincareBall
from hldm.layout import LatentLayout
from hldm.nn import Condition
from hldm.spaces import curvature_of, manifold_of

SMALL: dict[str, Any] = {
    "block_channels": (32, 64),
    "layers_per_block": 1,
    "head_channels": 16,
    "groups": 16,
    "attention_resolutions": (2,),
    "middle": "attention",
    "class_embedding": False,
}
PUBLISHED = 274_056_163
"""Weights of the U-Net: "274.06 M params" of the authors' trainer, and UNet2DModel of this shape."""
FIRST_STAGE = 55_322_782
"""Weights of VQModel of the shape of VQ-f4."""


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@cache
def composed(*more: str) -> Any:
    return compose(["experiment=lsun_bedrooms-ldm-vq-4", *more])


def on_meta(c: Any) -> tuple[Any, Any]:
    with torch.device("meta"):
        manifold = manifold_of(c.geometry.manifold, curvature_of(c.curvature))
        stem = c.geometry.decoder_stem
        first = VQAutoencoder(c.autoencoder, manifold=manifold, decoder_stem=stem, image_shape=(3, 256, 256))
        return first, UNetDenoiser(c.denoiser, layout=first.layout, classes=1)


def test_the_experiment_is_the_published_configuration() -> None:
    """lsun_bedrooms-ldm-vq-4.yaml of CompVis/latent-diffusion, and config.yaml of its first stage, vq-f4."""
    c = composed()
    assert c.denoiser.block_channels == tuple(224 * k for k in (1, 2, 3, 4))
    assert c.denoiser.attention_resolutions == (8, 4, 2)
    assert (c.denoiser.layers_per_block, c.denoiser.head_channels, c.denoiser.groups) == (2, 32, 32)
    assert (c.autoencoder.codebook_size, c.autoencoder.latent_channels) == (8192, 3)
    assert (c.autoencoder.block_channels, c.autoencoder.padded_side) == ((128, 256, 512), 256)
    assert (c.autoencoder.commitment_weight, c.autoencoder.codebook_weight) == (1, 0.25)
    assert (c.diffusion.process.prediction, c.diffusion.process.schedule) == ("epsilon", "scaled_linear")
    assert c.diffusion.latent_scale == 1
    sampler = c.diffusion.sampler
    assert (sampler.method, sampler.steps, sampler.eta, sampler.spacing) == ("ddim", 200, 1, "leading_1")
    first, second, optimizer = c.training.first_stage, c.training.diffusion, c.training.optimizer
    assert second.learning_rate == pytest.approx(48 * 2e-6)
    assert (second.batch_size, second.schedule, second.clip_norm, second.ema_decay) == (48, "constant", None, 0.9999)
    assert (optimizer.betas, optimizer.weight_decay, optimizer.target) == ((0.9, 0.999), 0.01, "torch.optim.AdamW")
    assert first.learning_rate == pytest.approx(8 * 4.5e-6)
    assert (first.adversarial_weight, first.adversarial_start, first.discriminator) == (0.75, 0, "patch70")
    assert (first.perceptual_weight, first.perceptual_features) == (1, "lpips")
    assert (first.optimizer.target, first.optimizer.betas) == ("torch.optim.Adam", (0.5, 0.9))
    assert (c.dataset.side, c.dataset.flips, c.seed) == (256, True, 23)


def test_the_published_model_has_as_many_weights_as_published() -> None:
    first, unet = on_meta(composed())
    assert first.latent_shape == (3, 64, 64)
    assert (parameters(first), parameters(unet)) == (FIRST_STAGE, PUBLISHED)
    assert first.quantizer.codes.shape == (8192, 3)


@pytest.mark.parametrize(
    "more",
    [
        ("geometry=poincare",),
        ("geometry=poincare", "denoiser.stem=gyroplane", "denoiser.attention=hyperbolic_distance"),
    ],
)
def test_hyperbolic_twins_have_as_many_to_a_hundredth(more: tuple[str, ...]) -> None:
    flat, curved = (sum(map(parameters, on_meta(composed(*words)))) for words in ((), more))
    assert flat == FIRST_STAGE + PUBLISHED
    assert abs(curved / flat - 1) < 0.01


def test_it_is_the_unet_of_diffusers_under_the_same_names() -> None:
    torch.manual_seed(0)
    theirs = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=16,
        norm_num_groups=16,
    )
    ours = UNetDenoiser(config.UNet(**SMALL), layout=LatentLayout.of_map(Euclidean(3), (8, 8)), classes=10)
    ours.unet.load_state_dict(theirs.state_dict())
    x, steps = torch.randn(2, 3, 8, 8), torch.tensor([3, 996])
    with torch.no_grad():
        out = ours(x, steps / 1000, Condition(torch.tensor([10, 10])))
        torch.testing.assert_close(out, theirs(x, steps).sample, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("resolutions", "attending"),
    [(None, [False, True]), ((1,), [True, False]), ((1, 2), [True, True]), ((), [False] * 2)],
)
def test_attention_is_at_the_levels_that_are_named(resolutions: Any, attending: list[bool]) -> None:
    settings = config.UNet(**{**SMALL, "attention_resolutions": resolutions})
    unet = UNetDenoiser(settings, layout=LatentLayout.of_map(Euclidean(3), (8, 8)), classes=10).unet
    assert [hasattr(block, "attentions") for block in unet.down_blocks] == attending
    assert [hasattr(block, "attentions") for block in unet.up_blocks] == attending[::-1]
    assert unet.mid_block.attentions[0] is not None
    assert unet.class_embedding is None


def test_distance_attention_in_the_middle_is_given_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers says in the log what a processor leaves out, at every call."""
    said: list[str] = []
    monkeypatch.setattr("diffusers.models.attention_processor.logger.warning", said.append)
    settings = config.UNet(**SMALL, attention="hyperbolic_distance")
    ours = UNetDenoiser(settings, layout=LatentLayout.of_map(Euclidean(3), (8, 8)), classes=10)
    out = ours(torch.randn(2, 3, 8, 8), torch.tensor([0.1, 0.9]), Condition(torch.tensor([10, 10])))
    assert out.isfinite().all()
    assert said == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["denoiser.groups=24"], ["denoiser.groups=24", "denoiser.groups=8"]),
        (["denoiser.attention_resolutions=[3]"], ["has 3", "1, 2"]),
        (["denoiser.attention_resolutions=[1]"], ["does not divide 48", "denoiser.head_channels=16"]),
        (["denoiser.class_embedding=false"], ["conditioning=none"]),
        (["autoencoder.groups=12"], ["autoencoder.groups=12", "autoencoder.groups=4"]),
        (
            ["diffusion=ddpm", "diffusion.sampler.spacing=leading_1", "diffusion.sampler.steps=1000"],
            ["leave the sched"],
        ),
    ],
)
def test_what_does_not_go_together_is_said(words: list[str], said: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        compose(words)
    text = " ".join(str(refused.value).split())
    assert all(word in text for word in said), text


def test_the_published_sampler_is_ddim_with_leading_steps_and_an_offset_of_one() -> None:
    """diffusers' scheduler as the converted weights of latent diffusion configure it; 200 steps are 1, 6, …, 996."""
    sampler = DiffusionSampler(steps=20, eta=1.0, spacing="leading_1")
    assert DiffusionSampler(steps=200, spacing="leading_1").timesteps == list(range(1, 1000, 5))[::-1]
    process = TangentDDPM(prediction="epsilon")
    theirs = diffusers.DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
    theirs.set_timesteps(20)
    assert theirs.timesteps.tolist() == sampler.timesteps

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.sin(3 * x + t.view(-1, 1, 1, 1))

    ours = sampler.sample(process, Euclidean(3), predict, (2, 3, 4, 4), torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 3, 4, 4, generator=generator)
    for step in theirs.timesteps:
        output = predict(x, step.expand(2) / 1000)
        x = theirs.step(output, step, x, eta=1.0, generator=generator).prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


def first_stage(manifold: Manifold, **settings: Any) -> VQAutoencoder:
    torch.manual_seed(0)
    small = VQ(
        latent_channels=3,
        block_channels=(16, 32),
        groups=16,
        patch_size=1,
        padded_side=16,
        codebook_size=32,
        likelihood="l1",
        initial_batches=0,
        revive_after=None,
        **settings,
    )
    return VQAutoencoder(small, manifold=manifold, decoder_stem="linear", image_shape=(3, 16, 16))


def test_the_first_stage_is_vqmodel_with_its_loss() -> None:
    model = first_stage(Euclidean(3)).eval()
    theirs = diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 32),
        layers_per_block=1,
        latent_channels=3,
        num_vq_embeddings=32,
        norm_num_groups=16,
        sample_size=16,
    ).eval()
    theirs.encoder.load_state_dict(model.encoder.state_dict())
    theirs.decoder.load_state_dict(model.decoder.state_dict())
    theirs.quant_conv.load_state_dict(model.latent_head.state_dict())
    theirs.post_quant_conv.load_state_dict(model.decoder_stem.state_dict())
    theirs.quantize.embedding.weight.data.copy_(model.quantizer.codes)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        v = model.encode(images).loc
        x = 2 * images - 1
        torch.testing.assert_close(v, theirs.encode(x).latents)
        rebuilt = theirs.decode(v)
        torch.testing.assert_close(2 * model.mean_of(model.decode(v)) - 1, rebuilt.sample)
        terms = model.losses(images, torch.Generator()).terms
        torch.testing.assert_close(terms["reconstruction"], (x - rebuilt.sample).abs().mean())
        # mean over the batch of their commitment term, β = .25 with legacy=False there; ours by hand
        codes = model.quantizer.codes[model.quantizer.nearest(v.permute(0, 2, 3, 1).flatten(0, 2))]
        squares = (v.permute(0, 2, 3, 1).flatten(0, 2) - codes).square().mean()
        torch.testing.assert_close(terms["loss"], terms["reconstruction"] + 1.25 * squares)
    assert model.loss_unit == 1
    assert model.to_images(v).min() >= 0
    assert model.to_images(v).max() <= 1


def test_curved_codes_lose_by_their_geodesic_distance() -> None:
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    losses = {}
    for name, manifold in {"flat": Euclidean(3), "ball": PoincareBall(3, FixedCurvature(1.0))}.items():
        model = first_stage(manifold)
        with torch.no_grad():
            model.latent_head.weight.mul_(5)
            model.quantizer.codes.mul_(20)
        terms = model.losses(images, torch.Generator()).terms
        terms["loss"].backward()
        losses[name] = terms["quantization"].item()
        assert model.quantizer.codes.grad is not None
        assert model.quantizer.codes.grad.norm() > 0
        assert model.quantizer.codes.grad.isfinite().all()
    # the same points are farther from each other where space is curved
    assert losses["ball"] > 1.001 * losses["flat"] > 0
