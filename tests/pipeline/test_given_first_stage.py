"""`first_stage=…`: runs on an autoencoder that is trained already, ours or a published one."""

import shutil

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from hldm.autoencoder import PublishedAutoencoder
from hldm.commands import evaluate
from hldm.config.autoencoder import Published
from hldm.config.compose import compose
from hldm.config.options import Options
from hldm.errors import UserError
from hldm.geometry import Euclidean
from hldm.pipeline import run
from hldm.pipeline.build import build_model
from hldm.pipeline.first_stage import load_first_stage
from hldm.run.directory import RunDirectory
from hldm.run.identity import run_identity
from hldm.run.requirements import refuse
from hldm.training import encode
from hldm.training.stages import DiffusionStage, FirstStage
from tests.fake_data import noise_digits
from tests.pipeline.conftest import TINY, curve, prepare, weights
from tests.published import ARCHITECTURE

ANOTHER = ["denoiser.block_channels=[16,32]", "seed=4"]


def own(directory):
    """The tensors of a run's autoencoder, and its latent scale."""
    tensors = load_file(directory.path / "checkpoints" / "model.safetensors")
    return {name: x for name, x in tensors.items() if name.startswith(("autoencoder.", "latent_scale"))}


@pytest.fixture
def untrained(monkeypatch):
    monkeypatch.setattr(FirstStage, "loss", lambda self, step: pytest.fail("the first stage was trained"))


@pytest.mark.parametrize("geometry", ["euclidean", "hybrid"])
def test_a_run_takes_the_autoencoder_of_another(finished, tmp_path, untrained, geometry, monkeypatch):
    source = finished[geometry]
    directory = prepare(tmp_path, f"geometry={geometry}", f"first_stage={source.path}", *ANOTHER)
    run(directory.path)
    ours, theirs = own(directory), own(source)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert {record["stage"] for record in curve(directory)} == {"diffusion"}
    assert directory.results["metrics"]["reconstruction_mse"] == source.results["metrics"]["reconstruction_mse"]
    argv = [f"run={directory.path}"]
    assert evaluate.main(argv) == 0


def test_a_learned_curvature_is_carried_through(tmp_path):
    choice = ["geometry=poincare", "curvature=learnable", "metrics.samples=20"]
    source = prepare(tmp_path / "source", *choice)
    learned = run(source.path)["metrics"]["curvature_0"]
    directory = prepare(tmp_path, *choice, f"first_stage={source.path}", *ANOTHER)
    assert run(directory.path)["metrics"]["curvature_0"] == learned != 1


def test_it_counts_by_its_content(finished, tmp_path):
    """Not by where it lies; and how a first stage would have been trained does not count."""
    source = finished["euclidean"].path
    copied = shutil.copytree(source, tmp_path / "elsewhere")

    def name(first_stage, *overrides):
        return run_identity(compose([*TINY, f"first_stage={first_stage}", *overrides])).name

    assert name(source) == name(copied) == name(source, "training.first_stage.steps=99")
    assert name(source) != run_identity(compose(TINY)).name
    other = {**finished["euclidean"].results, "provenance": {"weights": "others"}}
    type(finished["euclidean"])(copied).write_results(other)
    assert name(source) != name(copied)


def test_a_stopped_run_resumes_bit_for_bit(finished, tmp_path, monkeypatch, untrained):
    choice = ("geometry=hybrid", f"first_stage={finished['hybrid'].path}", *ANOTHER)
    straight, directory, loss = prepare(tmp_path / "a", *choice), prepare(tmp_path / "b", *choice), DiffusionStage.loss
    run(straight.path)

    def stopped(self, k):
        if k == 4:
            raise KeyboardInterrupt
        return loss(self, k)

    with monkeypatch.context() as patch:
        patch.setattr(DiffusionStage, "loss", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(directory.path)
    run(directory.path)
    assert weights(directory) == weights(straight)
    assert evaluate.differing(straight.results, directory.results) == []


def test_what_does_not_fit_is_said_with_what_to_type(finished, tmp_path):
    def message(source, *overrides):
        with pytest.raises(UserError) as error:
            refuse([compose([*TINY, f"first_stage={source}", *overrides])], Options())
        return str(error.value)

    curved, flat = finished["hybrid"].path, finished["euclidean"].path
    assert "Type geometry=hybrid with it" in message(curved)
    assert "Type geometry=hybrid curvature=1.0 with it" in message(curved, "curvature=0.3")
    assert "Type curvature=1.0 with it" in message(curved, "geometry=hybrid", "curvature=0.3")
    assert "geometry=euclidean with it" in message(flat, "geometry=poincare")
    assert "Type autoencoder.latent_channels=4 with it" in message(flat, "autoencoder.latent_channels=6")
    balls = message(finished["poincare"].path, "geometry=poincare", "geometry.manifold.balls=4")
    assert "Type geometry.manifold.balls=2 with it" in balls
    assert "autoencoder=kl autoencoder.block_channels=[8,16] with it" in message(flat, "autoencoder=vq")
    assert "neither a run nor a published" in message(tmp_path)
    assert "published" in message("nowhere")
    broken = shutil.copytree(flat, tmp_path / "broken")
    (broken / "results.json").unlink()
    assert "not finished (broken off)" in message(broken)


def published(folder, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = getattr(diffusers, changes.get("_class_name", "AutoencoderKL")).from_config({**ARCHITECTURE, **changes})
    model.save_pretrained(folder)
    return folder, model


@pytest.mark.parametrize("kind", ["AutoencoderKL", "VQModel"])
def test_a_published_autoencoder_is_used_as_it_is(tmp_path, untrained, kind, monkeypatch):
    sizes = {"num_vq_embeddings": 16, "latent_channels": 3} if kind == "VQModel" else {}
    folder, model = published(tmp_path / "published", _class_name=kind, **sizes)
    directory = prepare(tmp_path, "autoencoder=published", f"first_stage={folder}")
    metrics = run(directory.path)["metrics"]
    assert directory.config.autoencoder.latent_channels == sizes.get("latent_channels", 4)
    ours = own(directory)
    theirs = model.state_dict()
    assert all(torch.equal(ours[f"autoencoder.model.{name}"], theirs[name]) for name in theirs)
    assert ours["latent_scale"] != 1
    assert 0 < metrics["reconstruction_mse"] < 1
    assert "elbo" not in metrics
    shutil.rmtree(folder)  # a finished run needs it no more
    argv = [f"run={directory.path}"]
    assert evaluate.main(argv) == 0


def test_a_run_on_a_published_autoencoder_is_a_first_stage_itself(tmp_path, untrained):
    folder, _ = published(tmp_path / "published")
    first = prepare(tmp_path, "autoencoder=published", f"first_stage={folder}")
    run(first.path)
    second = prepare(tmp_path, "autoencoder=published", f"first_stage={first.path}", "seed=2")
    run(second.path)
    assert all(torch.equal(x, own(first)[name]) for name, x in own(second).items())


def test_grey_images_go_through_three_channels(tmp_path):
    folder, model = published(tmp_path)
    settings = Published(architecture=dict(model.config))
    ours = PublishedAutoencoder(settings, manifold=Euclidean(4), decoder_stem="linear", image_shape=(1, 28, 28)).eval()
    ours.load(folder)
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2)).expand(-1, 3, -1, -1)
    with torch.no_grad():
        expected = model.eval().encode(2 * padded - 1).latent_dist
        mean, std = ours.encode(images)
        decoded = ours.to_images(mean)
        theirs = (model.decode(expected.mean).sample.mean(1, keepdim=True) + 1) / 2
    torch.testing.assert_close(mean, expected.mean)
    torch.testing.assert_close(std, expected.std)
    torch.testing.assert_close(decoded, theirs[..., 2:-2, 2:-2].clamp(0, 1))


def test_what_has_no_safetensors_is_said_with_its_name(tmp_path):
    folder, _ = published(tmp_path / "published")
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match=rf"hldm convert source={folder} out="):
        refuse([compose(["autoencoder=published", f"first_stage={folder}", "tracking=none"])], Options())


def test_damaged_weights_are_named(tmp_path):
    folder, _ = published(tmp_path / "published")
    file = folder / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="published cannot be used"):
        run(prepare(tmp_path, "autoencoder=published", f"first_stage={folder}").path)


def test_a_denoiser_is_trained_on_published_latents_on_a_ball(tmp_path):
    folder, model = published(tmp_path / "pipeline" / "vae", scaling_factor=0.5)
    words = ["autoencoder=published", f"first_stage={tmp_path / 'pipeline'}", "geometry=poincare", "curvature=0.5"]
    config = compose([*(part for part in TINY if "autoencoder." not in part), *words])
    assert config.first_stage == str(folder)
    ours = build_model(config, noise_digits(20))
    load_first_stage(folder, ours)
    theirs = model.state_dict()
    assert all(torch.equal(x, theirs[name]) for name, x in ours.autoencoder.model.state_dict().items())
    encoded = encode(ours, noise_digits(20).train)
    ours.fit_latents(encoded.loc)
    stage = DiffusionStage(ours, encoded, torch.zeros(20, dtype=torch.int64), seed=0, batch_size=8)
    stage.loss(0)["loss"].backward()
    gradients = [p.grad for p in ours.denoiser.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.norm() > 0 for gradient in gradients)
    assert not ours.diffusion_manifold().is_flat


def test_a_published_denoiser_is_judged_as_it_is(tmp_path, untrained, monkeypatch):
    """training.diffusion.steps=0 trains nothing, here with latents that are lifted to a ball."""
    folder, _ = published(tmp_path / "vae")
    torch.manual_seed(6)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
    )
    unet.save_pretrained(tmp_path / "unet")
    words = [setting for setting in TINY if not setting.startswith(("denoiser.", "autoencoder."))]
    words += ["autoencoder=published", f"first_stage={folder}", "denoiser=published", f"denoiser.folder={tmp_path}"]
    words += ["conditioning=none", "diffusion=ldm", "diffusion.sampler.steps=2", "training.diffusion.steps=0"]
    words += ["metrics.samples=20", "metrics.sampling_batch_size=20", "geometry=poincare", "curvature=0.5"]
    config = compose([*words, f"paths.outputs={tmp_path / 'outputs'}"])
    refuse([config], Options())
    assert config.denoiser.folder == str(tmp_path / "unet")
    directory = RunDirectory.create(tmp_path / "outputs" / "main" / run_identity(config).name, config)
    run(directory.path)
    tensors = load_file(directory.path / "checkpoints" / "model.safetensors")
    assert all(torch.equal(tensors[f"denoiser.unet.{name}"], x) for name, x in unet.state_dict().items())
    assert tensors["latent_scale"] == 1
    named = run_identity(config).name
    moved = shutil.copytree(tmp_path / "unet", tmp_path / "elsewhere")
    section = config.denoiser.model_copy(update={"folder": str(moved)})
    assert run_identity(config.model_copy(update={"denoiser": section})).name == named
    (moved / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match="hldm convert"):
        refuse([config.model_copy(update={"denoiser": section})], Options())
