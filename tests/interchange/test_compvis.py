"""Checkpoints of latent diffusion: every tensor is used or named, and the models compute what the authors' code does.

compvis.json has the tensors of a tiny `UNetModel`, `Encoder` and `Decoder`, and what CompVis/latent-diffusion (a506df5)
computes with the numbers that `drawn` gives them, which are no multiple of anything.
"""

import json
import pickle
from pathlib import Path

import pytest
import torch
from diffusers import LDMPipeline

from hldm.commands import convert as command
from hldm.errors import UserError
from hldm.interchange import convert, load_component, read_tensors, save_pipeline
from hldm.pipeline.pretrained import HLDM

KNOWN = json.loads((Path(__file__).parent / "compvis.json").read_text(encoding="utf-8"))


def drawn(part, seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in sorted(KNOWN[part].items())}


def checkpoint(**changes):
    """Tensors as Lightning saves them; the average is what counts, and the last step's weights are others."""
    average, first = drawn("unet", 0), drawn("first_stage", 1)
    tensors = {f"model.diffusion_model.{name}": x + 1 for name, x in average.items()}
    tensors |= {f"model_ema.diffusion_model{name.replace('.', '')}": x for name, x in average.items()}
    tensors |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(3)}
    tensors |= {f"first_stage_model.{name}": x for name, x in first.items()}
    tensors["first_stage_model.quantize.embedding.weight"] = torch.linspace(-1, 1, 48).view(16, 3)
    tensors["first_stage_model.loss.discriminator.main.0.weight"] = torch.zeros(1)
    tensors["betas"] = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2
    tensors["alphas_cumprod"] = (1 - tensors["betas"]).cumprod(0)
    return {name: x for name, x in (tensors | changes).items() if x is not None}


def noise():
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(1, 3, side, side, generator=generator) for side in (8, 8, 4)]


@torch.no_grad()
def test_the_models_compute_what_the_authors_code_does(tmp_path):
    converted = convert(checkpoint(), head_channels=16)
    save_pipeline(converted, tmp_path)
    unet, first = load_component(tmp_path / "unet"), load_component(tmp_path / "vqvae")
    x, image, z = noise()
    found = {
        "unet": unet(x, 977).sample,
        "encoder": first.encode(image).latents,
        "decoder": first.decode(z, force_not_quantize=True).sample,
    }
    for name, numbers in KNOWN["outputs"].items():
        torch.testing.assert_close(found[name].flatten()[:24], torch.tensor(numbers), rtol=1e-4, atol=1e-4)
    assert first.config.scaling_factor == 1.0
    said = " ".join(converted.report)
    assert f"U-Net: {len(KNOWN['unet'])} tensors, the running average" in said
    assert "1 tensors of the first stage's loss" in said
    assert "β from 0.0015 to 0.0195 in 1000 steps" in said


def test_the_command_writes_a_pipeline_of_diffusers(tmp_path, capsys):
    torch.save({"state_dict": checkpoint(), "callbacks": {}}, tmp_path / "model.ckpt")
    first = "first_stage_config: {params: {ddconfig: {resolution: 16}}}"
    (tmp_path / "config.yaml").write_text(
        f"model: {{params: {{unet_config: {{params: {{num_head_channels: 16}}}}, {first}}}}}"
    )
    command.main([f"source={tmp_path / 'model.ckpt'}", f"out={tmp_path / 'out'}"])
    assert "attention heads of 16 channels" in capsys.readouterr().out
    pipeline = LDMPipeline.from_pretrained(tmp_path / "out", local_files_only=True)
    assert pipeline.scheduler.config.steps_offset == 1
    assert not pipeline.scheduler.config.set_alpha_to_one
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline(num_inference_steps=2, output_type="np").images.shape == (1, 16, 16, 3)
    x, *_ = noise()
    with torch.no_grad():
        found = pipeline.unet(x, 977).sample.flatten()[:24]
    torch.testing.assert_close(found, torch.tensor(KNOWN["outputs"]["unet"]), rtol=1e-4, atol=1e-4)


def test_a_checkpoint_is_one_of_our_models(tmp_path):
    torch.save(checkpoint(), tmp_path / "model.ckpt")
    model = HLDM.from_pretrained(tmp_path / "model.ckpt").model
    assert (model.latent_scale, model.sampler.timesteps[-1]) == (1, 1)
    assert model.layout.shape == (3, 128, 128)  # of 256 × 256 pixels, as no tensor tells
    assert model.autoencoder.image_shape == (3, 256, 256)
    ddconfig = "first_stage_config: {params: {ddconfig: {resolution: 64}}}"
    (beside := tmp_path / "config.yaml").write_text(
        f"model: {{params: {{{ddconfig}, unet_config: {{params: {{num_head_channels: 16}}}}}}}}"
    )
    model = HLDM.from_pretrained(tmp_path / "model.ckpt").model
    assert model.autoencoder.image_shape == (3, 64, 64)
    assert model.denoiser.unet.config.attention_head_dim == 16
    beside.write_text("model: {params: {parameterization: x0}}")
    with pytest.raises(UserError, match="parameterization=x0"):
        HLDM.from_pretrained(tmp_path / "model.ckpt")


def test_the_weights_of_the_last_step_can_be_had():
    last = convert(checkpoint(), head_channels=16, averaged=False).unet
    average = convert(checkpoint(), head_channels=16).unet
    torch.testing.assert_close(last.conv_in.weight, average.conv_in.weight + 1)


def test_a_first_stage_alone_needs_no_prefix():
    tensors = {**drawn("first_stage", 1), "quantize.embedding.weight": torch.zeros(16, 3)}
    tensors["loss.perceptual_loss.lin0.model.1.weight"] = torch.zeros(1)
    converted = convert(tensors)
    assert converted.unet is None
    assert type(converted.first_stage).__name__ == "VQModel"


@torch.no_grad()
def test_a_first_stage_without_codes_is_a_kl_autoencoder():
    """Its moments' layers are twice as wide, and the mean is what the encoder gave; the checkpoint has its scale."""
    first = {
        name: x for name, x in checkpoint().items() if name.startswith("first_stage_model.") and "quantize" not in name
    }
    wider = {name: first[name] for name in first if ".encoder.conv_out." in name or ".quant_conv." in name}
    for name, x in wider.items():
        both = torch.cat([x, x])
        is_square = ".quant_conv." in name and x.ndim == 4
        first[name] = torch.cat([both, torch.zeros_like(both)], 1) if is_square else both
    converted = convert({**first, "scale_factor": torch.tensor(0.5)})
    model = converted.first_stage
    assert type(model).__name__ == "AutoencoderKL"
    assert model.config.scaling_factor == 0.5
    _, image, z = noise()
    for name, found in {"encoder": model.encode(image).latent_dist.mean, "decoder": model.decode(z).sample}.items():
        expected = torch.tensor(KNOWN["outputs"][name])
        torch.testing.assert_close(found.flatten()[:24], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.diffusion_model.middle_block.9.weight": torch.zeros(1)}, "are unknown: unknown middle_block.9.weight"),
        ({"first_stage_model.encoder.extra.weight": torch.zeros(1)}, "encoder.extra.weight"),
        ({"cond_stage_model.transformer.weight": torch.zeros(1)}, "cond_stage_model.transformer.weight"),
        ({"something.else": torch.zeros(1)}, "something.else"),
        ({"model.diffusion_model.out.0.weight": None, "model_ema.diffusion_modelout0weight": None}, "are missing"),
        ({"betas": torch.linspace(1e-4, 0.02, 1000)}, "noise schedule"),
        ({"model_ema.diffusion_modelout0weight": torch.full((32,), torch.nan)}, "conv_norm_out.weight .* not finite"),
        *(({"scale_factor": torch.tensor(scale)}, "no number > 0") for scale in (torch.nan, -1.0, 0.0)),
    ],
)
def test_every_tensor_that_has_no_place_is_named(changes, said):
    with pytest.raises(UserError, match=said):
        convert(checkpoint(**changes), head_channels=16)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"decoder.conv_in.weight": torch.zeros(8, 16, 3, 3), "encoder.conv_in.weight": torch.zeros(1)}, "it has no"),
        ({"model.diffusion_model.joint_blocks.0.x.weight": torch.zeros(1)}, "it has no input_blocks"),
        # of Stable Diffusion 1.x, whose U-Net alone would be called damaged
        (
            {
                "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_k.weight": torch.zeros(1),
                "cond_stage_model.transformer.weight": torch.zeros(1),
            },
            "2 tensors belong to no part of an unconditional .* Models with a condition",
        ),
    ],
    ids=["a first stage without post_quant_conv", "Stable Diffusion 3", "Stable Diffusion 1"],
)
def test_other_architectures_are_said(tensors, said):
    with pytest.raises(UserError, match=said):
        convert(tensors)


def test_the_scale_is_the_tensors_then_the_configurations_then_one():
    kl = {
        name: x for name, x in checkpoint().items() if name.startswith("first_stage_model.") and "quantize" not in name
    }
    for name in [name for name in kl if ".encoder.conv_out." in name or ".quant_conv." in name]:
        x = torch.cat([kl[name], kl[name]])
        kl[name] = torch.cat([x, x], 1) if ".quant_conv." in name and x.ndim == 4 else x
    unet = {name: x for name, x in checkpoint().items() if name.startswith("model.")}

    def found(tensors, **settings):
        return convert(tensors, head_channels=16, **settings).first_stage.config.scaling_factor

    assert found(kl) == 0.18215
    assert found({**kl, **unet}) == 1
    assert found({**kl, **unet}, scale=0.25) == 0.25
    assert found({**kl, **unet, "scale_factor": torch.tensor(0.5)}, scale=0.25) == 0.5


class Callback:
    """An object of a class that a checkpoint may name; building it would be seen."""

    def __init__(self):
        self.state = {"best": 1.0}

    def __reduce__(self):
        return (RAN.append, ("built",), {"best": 1.0})


RAN: list[str] = []


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "before torch 1.6"])
def test_of_a_pickle_tensors_are_kept_and_nothing_is_run(tmp_path, as_zip):
    path = tmp_path / "model.ckpt"
    weight = torch.arange(6.0).view(2, 3)
    content = {"state_dict": {"a": weight, "b": torch.nn.Parameter(weight.half())}, "callbacks": [Callback()]}
    torch.save(content, path, _use_new_zipfile_serialization=as_zip)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    found = read_tensors(path)
    assert not RAN
    assert found.keys() == {"a", "b"}
    assert torch.equal(found["a"], weight)
    assert found["b"].dtype == torch.float16


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"not a file of torch", b"\x80\x02}q\x00."),
        b"\x80\x02K\x01)R.",  # calls a number
        b"\x80\x02K\x01K\x02b.",  # gives a number a state
        b"\x80\x02a.",  # takes from an empty stack
    ],
)
def test_what_is_no_file_of_tensors_is_said(tmp_path, content):
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.ckpt cannot be read"):
        read_tensors(path)
