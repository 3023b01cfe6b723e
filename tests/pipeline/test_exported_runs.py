"""Exported folders: diffusers samples from them what we do, or three lines of Python load them without their data."""

import json
import shutil

import diffusers
import numpy as np
import pytest
import torch

from hldm.commands import export as command
from hldm.config.compose import compose
from hldm.diffusion import DiffusionSampler, PublishedUNet
from hldm.errors import UserError
from hldm.interchange import build, load_component
from hldm.pipeline.build import build_model
from hldm.pipeline.export import export, for_others, text_model
from hldm.pipeline.exported import with_text_model
from hldm.pipeline.pretrained import HLDM, _section, of_diffusers
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


def test_who_receives_a_damaged_folder_is_told_to_copy_it_again(tmp_path):
    """The run that it was exported from is elsewhere: nothing says to train it."""
    directory, model = run_of(tmp_path / "home", "geometry=poincare")
    export(directory, model, DATA, out := tmp_path / "out")
    whole = {name: (out / name).read_bytes() for name in ("data.json", "model.safetensors", "config.yaml")}
    facts = json.loads(whole["data.json"])
    model.denoiser.get_parameter(name := next(name for name, _ in model.denoiser.named_parameters())).fill_(torch.nan)
    save_weights(tmp_path / "nan.safetensors", model)
    wrong = [
        {"image_shape": ["a", 1, 1]},
        {"image_shape": [-1, 1, 1]},
        {"image_shape": []},
        {"image_shape": [5]},
        {"class_names": 3},
    ]
    damages = [("data.json", json.dumps(facts | change).encode()) for change in wrong]
    damages += [("data.json", json.dumps({key: facts[key] for key in facts if key != "name"}).encode())]
    damages += [("data.json", b"[" * 100_000), ("data.json", b"[]"), ("data.json", None)]
    damages += [("config.yaml", b"{"), ("config.yaml", b""), ("config.yaml", b"a: 1"), ("model.safetensors", None)]
    damages += [("config.yaml", whole["config.yaml"].replace(b"groups: 16", b"groups: 7"))]
    damages += [("model.safetensors", whole["model.safetensors"][:-9])]
    damages += [("model.safetensors", (tmp_path / "nan.safetensors").read_bytes())]
    for file, content in damages:
        (out / file).unlink() if content is None else (out / file).write_bytes(content)
        with pytest.raises(UserError, match=r"export (it|the run) again") as error:
            HLDM.from_pretrained(out)
        assert file in str(error.value)
        assert not any(word in str(error.value) for word in ("train.py", "trained it", "started the run"))
        (out / file).write_bytes(whole[file])
    assert f"denoiser.{name} in" in str(error.value)
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
    theirs, ours = HLDM.from_pretrained(out).sample(2, seed=5), HLDM(model).sample(2, seed=5)
    # another graph, whose last bits are others: the embedding of the only class is in a bias
    assert (theirs.int() - ours.int()).abs().max() <= 1
    assert (theirs != ours).float().mean() < 1e-3
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
        (["denoiser.block_channels=[16,16,16,16,16,32]"], "not every level"),
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
    (directory.path / MODEL).write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        command.main([f"run={directory.path}", f"out={tmp_path / 'other'}"])
    assert not list(tmp_path.glob("*other*"))


# ------------------------------------------------------------------------------------------------- models of diffusers


def tiny_unet(cls=diffusers.UNet2DModel, **settings):
    torch.manual_seed(2)
    return cls(
        **{"in_channels": 3, **settings},
        sample_size=8,
        out_channels=3,
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=16,
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


UNET, FIRST, SCHEDULE = "unet/config.json", "vqvae/config.json", "scheduler/scheduler_config.json"
DAMAGED = [
    (SCHEDULE, None, "has no scheduler"),
    *((file, text, "cannot be read") for file in (UNET, FIRST, SCHEDULE) for text in ("", "{", "[" * 100_000)),
    *((file, "[]", "holds no settings") for file in (UNET, FIRST, SCHEDULE)),
    *((SCHEDULE, {key: "x"}, f"{key} must be") for key in ("beta_start", "trained_betas", "num_train_timesteps")),
    *((SCHEDULE, {key: "x"}, f"{key} must be") for key in ("timestep_spacing", "steps_offset", "clip_sample")),
    (SCHEDULE, {"beta_end": float("nan")}, "beta_end must be a number between 0 and 1"),
    (SCHEDULE, {"beta_schedule": "nope"}, "noise schedule .* nope"),
    *((UNET, {"sample_size": size}, "sample_size must be") for size in ("16", -4, [16, "a"], [])),
    *((UNET, {"sample_size": size}, "not the side of a square") for size in (None, [16, 8])),
    (UNET, {"sample_size": 9}, "cannot be halved"),
    *(
        (UNET, {"block_out_channels": value}, "block_out_channels must be a list")
        for value in (32, "ab", [], [True, 2])
    ),
    (UNET, {"block_out_channels": [10**9, 10**9]}, "weights or more, and the files of weights have"),
    (UNET, {"layers_per_block": 10**9}, "weights or more, and the files of weights have"),
    (FIRST, {"num_vq_embeddings": 10**12}, "weights or more, and the files of weights have"),
    (UNET, {"down_block_types": None}, "down_block_types must be a list"),
    (UNET, {"block_out_channels": [32]}, "must be of one length"),
    (UNET, {"down_block_types": ["Nope", "Nope"]}, "UNet2DModel .* Nope"),
    (UNET, {"_class_name": ["UNet2DModel"]}, "holds a"),
    (FIRST, {"block_out_channels": 5}, "block_out_channels must be a list"),
    (FIRST, {"latent_channels": "x"}, "latent_channels must be a whole number ≥ 1"),
    (FIRST, {"act_fn": 3}, "act_fn must be swish, silu"),
    (FIRST, {"act_fn": "zz"}, "act_fn must be swish, silu"),
    (FIRST, {"down_block_types": ["zz", "zz"]}, "VQModel .* zz"),
    (FIRST, {"scaling_factor": 0}, "scaling_factor must be a number > 0"),
]


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory):
    tiny_pipeline(folder := tmp_path_factory.mktemp("pipeline"))
    return folder


@pytest.mark.parametrize(("file", "change", "said"), DAMAGED)
def test_a_damaged_pipeline_is_said(tmp_path, pipeline_folder, file, change, said):
    path = shutil.copytree(pipeline_folder, tmp_path / "copy") / file
    if change is None:
        path.unlink()
    else:
        text = change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change)
        path.write_text(text)
    with pytest.raises(UserError, match=said):
        HLDM.from_pretrained(tmp_path / "copy")


@pytest.mark.parametrize("part", ["unet", "vqvae"])
def test_weights_that_are_not_finite_are_named(tmp_path, pipeline_folder, part):
    from safetensors.torch import load_file, save_file

    file = shutil.copytree(pipeline_folder, tmp_path / "copy") / part / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors[name := min(tensors)].view(-1)[0] = torch.inf
    save_file(tensors, file)
    with pytest.raises(UserError, match=f"{name} in .*{part} holds numbers that are not finite"):
        HLDM.from_pretrained(tmp_path / "copy")


def test_what_a_run_remembers_of_a_folder_is_built_or_said():
    architecture = {"_class_name": "VQModel", "down_block_types": ["zz"]}
    with pytest.raises(UserError, match=r"VQModel .* zz"):
        build(architecture)
    with pytest.raises(UserError, match="no model that is read"):
        build({"_class_name": "DDIMScheduler"})


def test_a_square_in_two_numbers_is_a_side(tmp_path, pipeline_folder):
    file = shutil.copytree(pipeline_folder, tmp_path / "copy") / UNET
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sample_size": [8, 8]}))
    assert HLDM.from_pretrained(tmp_path / "copy").model.layout.sides == (8, 8)


def test_a_pipeline_that_is_told_a_text_or_has_other_latents_is_refused(tmp_path):
    theirs = tiny_pipeline(tmp_path)
    for unet, said in (
        (tiny_unet(diffusers.UNet2DConditionModel, **CROSS_BLOCKS), "told a text"),
        (tiny_unet(**BLOCKS, num_class_embeds=3), "or a class"),
        (tiny_unet(**BLOCKS, in_channels=4), "takes 4 channels and predicts 3"),
    ):
        with pytest.raises(UserError, match=said):
            of_diffusers(unet, theirs.vqvae, theirs.scheduler)


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
