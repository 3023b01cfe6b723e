"""What a user can type, right and wrong. In this process, with a fake pipeline: each case takes under a second."""

import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hldm import cli, console
from hldm.study import execute, resources
from hldm.study.config import ROOT, groups
from hldm.study.run_directory import RunDirectory
from tests.published import described

FAKE = Path(__file__).with_name("fake_pipeline.py")

Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Invoke:
    """`invoke("seed=3")` → exit status, stdout, stderr, in a working directory of its own with outputs/ in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "")  # so that what a run sets is undone
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.setattr(execute, "WORKER", ("-P", str(FAKE)))
    monkeypatch.setitem(sys.modules, "hldm.pipeline", SimpleNamespace(run=runpy.run_path(str(FAKE))["run"]))
    monkeypatch.setattr(resources, "cores", lambda: 2)
    monkeypatch.setattr(resources, "visible_gpus", lambda: ())

    def call(*argv: str, outputs: str = "outputs") -> tuple[int, str, str]:
        where = [f"paths.outputs={outputs}"] if outputs else []
        status = console.run(lambda: cli.main([*argv, *where]))
        out, err = capfd.readouterr()
        return status, out, err

    return call


def runs() -> list[Path]:
    return sorted(path.parent for path in Path("outputs").glob("*/*/status.json"))


PUBLISHED = described(Path(tempfile.mkdtemp()))
GIVEN = ["autoencoder=published", f"first_stage={PUBLISHED}"]

WRONG: dict[str, tuple[list[str], list[str]]] = {
    "option": (["geometry=poincarre"], ["geometry=poincarre", "Did you mean geometry=poincare", "hybrid"]),
    "option of a dataset": (["dataset=cifar"], ["dataset=cifar", "mnist"]),
    "negative curvature": (["curvature=-1"], ["curvature=-1", "≥ 0", "geometry=euclidean"]),
    "nan": (["curvature=nan"], ["curvature=nan", "finite"]),
    "infinity": (["curvature=inf"], ["curvature=inf", "finite"]),
    "a word in curvature.value": (["curvature.value=much"], ["curvature=much", "≥ 0"]),
    "true as curvature": (["curvature=true"], ["curvature=true", "learnable"]),
    "mix without -m": (["curvature=0.1,learnable"], ["mixes", "curvature=0.1", "curvature=learnable", "-m"]),
    "mix with -m": (["-m", "curvature=0.1,learnable"], ["mixes"]),
    "mix in choice()": (["-m", "curvature=choice(fixed,2)"], ["mixes"]),
    "several curvatures without -m": (["curvature=0.1,1.0"], ["several values", "-m"]),
    "range without -m": (["curvature=range(0.1,1.0,0.3)"], ["several values", "-m"]),
    "several seeds without -m": (["seed=0,1"], ["several values", "-m"]),
    "interval": (["-m", "curvature=interval(0.1,1)"], ["range("]),
    "interval of another key": (["-m", "seed=interval(0,3)"], ["range("]),
    "learnable from 0": (["curvature=learnable", "curvature.value=0"], ["positive", "1e-2"]),
    "unknown key": (["seeed=3"], ["no setting seeed", "seed="]),
    "unknown inner key": (
        ["training.first_stage.stepz=3"],
        ["training.first_stage.stepz", "training.first_stage.steps"],
    ),
    "unknown key in a dict": (["training.first_stage={stepz:3}"], ["training.first_stage.stepz"]),
    "key of another option": (["geometry=poincare", "geometry.flat_channels=1"], ["geometry=hybrid only"]),
    "new key": (["+seeed=3"], ["nothing reads", "seed=3"]),
    "forced key": (["++training.foo=3"], ["nothing reads"]),
    "deleted group": (["~tracking"], ["delete", "tracking=none"]),
    "no key": (["hybrid"], ["'hybrid'", "key=value"]),
    "seed is a word": (["seed=abc"], ["seed=abc", "whole number"]),
    "seed is negative": (["seed=-1"], ["seed=-1", "whole number"]),
    "seed is a fraction": (["seed=1.5"], ["seed=1.5", "whole number"]),
    "seed is true": (["seed=true"], ["seed=true", "whole number"]),
    "seed is null": (["seed=null"], ["seed=null", "whole number"]),
    "seed is too large": (["seed=99999999999"], ["4294967295"]),
    "seed is a list": (["seed=[0,1]"], ["seed=[0,1]", "whole number"]),
    "no steps": (["training.diffusion.steps=0"], ["training.diffusion.steps=0", "≥ 1"]),
    "negative steps": (["training.first_stage.steps=-5"], ["≥ 1"]),
    "no sampler steps": (["diffusion.sampler.steps=0"], ["≥ 1"]),
    "learning rate nan": (["training.diffusion.learning_rate=nan"], ["number > 0"]),
    "section is a number": (["training.first_stage=5"], ["section"]),
    "group is a number": (["training=5"], ["training=5", "standard"]),
    "list where a word is": (["geometry.decoder_stem=[1]"], ["geometry.decoder_stem=[1]", "linear, gyroplane"]),
    "posterior": (["autoencoder.posterior=normal"], ["wrapped, riemannian"]),
    "sampling seeds": (["metrics.sampling_seeds=3"], ["[0,1]"]),
    "study that is a path": (["study=../x"], ["study=../x", "folder name"]),
    "width between groups": (["denoiser.block_channels=[64,70]"], ["70", "multiple of 16", "64"]),
    "heads that do not divide": (["denoiser.head_channels=48"], ["denoiser.head_channels=16"]),
    "stem": (["denoiser.stem=poincare"], ["denoiser.stem=poincare", "linear, gyroplane"]),
    "attention": (["denoiser.attention=hyperbolic"], ["dot_product, euclidean_distance, hyperbolic_distance"]),
    "curvature of the denoiser": (["denoiser.curvature=-1"], ["denoiser.curvature=-1", "≥ 0"]),
    "curvature of the denoiser by its option": (
        ["denoiser.curvature=learnable"],
        ["denoiser.curvature=learnable", "denoiser.learnable_curvature=true"],
    ),
    "a denoiser that learns its curvature from 0": (
        ["denoiser.stem=gyroplane", "denoiser.learnable_curvature=true", "denoiser.curvature=0"],
        ["cannot start at denoiser.curvature=0", "denoiser.curvature=1e-2", "denoiser.learnable_curvature=false"],
    ),
    "a learned curvature that is no switch": (["denoiser.learnable_curvature=0.5"], ["true or false"]),
    "heads without a ball": (
        ["denoiser.attention=hyperbolic_distance", "denoiser.head_channels=1"],
        ["denoiser.head_channels=1", "2 to 8", "denoiser.head_channels=16"],
    ),
    "cell of the ablation": (["+ablation=attenton"], ["ablation=attenton", "Did you mean ablation=attention"]),
    "a side that cannot be halved": (["autoencoder.padded_side=28"], ["multiple of 8", "autoencoder.padded_side=32"]),
    "hybrid without a ball": (["geometry=hybrid", "geometry.flat_channels=4"], ["from 1 to 3", "geometry=poincare"]),
    "hybrid without flat": (["geometry=hybrid", "geometry.flat_channels=0"], ["from 1 to 3", "geometry=euclidean"]),
    "hybrid with one channel": (["geometry=hybrid", "autoencoder.latent_channels=1"], ["at least 2 channels"]),
    "balls": (["geometry=poincare", "geometry.manifold.balls=3"], ["balls=3", "1, 2, 4"]),
    "channels": (["geometry=poincare", "geometry.manifold.channels=3"], ["latent_channels=4"]),
    "a U-Net on vectors": (["autoencoder=mlp"], ["diffusion=none", "autoencoder=kl", "denoiser=mlp"]),
    "layout": (["latent=point"], ["latent=point", "map", "global", "map_global"]),
    "codes of one point": (["latent=global", "autoencoder=vq"], ["a map of points", "denoiser=unet", "latent=map"]),
    "an MLP on a map": (["denoiser=mlp"], ["a map of points", "denoiser=unet", "latent=map"]),
    "a U-Net on a point": (["latent=global", "denoiser=unet"], ["one point per image", "denoiser=mlp"]),
    "attention of a point on a map": (
        ["denoiser=cross_attention"],
        ["a map of points", "denoiser=unet", "autoencoder=kl_global"],
    ),
    "heads of a point": (
        ["latent=global", "denoiser=cross_attention", "denoiser.heads=3"],
        ["denoiser.heads=3", "does not divide denoiser.width=256", "denoiser.width=255"],
    ),
    "no heads of a point": (["latent=global", "denoiser=cross_attention", "denoiser.heads=0"], ["heads=0", "≥ 1"]),
    "heads where nothing attends": (["latent=global", "denoiser.heads=2"], ["denoiser=cross_attention only"]),
    "a map where there is a point too": (
        ["latent=map_global", "autoencoder=kl"],
        ["beside one point", "kl_map_global"],
    ),
    "a point of too many dimensions": (
        ["latent=global", "autoencoder.latent_channels=17"],
        ["from 2 to 16", "map_global"],
    ),
    "a point of one dimension": (["latent=map_global", "autoencoder.global_channels=1"], ["from 2 to 16"]),
    "a point where there is none": (["autoencoder.global_channels=4"], ["autoencoder=kl_map_global only"]),
    "flat map of a hybrid": (
        ["latent=map_global", "geometry=hybrid", "autoencoder.flat_map=true"],
        ["geometry=poincare", "autoencoder.flat_map=false"],
    ),
    "flat map that is no switch": (["latent=map_global", "autoencoder.flat_map=1"], ["true or false"]),
    "a Riemannian posterior of both": (
        ["latent=map_global", "autoencoder.posterior=riemannian"],
        ["autoencoder.posterior=wrapped"],
    ),
    "features": (["latent=global", "autoencoder.feature_channels=0"], ["feature_channels=0", "≥ 1"]),
    "style": (["latent=global", "autoencoder.style_channels=0"], ["style_channels=0", "≥ 1"]),
    "width of the MLP": (["latent=global", "denoiser.width=0"], ["denoiser.width=0", "≥ 1"]),
    "blocks of the MLP": (["latent=map_global", "denoiser.blocks=0"], ["denoiser.blocks=0", "≥ 1"]),
    "vectors as pictures": (["dataset=branching"], ["autoencoder=mlp", "+experiment=pvae_tree"]),
    "mobius on maps": (["geometry.decoder_stem=mobius"], ["autoencoder=mlp", "gyroplane"]),
    "codebook": (["autoencoder=vq", "autoencoder.codebook=kmeans"], ["codebook=kmeans", "gradient, ema"]),
    "latents of no size": (["autoencoder=kl_scaled", "autoencoder.latent_rms=0"], ["latent_rms=0", "> 0"]),
    "one code": (["autoencoder=vq", "autoencoder.codebook_size=1"], ["codebook_size=1", "≥ 2"]),
    "commitment": (["autoencoder=vq", "autoencoder.commitment_weight=-1"], ["commitment_weight=-1", "≥ 0"]),
    "codebook weight": (["autoencoder=vq", "autoencoder.codebook_weight=nan"], ["codebook_weight=nan", "≥ 0"]),
    "decay of the codebook": (["autoencoder=vq", "autoencoder.ema_decay=1"], ["ema_decay=1", "< 1"]),
    "initial batches": (["autoencoder=vq", "autoencoder.initial_batches=-1"], ["initial_batches=-1", "≥ 0"]),
    "revival at once": (["autoencoder=vq", "autoencoder.revive_after=0"], ["revive_after=0", "≥ 1", "null"]),
    "a codebook of the other kind": (["autoencoder.codebook=ema"], ["autoencoder=vq only"]),
    "codes without a prior": (["autoencoder=vq", "diffusion=none"], ["diffusion=flow", "autoencoder=kl"]),
    "likelihood without a prior": (["autoencoder=vq", "metrics=likelihood"], ["metrics=digits", "autoencoder=kl"]),
    "diffusion without a second stage": (["training=pvae"], ["diffusion=none", "training=standard"]),
    "noise without variance": (["+experiment=pvae_tree", "dataset.noise_variance=0"], ["number > 0"]),
    "solver": (["diffusion.sampler.method=rk45"], ["method=rk45", "rk4", "adaptive"]),
    "solver of another process": (["diffusion.sampler.method=ddim"], ["midpoint, euler, heun, rk4, adaptive"]),
    "sampler of another process": (
        ["diffusion=ddpm", "diffusion.sampler.method=rk4"],
        ["ddim, ddpm, dpm_solver++, unipc, euler"],
    ),
    "pairing": (["diffusion.process.pairing=sinkhorn"], ["independent, optimal_transport"]),
    "tolerance": (["diffusion.sampler.method=adaptive", "diffusion.sampler.tolerance=0"], ["number > 0"]),
    "prediction": (["diffusion=ddpm", "diffusion.process.prediction=noise"], ["v, epsilon, x0"]),
    "min-SNR": (["diffusion=ddpm", "diffusion.process.min_snr_gamma=-1"], ["> 0", "null"]),
    "terminal SNR": (["diffusion=ddpm", "diffusion.process.zero_terminal_snr=1"], ["true or false"]),
    "noise of DDIM": (["diffusion=ddpm", "diffusion.sampler.eta=2"], ["from 0 to 1"]),
    "noise of a sampler that has none": (
        ["diffusion=ddpm", "diffusion.sampler.method=unipc", "diffusion.sampler.eta=0.5"],
        ["method=ddim", "diffusion.sampler.eta=0"],
    ),
    "noise prediction of pure noise": (
        ["diffusion=ddpm", "diffusion.process.prediction=epsilon", "diffusion.process.zero_terminal_snr=true"],
        ["zero_terminal_snr=true", "diffusion.process.prediction=v"],
    ),
    "noise prediction on the cosine schedule": (
        ["diffusion=ddpm", "diffusion.process.prediction=epsilon", "diffusion.process.schedule=squaredcos_cap_v2"],
        ["diffusion.sampler.method=ddpm", "diffusion.process.prediction=v"],
    ),
    "steps that DDIM cannot take": (["diffusion=ddpm", "diffusion.sampler.steps=400"], ["800 of 1000", "250 or 500"]),
    "a negative number of images": (["metrics.likelihood_images=-1"], ["likelihood_images=-1", "≥ 0"]),
    "no steps of the likelihood": (["metrics.likelihood_steps=0"], ["likelihood_steps=0", "≥ 1"]),
    "a bound without posteriors": (
        ["autoencoder=vq", "metrics.likelihood_images=10"],
        ["metrics.likelihood_images=0", "autoencoder=kl"],
    ),
    "a bound without diffusion": (["diffusion=none", "metrics.likelihood_images=10"], ["metrics=likelihood"]),
    "a bound from pure noise": (
        [
            "diffusion=ddpm",
            "diffusion.process.prediction=epsilon",
            "diffusion.process.schedule=squaredcos_cap_v2",
            "diffusion.sampler.method=ddpm",
            "metrics.likelihood_images=10",
        ],
        ["likelihood_images=10", "diffusion.process.prediction=v"],
    ),
    "more sampler steps than there are": (["diffusion=ddpm", "diffusion.sampler.steps=2000"], ["1000"]),
    "text templates": (["conditioning=text", "conditioning.templates=[a digit]"], ["{} once", "a handwritten {}"]),
    "no templates": (["conditioning=text", "conditioning.templates=[]"], ["conditioning.templates=[]", "a list"]),
    "a held-out caption of training": (
        ["conditioning=text", "conditioning.held_out='the digit {}'"],
        ["conditioning.held_out=the digit {}", "caption of training"],
    ),
    "a held-out caption of new words": (
        ["conditioning=text", "conditioning.held_out='a scribbled {}'"],
        ["scribbled", "never sees", "handwritten"],
    ),
    "a held-out caption that is too long": (
        ["conditioning=text", "conditioning.held_out='a picture of a handwritten digit of the {}'"],
        ["longer", "7 words"],
    ),
    "heads of the text model": (["conditioning=text", "conditioning.heads=3"], ["does not divide", "channels=63"]),
    "layers of the text model": (["conditioning=text", "conditioning.layers=0"], ["whole number ≥ 1"]),
    "channels of the text model": (["conditioning=text", "conditioning.channels=x"], ["whole number ≥ 1"]),
    "pretrained text model": (["conditioning=text", "conditioning.pretrained=./nowhere"], ["./nowhere", "null"]),
    "pretrained as a number": (["conditioning=text", "conditioning.pretrained=3"], ["name on the hub"]),
    "hyperbolic conditioning": (["conditioning.hyperbolic=2"], ["conditioning.hyperbolic=2", "true or false"]),
    "hyperbolic conditioning of a learned curvature": (
        ["geometry=poincare", "curvature=learnable", "conditioning.hyperbolic=true"],
        ["curvature=1.0", "conditioning.hyperbolic=false"],
    ),
    "channels that make no balls": (
        ["conditioning=text", "conditioning.hyperbolic=true", "conditioning.channels=61", "conditioning.heads=1"],
        ["channels=61", "conditioning.channels=64"],
    ),
    "text settings without text": (["conditioning.heads=2"], ["conditioning=text only"]),
    "perceptual weight": (["training.first_stage.perceptual_weight=-1"], ["perceptual_weight=-1", "≥ 0"]),
    "perceptual features": (["training.first_stage.perceptual_features=vgg"], ["one of digits, lpips"]),
    "a perceptual backbone that is not there": (
        [
            "training.first_stage.perceptual_weight=1",
            "training.first_stage.perceptual_features=lpips",
            "training.first_stage.perceptual_backbone=./nowhere.pth",
        ],
        ["nowhere.pth is not a file", "https://download.pytorch.org/models/vgg16-397923af.pth", "=<that file>"],
    ),
    "a perceptual backbone that is a number": (["training.first_stage.perceptual_backbone=3"], ["a file, or null"]),
    "adversarial weight": (["training.first_stage.adversarial_weight=x"], ["adversarial_weight=x", "≥ 0"]),
    "adversarial start": (["training.first_stage.adversarial_start=-1"], ["adversarial_start=-1", "≥ 0"]),
    "an adversary of vectors": (
        ["autoencoder=mlp", "diffusion=none", "training.first_stage.adversarial_weight=0.5"],
        ["autoencoder=kl or vq", "Type training.first_stage.adversarial_weight=0"],
    ),
    "no first stage": (["first_stage=nowhere"], ["nowhere is neither a run nor", "outputs/<study>/<run id>"]),
    "a first stage that is a number": (["first_stage=3"], ["first_stage=3", "null to train one"]),
    "published, but where": (["autoencoder=published"], ["first_stage=<folder"]),
    "a published folder by itself": ([f"first_stage={PUBLISHED}"], ["Type autoencoder=published"]),
    "published on a ball": ([*GIVEN, "geometry=poincare"], ["flat space", "Type geometry=euclidean"]),
    "published without diffusion": ([*GIVEN, "diffusion=none"], ["Type diffusion=flow"]),
    "published without likelihood": ([*GIVEN, "metrics.likelihood_images=5"], ["Type metrics.likelihood_images=0"]),
    "marginal likelihood of images without one": ([*GIVEN, "metrics=likelihood"], ["Type metrics.likelihood=null"]),
    "a side that published levels cannot halve": (
        [*GIVEN, "autoencoder.padded_side=36"],
        ["autoencoder.padded_side=36", "multiple of 8", "autoencoder.padded_side=40"],
    ),
    "another class of diffusers": (
        ["autoencoder=published", f"first_stage={described(PUBLISHED / 'unet', _class_name='UNet2DModel')}"],
        ["UNet2DModel", "AutoencoderKL or VQModel"],
    ),
    "no GPU": (["hardware=gpu"], ["GPU", "hardware=cpu"]),
    "compile": (["hardware.compile=always"], ["true or false"]),
    "device": (["hardware.device=tpu"], ["auto, cpu, cuda"]),
    "more threads than cores": (["hardware.slots=2", "hardware.threads=2"], ["2 cores", "hardware.threads=1"]),
    "two kinds of hardware": (["-m", "hardware=cpu,auto"], ["hardware", "one value"]),
    "sweep over folders": (["-m", "study=a,b"], ["cannot change a result"]),
    "missing file": (["dataset.folder=nowhere"], ["nowhere", "does not exist"]),
    "weights that are not bundled": (["metrics=inception"], ["metrics.weights=<that file>", "metrics=digits"]),
    "missing weights": (["metrics=inception", "metrics.weights=nowhere"], ["nowhere is not a file"]),
    "grid and --cfg": (["-m", "--cfg", "job"], ["--cfg", "-m"]),
    "--cfg and grid": (["--cfg=job", "--multirun"], ["--cfg", "-m"]),
    "one bad value in a grid": (["-m", "geometry=poincare", "curvature=1.0,-1"], ["curvature=-1"]),
    "one bad seed in a grid": (["-m", "seed=1,x"], ["seed=x"]),
    "bad option in a grid": (["-m", "geometry=euclidean,flat"], ["geometry=flat", "euclidean"]),
    "unknown key in a grid": (["-m", "seed=1,2", "foo.bar=3"], ["no setting foo.bar"]),
    "interpolation": (["seed=${nope}"], ["nope"]),
    "missing value": (["seed=???"], ["seed"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_one_paragraph_before_any_work(case: str, invoke: Invoke) -> None:
    argv, expected = WRONG[case]
    status, out, err = invoke(*argv)
    text = " ".join(err.split())
    assert status == 2
    assert "Traceback" not in err
    assert "\n\n" not in err
    assert max(map(len, err.splitlines())) <= 100
    for part in expected:
        assert part in text
    assert out == ""
    assert not runs()


@pytest.mark.parametrize("multirun", [[], ["-m"]])
def test_an_outputs_folder_that_cannot_be_written(multirun: list[str], invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = invoke(*multirun, outputs="file/outputs")
    err = " ".join(err.split())
    assert status == 2
    assert "cannot be written" in err
    assert "paths.outputs=" in err
    assert "Traceback" not in err


def test_one_run_is_made_once(invoke: Invoke) -> None:
    argv = ["geometry=hybrid", "curvature=learnable", "dataset=mnist", "hardware=cpu", "seed=3"]
    status, out, err = invoke(*argv)
    assert (status, err) == (0, "")
    [run] = runs()
    assert run.parts[:2] == ("outputs", "main")
    assert run.name.startswith("hybrid-learnable-s3-")
    assert "learned 0.83" in out
    assert "96.7%" in out
    assert str(run / "samples.png") in out
    assert (run / "environment").read_text() == "2 PASSIVE"
    assert RunDirectory(run).config["hardware"] == {"device": "cpu", "threads": 2, "slots": "auto", "compile": False}

    status, out, _ = invoke(*argv)
    assert status == 0
    assert "finished already" in out
    assert "96.7%" in out
    assert (run / "starts").read_text() == "x"


def test_any_number_is_a_curvature(invoke: Invoke) -> None:
    assert invoke("geometry=poincare", "curvature=0.37")[0] == 0
    [run] = runs()
    assert run.name.startswith("poincare-c0.37-s0-")
    assert RunDirectory(run).config["curvature"]["value"] == 0.37


def test_a_grid_with_an_alias(invoke: Invoke) -> None:
    argv = ("-m", "geometry=poincare,euclidean", "curvature=0.1,1.0")
    status, out, err = invoke(*argv)
    assert (status, err) == (0, "")
    assert [run.name.rpartition("-")[0] for run in runs()] == ["euclidean-s0", "poincare-c0.1-s0", "poincare-c1-s0"]
    assert "same run as 3" in out
    assert "euclidean (= 3)" in out
    assert "3 runs to do" in out
    assert "mnist test images (10000)" in out
    assert "digits (abcdef01)" in out
    assert "0.5" in out
    assert str(Path("outputs/main/comparison.png").absolute()) in out.replace("\n", "")
    assert max(map(len, out.splitlines())) <= 100 or str(Path.cwd()) in out
    assert "a line from poincare-c0.1" in out  # with one slot a run shows its progress

    status, out, _ = invoke(*argv)
    assert status == 0
    assert "to do" not in out
    assert all((run / "starts").read_text() == "x" for run in runs())


def test_a_range_includes_its_end(invoke: Invoke) -> None:
    status, out, _ = invoke("-m", "geometry=poincare", "curvature=range(0.1,1.0,0.3)", "hardware.slots=2")
    assert status == 0
    assert [run.name.split("-")[1] for run in runs()] == ["c0.1", "c0.4", "c0.7", "c1"]
    assert "2 at a time" in out
    assert "a line from" not in out
    assert all("a line from" in (run / "log.txt").read_text() for run in runs())
    assert all((run / "environment").read_text() == "1 PASSIVE" for run in runs())


@pytest.mark.parametrize(("wrong", "story"), [("kill euclidean", "SIGKILL"), ("fail euclidean", "no luck")])
def test_a_run_that_fails_leaves_the_others_alone(
    wrong: str, story: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ("-m", "geometry=euclidean,poincare")
    monkeypatch.setenv("FAKE", wrong)
    status, out, err = invoke(*argv)
    assert status != 0
    assert story in " ".join(err.split())
    assert "1 of 2 runs" in err
    assert "failed" in out
    assert "96.7%" in out
    assert [RunDirectory(run).status["state"] for run in runs()] == ["failed", "finished"]

    monkeypatch.delenv("FAKE")
    status, out, err = invoke(*argv)
    assert (status, err) == (0, "")
    assert "failed before" in out
    assert [(run / "starts").read_text() for run in runs()] == ["xx", "x"]


def test_a_named_sweep_needs_no_flag(invoke: Invoke) -> None:
    status, out, err = invoke("+sweep=geometry_curvature", "geometry=euclidean", "seed=0,1", "tracking=none")
    assert (status, err) == (0, "")
    assert [run.parts[1] for run in runs()] == ["geometry_curvature"] * 2
    assert "2 runs to do" in out


def test_the_ablation_is_a_list_of_cells_with_seeds(invoke: Invoke) -> None:
    """Controls that are another cell bit for bit are not run twice, and every cell has its name in the table."""
    status, out, err = invoke("+sweep=ablation", "seed=0", "tracking=none")
    assert (status, err) == (0, "")
    assert "11 runs to do" in out
    assert {run.parts[1] for run in runs()} == {"ablation"}
    assert len(runs()) == 11
    rows = [line.split() for line in out[out.index("label acc") :].splitlines()]
    cells = [word for row in rows for word in row if word in groups()["ablation"]]
    assert sorted(cells) == sorted(groups()["ablation"])
    assert out.count("same run as") == 2
    assert "same run as 1" in out
    assert "same run as 7" in out
    status, out, _ = invoke("-m", "+ablation=attention,all", "seed=0,1", "tracking=none")
    assert status == 0
    assert "4 runs to do" in out


def test_settings_other_than_geometry_and_curvature_are_shown(invoke: Invoke) -> None:
    status, out, _ = invoke("-m", "metrics.samples=100,200", "tracking=none")
    assert status == 0
    assert "samples=100" in out  # in the plan
    assert "samples" in out[out.index("label acc") - 60 :]  # in the comparison
    assert len(runs()) == 2
    assert max(map(len, out.splitlines()[-8:-1])) <= 100


def test_a_run_that_another_process_works_on(invoke: Invoke) -> None:
    invoke("seed=5")
    [run] = runs()
    (run / "results.json").unlink()
    with RunDirectory(run).lock():
        RunDirectory(run).update_status(state="running", pid=12345, host="elsewhere")
        status, out, err = invoke("seed=5")
        assert status == 2
        assert "process 12345 on elsewhere" in err
        status, out, err = invoke("-m", "seed=5,6")
        assert status == 2
        assert "process 12345 on elsewhere" in out
        assert "running" in err
    assert RunDirectory(run).state == "broken off"
    assert invoke("seed=5")[0] == 0


def test_a_damaged_status_is_said(invoke: Invoke) -> None:
    invoke("seed=5")
    [run] = runs()
    (run / "status.json").write_text('{"state": "fin')
    status, _, err = invoke("seed=5")
    assert status == 2
    assert "status.json" in err
    assert "Delete it" in err


def test_the_estimate_rests_on_what_was_measured(invoke: Invoke) -> None:
    _, out, _ = invoke("seed=1")
    assert "nominal" in out
    _, out, _ = invoke("seed=2")
    assert "1 finished run here" in " ".join(out.split())
    assert "about 4 minutes" in out


def test_cfg_job(invoke: Invoke) -> None:
    status, out, err = invoke("geometry=hybrid", "curvature=0.37", "--cfg", "job", "--resolve")
    assert (status, err) == (0, "")
    assert "value: 0.37" in out
    assert "flat_channels: 2" in out
    assert not runs()


def test_help_names_groups_options_and_examples(invoke: Invoke) -> None:
    for flag in ("--help", "-h"):
        status, out, err = invoke(flag, outputs="")
        assert (status, err) == (0, "")
        for part in ("geometry=hybrid", "curvature=learnable", "+experiment=smoke", "hardware=gpu", "curvature=0.37"):
            assert part in out
        assert out.count("\n  python train.py") == 3
        assert max(map(len, out.splitlines())) <= 100


def command(*argv: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *argv]


@pytest.mark.parametrize("argv", [["--help"], ["--cfg", "job"]])
def test_quick_answers_are_quick_from_anywhere(argv: list[str], tmp_path: Path) -> None:
    def seconds() -> float:
        start = time.perf_counter()
        done = subprocess.run(command(*argv), cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "geometry" in done.stdout
        assert done.stderr == ""
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) <= 1.5
    assert list(tmp_path.iterdir()) == []


def test_the_script_ends_with_the_status(tmp_path: Path) -> None:
    done = subprocess.run(command("geometry=poincarre"), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Did you mean" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_torch_in_the_process_that_starts_runs(tmp_path: Path) -> None:
    code = (
        "import sys; from hldm import cli, console; import hldm.study.execute as e; e.WORKER = ('-P', sys.argv.pop(1));"
        "status = console.run(cli.main); sys.exit(status or ('torch' in sys.modules))"
    )
    argv = [sys.executable, "-c", code, str(FAKE), "-m", "seed=0", f"paths.outputs={tmp_path}"]
    subprocess.run(argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_grid_stops_its_runs_and_goes_on_later(number: signal.Signals, tmp_path: Path) -> None:
    # a shell that starts the tests in the background has them ignore Ctrl-C, and children inherit that
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from hldm import cli, console; import hldm.study.execute as e; e.WORKER = ('-P', sys.argv.pop(1));"
        "sys.exit(console.run(cli.main))"
    )
    argv = [sys.executable, "-c", code, str(FAKE), "-m", "seed=0,1", f"paths.outputs={tmp_path}"]
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT), "FAKE": "slow"}
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while not (started := list(tmp_path.glob("*/*/environment"))) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert started
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    run = RunDirectory(started[0].parent)
    assert process.returncode == 130
    assert "goes on from here" in err
    assert "1 of" not in err
    assert run.state == "broken off"
    assert run.holder() is None
    assert not Path(f"/proc/{json.loads((run.path / 'status.json').read_text())['pid']}").exists()

    done = subprocess.run(argv, env={**environment, "FAKE": ""}, capture_output=True, text=True)
    assert done.returncode == 0
    assert "resume" in done.stdout
