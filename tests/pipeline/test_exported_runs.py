"""Exported folders: diffusers samples from them what we do, or three lines of Python load them without their data."""

import json

import diffusers
import numpy as np
import pytest
import torch

from hldm.commands import export as command
from hldm.config.compose import compose
from hldm.diffusion import DiffusionSampler, PublishedUNet
from hldm.errors import UserError
from hldm.interchange import load_component
from hldm.pipeline.build import build_model
from hldm.pipeline.export import export, for_others, text_model
from hldm.pipeline.pretrained import HLDM, _section, with_text_model
from hldm.run.directory import MODEL, RunDirectory
from hldm.training import save_weights
from tests.fake_data import in_memory

SIDE = 32
DATA = in_memory(torch.zeros(4, 3, SIDE, SIDE, dtype=torch.uint8), torch.arange(4), 4)
SMALL = [
    "tracking=none",
    "autoencoder=vq",
    "autoencoder.likelihood=l1",
    "autoencoder.latent_channels=3",
    "autoencoder.block_channels=[16,32]",
    "autoencoder.groups=16",
    "autoencoder.patch_size=1",
    "autoencoder.codebook_size=16",
    "denoiser.block_channels=[16,32]",
    "denoiser.head_channels=16",
    "diffusion=ddpm",
    "diffusion.sampler.steps=5",
    "conditioning=none",
    "dataset=folder",
    f"dataset.side={SIDE}",
]


def run_of(folder, *words):
    """A run that is not trained: its weights are drawn."""
    config = compose([*SMALL, f"paths.outputs={folder}", *words])
    directory = RunDirectory.create(folder / "run", config)
    torch.manual_seed(1)
    model = build_model(config, DATA).eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    if hasattr(model, "latent_scale"):
        model.latent_scale.fill_(0.7)
    save_weights(directory.path / MODEL, model)
    return directory, model


@pytest.mark.parametrize(
    "words",
    [
        ("diffusion.sampler.spacing=leading_1", "diffusion.process.prediction=epsilon"),
        (
            "denoiser.middle=attention",
            "denoiser.class_embedding=false",
            "denoiser.modulation=shift",
            "denoiser.attention_resolutions=[1,2]",
            "diffusion.sampler.spacing=trailing",
        ),
        ("diffusion.sampler.method=ddpm", "diffusion.sampler.spacing=leading"),
    ],
    ids=["one block in the middle and an embedding", "as published", "another scheduler"],
)
def test_diffusers_samples_what_we_do(tmp_path, words):
    directory, model = run_of(tmp_path, *words)
    said = export(directory, model, DATA, tmp_path / "out")
    assert said[0].startswith("A pipeline of diffusers")
    pipeline = diffusers.LDMPipeline.from_pretrained(tmp_path / "out", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    if "diffusion.sampler.method=ddpm" in words:  # whose noise the pipeline takes from no generator
        assert pipeline.scheduler.config.timestep_spacing == "leading"
        return
    theirs = pipeline(batch_size=2, generator=torch.Generator().manual_seed(3), num_inference_steps=5, output_type="np")
    v = model.sample_latents(torch.zeros(2, dtype=torch.int64), torch.Generator().manual_seed(3))
    ours = model.autoencoder.to_images(v).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(theirs.images, ours, atol=1e-4)
    assert np.ptp(ours) > 0.1
    assert "LDMPipeline.from_pretrained" in (tmp_path / "out" / "README.md").read_text()


def test_a_curved_run_becomes_a_folder_that_needs_no_data(tmp_path):
    directory, model = run_of(
        tmp_path / "home", "geometry=poincare", "curvature=0.5", "diffusion.sampler.spacing=leading"
    )
    said = export(directory, model, DATA, out := tmp_path / "out")
    assert any("geometry=poincare" in sentence for sentence in said)
    loaded = HLDM.from_pretrained(out)
    expected = HLDM(model, 4).sample(3, seed=5)
    assert torch.equal(loaded.sample(3, seed=5), expected)
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    assert loaded.decode(loaded.encode(images)).shape == images.shape
    card = (out / "README.md").read_text()
    assert "poincare, c = 0.5" in card
    assert "HLDM.from_pretrained" in card
    assert str(tmp_path) not in "".join(file.read_text() for file in out.glob("*.[yjm]*"))
    (out / "data.json").unlink()
    with pytest.raises(UserError, match=r"data\.json is missing"):
        HLDM.from_pretrained(out)


@pytest.mark.parametrize(
    ("words", "notes"),
    [
        (["process.prediction=epsilon", "sampler.spacing=leading_1", "sampler.eta=1"], False),
        (
            [
                "process.schedule=squaredcos_cap_v2",
                "process.zero_terminal_snr=true",
                "sampler.method=dpm_solver++",
                "sampler.spacing=linspace",
            ],
            True,
        ),
        (["sampler.spacing=trailing", "sampler.steps=3"], True),  # from 666 diffusers goes to 333, and we to 332
    ],
)
def test_an_exported_pipeline_is_sampled_as_the_run_was(tmp_path, words, notes):
    directory, model = run_of(tmp_path, *(f"diffusion.{word}" for word in words))
    said = export(directory, model, DATA, out := tmp_path / "out")
    assert torch.equal(HLDM.from_pretrained(out).sample(2, seed=5), HLDM(model).sample(2, seed=5))
    card = (out / "README.md").read_text()
    assert ("other steps" in " ".join(said)) == ("other steps" in card) == notes
    (out / "sampler.json").write_text("{}]")
    with pytest.raises(UserError, match=r"sampler\.json is damaged"):
        HLDM.from_pretrained(out)


def test_nothing_of_the_users_machine_is_in_a_folder(tmp_path, monkeypatch):
    slurm = [
        "hardware=slurm_gpu",
        "hardware.slurm.partition=secret-gpus",
        "tracking=wandb",
        "tracking.entity=secret-team",
    ]
    (home := tmp_path / "secret").mkdir()
    monkeypatch.chdir(home)
    directory, model = run_of(home, "geometry=poincare", "dataset.path=secret-pictures", *slurm)
    export(directory, model, DATA, out := tmp_path / "out")
    monkeypatch.chdir(out)
    content = (out / "config.yaml").read_text() + (out / "README.md").read_text()
    assert str(tmp_path) not in content
    assert "secret-gpus" not in content
    assert "secret-team" not in content
    assert HLDM.from_pretrained(out).sample(1).shape == (1, 3, SIDE, SIDE)


def test_where_weights_lay_is_in_no_model_of_a_pipeline(tmp_path):
    directory, model = run_of(tmp_path, "diffusion.sampler.spacing=trailing")
    tiny_unet(**BLOCKS).save_pretrained(tmp_path / "unet")
    unet = load_component(tmp_path / "unet")
    model.denoiser = PublishedUNet(_section(unet), layout=model.layout, classes=1)
    model.denoiser.unet = unet
    export(directory, model, DATA, tmp_path / "out")
    assert not [file for file in (tmp_path / "out").rglob("*.json") if str(tmp_path) in file.read_text()]


def test_a_text_model_that_is_not_in_the_folder_is_said(tmp_path):
    (words := tmp_path / "words").mkdir()
    config = compose([*SMALL, "conditioning=text_names", f"conditioning.pretrained={words}"])
    words.rmdir()
    assert text_model(config) == "words"
    assert str(tmp_path) not in str(for_others(config))
    with pytest.raises(UserError, match="reads text with"):
        with_text_model(config, tmp_path / "out")
    (mine := tmp_path / "out" / "words").mkdir(parents=True)
    assert with_text_model(config, tmp_path / "out").conditioning.pretrained == str(mine)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["diffusion=flow", "diffusion.process.pairing=independent"], "flow matching"),
        (["conditioning=class"], "classes or text"),
        (["autoencoder.likelihood=bernoulli"], "Bernoulli"),
        (["autoencoder.padded_side=40"], "pads pixels"),
        (["denoiser.attention=euclidean_distance"], "attention by distance"),
        (["geometry.decoder_stem=gyroplane"], "decoder_stem=gyroplane"),
    ],
)
def test_what_stands_between_a_run_and_diffusers_is_said(tmp_path, words, said):
    directory, model = run_of(tmp_path, *words)
    assert any(said in sentence for sentence in export(directory, model, DATA, tmp_path / "out"))


def test_the_command_exports_a_run(tmp_path, monkeypatch, capsys):
    directory, _ = run_of(tmp_path)
    monkeypatch.setattr("hldm.pipeline.build.build_dataset", lambda config: DATA)
    command.main([f"run={directory.path}", f"out={tmp_path / 'out'}"])
    assert "quadratic" in capsys.readouterr().out
    assert (tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    with pytest.raises(UserError, match="is there already"):
        command.main([f"run={directory.path}", f"out={tmp_path / 'out'}"])
    with pytest.raises(UserError, match="names no runs"):
        command.main([f"run={tmp_path / 'nothing'}", f"out={tmp_path / 'other'}"])


# ------------------------------------------------------------------------------------------------- models of diffusers


def tiny_unet(cls=diffusers.UNet2DModel, **settings):
    torch.manual_seed(2)
    return cls(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=16,
        **settings,
    ).eval()


BLOCKS = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 16,
}
CROSS_BLOCKS = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 24,
    "attention_head_dim": 2,
}


def tiny_pipeline(folder, kind="VQModel", **settings):
    torch.manual_seed(4)
    sizes = {"num_vq_embeddings": 16, "scaling_factor": 1.0} if kind == "VQModel" else {"scaling_factor": 0.5}
    first = getattr(diffusers, kind)(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 16),
        latent_channels=3,
        norm_num_groups=8,
        sample_size=16,
        **sizes,
    ).eval()
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        **{"steps_offset": 1, "set_alpha_to_one": False, **settings},
    )
    pipeline = diffusers.LDMPipeline(vqvae=first, unet=tiny_unet(**BLOCKS), scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    return pipeline


@pytest.mark.parametrize("kind", ["VQModel", "AutoencoderKL"])
def test_a_pipeline_of_diffusers_is_one_of_our_models(tmp_path, kind):
    theirs = tiny_pipeline(tmp_path, kind)
    ours = HLDM.from_pretrained(tmp_path)
    assert ours.model.sampler.timesteps[-1] == 1
    ours.model.sampler = DiffusionSampler(steps=4, spacing="leading_1")
    generator = torch.Generator().manual_seed(3)
    images = theirs(batch_size=2, generator=generator, num_inference_steps=4, output_type="np").images
    v = ours.model.sample_latents(torch.zeros(2, dtype=torch.int64), torch.Generator().manual_seed(3))
    np.testing.assert_allclose(ours.model.autoencoder.to_images(v).permute(0, 2, 3, 1).numpy(), images, atol=1e-4)
    assert ours.sample(2).shape == (2, 3, 16, 16)


def test_a_default_scale_of_a_vq_model_is_taken_for_one(tmp_path):
    tiny_pipeline(tmp_path)
    file = tmp_path / "vqvae" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "scaling_factor": 0.18215}))
    assert HLDM.from_pretrained(tmp_path).model.latent_scale == 1


def test_another_noise_schedule_is_refused(tmp_path):
    tiny_pipeline(tmp_path)
    file = tmp_path / "scheduler" / "scheduler_config.json"
    usual = json.loads(file.read_text())
    for strange in ({"beta_schedule": "linear"}, {"num_train_timesteps": 500}, {"rescale_betas_zero_snr": True}):
        file.write_text(json.dumps(usual | strange))
        with pytest.raises(UserError, match="noise schedule"):
            HLDM.from_pretrained(tmp_path)
    file.write_text(json.dumps(usual | {"beta_start": 0.00085, "beta_end": 0.012}))
    assert HLDM.from_pretrained(tmp_path).model.process.scheduler.betas[0] == pytest.approx(0.00085)


@pytest.mark.parametrize(
    ("cls", "blocks"), [(diffusers.UNet2DModel, BLOCKS), (diffusers.UNet2DConditionModel, CROSS_BLOCKS)]
)
@torch.no_grad()
def test_a_published_denoiser_is_the_one_of_diffusers(tmp_path, cls, blocks):
    from hldm.config.diffusion import PublishedUNet as Section
    from hldm.geometry import Euclidean
    from hldm.layout import LatentLayout
    from hldm.nn import Condition

    theirs = tiny_unet(cls, **blocks)
    theirs.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    text = content.get("cross_attention_dim")
    ours = PublishedUNet(
        Section(folder=str(tmp_path), architecture=content),
        layout=LatentLayout.of_map(Euclidean(3), (8, 8)),
        classes=10,
        context_channels=text,
    ).eval()
    ours.start()
    # all steps of the schedule that float32 does not have exactly are among these
    steps = torch.tensor([step for step in range(1000) if torch.tensor(step / 1000) * 1000 != step][:4])
    x, hidden = torch.randn(4, 3, 8, 8), None if text is None else torch.randn(4, 5, text)
    expected = theirs(x, steps).sample if text is None else theirs(x, steps, hidden).sample
    out = ours(x, steps / 1000, Condition(hidden=hidden))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


def test_every_tensor_of_a_folder_has_its_place(tmp_path):
    from safetensors.torch import load_file, save_file

    tiny_unet(**BLOCKS).save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "extra.weight": torch.zeros(1)}, file)
    with pytest.raises(UserError, match=r"are unknown: extra\.weight"):
        load_component(tmp_path)
    del tensors["conv_in.weight"]
    save_file(tensors, file)
    with pytest.raises(UserError, match=r"are missing: conv_in\.weight"):
        load_component(tmp_path)
