"""A run from its configuration to its results: complete, resumable bit for bit, reproducible, failing in the open."""

import importlib
import json
import math
import signal

import pytest
import torch
from safetensors.torch import load_file

import hldm
import hldm.metrics as metrics_module
from hldm.commands import evaluate
from hldm.errors import Stopped, UserError
from hldm.images import to_unit
from hldm.model import LatentDiffusion
from hldm.pipeline import evaluate_run, run
from hldm.pipeline.build import build_dataset, load_model
from hldm.run import stop
from hldm.training import batch_indices
from hldm.training.stages import DiffusionStage, FirstStage
from tests.pipeline.conftest import curve, prepare, weights

IN_EVERY_RUN = {
    "fid", "fid_unlabelled", "precision", "recall", "density", "coverage", "coverage_unlabelled", "floor_precision",
    "reconstruction_psnr", "reconstruction_ssim",
    "inception_score", "kid", "label_accuracy", "floor_fid", "floor_kid", "reconstruction_fid",
    "reconstruction_fid_drawn", "floor_label_accuracy", "fid_bootstrap_sd", "kid_bootstrap_sd",
    "inception_score_bootstrap_sd", "label_accuracy_bootstrap_sd",
    "reconstruction_mse", "elbo", "elbo_reconstruction", "elbo_kl",
    "delta_rel", "delta_rel_gaussian", "delta_rel_shuffled", "saturation", "sqrt_c_rms",
    "sqrt_c_rms_drawn",
}  # fmt: skip


@pytest.mark.parametrize("geometry", ["euclidean", "poincare", "hybrid"])
def test_a_run_leaves_everything_it_should(finished, geometry):
    directory = finished[geometry]
    assert directory.state == "finished"
    results = directory.results
    assert results["metrics"].keys() >= IN_EVERY_RUN
    assert all(math.isfinite(value) for value in results["metrics"].values())
    provenance = results["provenance"]
    assert provenance["samples"] == 60
    assert provenance["threads"] == 1
    extractor, other = provenance["extractors"]
    assert (extractor["name"], other["name"]) == ("digits", "unlabelled")
    assert len(extractor["sha256"]) == len(other["sha256"]) == 64
    assert other["accuracy"] is None
    assert extractor["accuracy"] > 0.989
    pictures = ("samples.png", "reconstructions.png", "latents.png", "latents.pdf", "latents.json")
    for name in (*pictures, "config.yaml", "checkpoints/model.safetensors"):
        assert (directory.path / name).stat().st_size > 100, name
    latents = json.loads((directory.path / "latents.json").read_text(encoding="utf-8"))
    assert latents["kind"] == "components"  # a map is no disk
    assert latents["class_names"] == [str(digit) for digit in range(10)]
    assert (latents["sqrt_c_rms"] is None) == (geometry == "euclidean")
    assert sorted(p.name for p in (directory.path / "checkpoints").iterdir()) == ["model.safetensors"]
    steps = [(record["stage"], record["step"]) for record in curve(directory)]
    assert steps == [(stage, k) for stage in ("diffusion", "first_stage") for k in range(1, 7)]


def test_a_first_stage_that_loses_nothing_scores_the_floor(finished, monkeypatch):
    directory = finished["poincare"]
    dataset = build_dataset(directory.config)
    model = load_model(directory.config, dataset, directory.path, torch.device("cpu"))
    module = importlib.import_module("hldm.pipeline.samples")
    real = []

    def draw_like(wanted, labels, seed):
        real.append(dataset.train.read(chosen := metrics_module.draw_like(wanted, labels, seed)))
        return chosen

    monkeypatch.setattr(module, "draw_like", draw_like)
    monkeypatch.setattr(module, "decoded", lambda model, v, batch_size: real[0])
    metrics = evaluate_run(model, dataset, directory.config, directory)["metrics"]
    assert metrics["reconstruction_fid"] == pytest.approx(metrics["floor_fid"], rel=1e-9)
    assert metrics["reconstruction_fid_drawn"] == metrics["reconstruction_fid"]


def test_one_rule_for_samples_floor_and_reconstructions(finished, monkeypatch):
    """All show classes as often as the test images, and label accuracy stands beside that of these images."""
    directory = finished["poincare"]
    dataset = build_dataset(directory.config)
    model = load_model(directory.config, dataset, directory.path, torch.device("cpu"))
    module, asked, real = importlib.import_module("hldm.pipeline.samples"), [], []
    sample, encode = module.sample_images, module.encode
    monkeypatch.setattr(
        module, "sample_images", lambda m, labels, **how: asked.append(labels) or sample(m, labels, **how)
    )
    monkeypatch.setattr(module, "encode", lambda m, images, **how: real.append(images) or encode(m, images, **how))
    results = evaluate_run(model, dataset, directory.config, directory)
    counts = metrics_module.class_counts(dataset.test.labels, 60)
    assert counts.tolist() == [6, 7, 5, 8, 5, 6, 5, 7, 5, 6]
    [labels], [images] = asked, real
    assert torch.equal(labels.bincount(), counts)
    found = [dataset.train.labels[(dataset.train.images == image).flatten(1).all(1)][0] for image in images]
    assert torch.equal(torch.stack(found).bincount(), counts)
    assert results["metrics"]["floor_label_accuracy"] > 0.98
    assert "floor_label_accuracy" not in results["per_sampling_seed"]["0"]
    assert "as often as in the reference" in results["provenance"]["rule"]


def test_the_reach_of_curvature_is_also_that_of_what_diffusion_sees(finished):
    """`sqrt_c_rms_drawn` is √c times the scale that diffusion divides by, which training images gave."""
    for geometry, factors in (("poincare", 1), ("euclidean", 0)):
        directory = finished[geometry]
        scale = float(load_file(directory.path / "checkpoints" / "model.safetensors")["latent_scale"])
        metrics = directory.results["metrics"]
        assert metrics["sqrt_c_rms_drawn"] == pytest.approx(
            factors * directory.config.curvature.value**0.5 * scale, rel=0.05
        )
        assert metrics["sqrt_c_rms"] <= metrics["sqrt_c_rms_drawn"]


def test_the_latent_scale_is_measured_on_the_first_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("hldm.pipeline.train"), "SCALE_IMAGES", 20)  # two batches of 16
    seen = []
    monkeypatch.setattr(LatentDiffusion, "fit_latents", lambda self, v, *_: seen.append((self.autoencoder, v)))
    directory = prepare(tmp_path, "autoencoder=vq")  # whose latents are drawn without noise
    run(directory.path)
    [(autoencoder, v)] = seen
    images = build_dataset(directory.config).train
    batches = [batch_indices(directory.config.seed, DiffusionStage.name, k, 16, len(images)) for k in (0, 1)]
    with torch.no_grad():
        expected = autoencoder.encode(to_unit(images.read(torch.cat(batches).sort().values))).loc
    torch.testing.assert_close(v, expected)


def test_geometries_are_compared_fairly(finished):
    provenances = [directory.results["provenance"] for directory in finished.values()]
    assert len({p["data_order"] for p in provenances}) == 1
    for part in ("autoencoder", "denoiser"):
        counts = [p["parameters"][part] for p in provenances]
        assert max(counts) <= 1.01 * min(counts)
    assert len({weights(directory) for directory in finished.values()}) == 3


def test_a_finished_run_is_not_trained_again_and_gives_the_same_results(finished):
    directory = finished["poincare"]
    results, before = directory.results, weights(directory)
    assert evaluate.differing(results, run(directory.path)) == []
    assert directory.results == results
    assert weights(directory) == before


@pytest.mark.parametrize(
    ("stage", "step"), [(FirstStage, 0), (FirstStage, 3), (DiffusionStage, 0), (DiffusionStage, 4), (DiffusionStage, 5)]
)
def test_a_stopped_run_resumes_bit_for_bit(finished, tmp_path, monkeypatch, stage, step):
    directory, loss = prepare(tmp_path, "geometry=poincare"), stage.loss

    def stopped(self, k):
        if k == step:
            raise KeyboardInterrupt
        return loss(self, k)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "loss", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(directory.path)
    assert directory.state == "broken off"
    run(directory.path)
    assert directory.state == "finished"
    assert weights(directory) == weights(finished["poincare"])
    assert curve(directory) == curve(finished["poincare"])
    assert evaluate.differing(finished["poincare"].results, directory.results) == []


@pytest.mark.parametrize(
    ("place", "step"),
    [("FirstStage.loss", 2), ("DiffusionStage.loss", 0), ("DiffusionStage.loss", 4), ("samples.draw", 0)],
)
def test_a_run_that_is_asked_to_stop_goes_on_bit_for_bit(finished, tmp_path, monkeypatch, place, step):
    """In both stages, and in the evaluation, which is done again from its beginning."""
    directory = prepare(tmp_path, "geometry=poincare")
    owner, name = place.split(".")
    owner = importlib.import_module("hldm.pipeline.samples") if owner == "samples" else globals()[owner]
    before, calls = getattr(owner, name), []

    def asked(*arguments, **options):
        calls.append(arguments)
        if len(calls) == step + 1:
            signal.raise_signal(signal.SIGTERM)
        return before(*arguments, **options)

    with monkeypatch.context() as patch, stop.listening():
        patch.setattr(owner, name, asked)
        patch.setattr("hldm.pipeline.log.PROGRESS_SECONDS", 0)
        with pytest.raises(Stopped):
            run(directory.path)
    assert len(calls) == step + 1
    assert directory.state == "stopped"
    if isinstance(owner, type):
        progress = directory.status["progress"]
        assert (progress["stage"], progress["step"], progress["steps"]) == (owner.name, step + 1, 6)
    run(directory.path)
    assert directory.state == "finished"
    assert weights(directory) == weights(finished["poincare"])
    assert curve(directory) == curve(finished["poincare"])
    assert evaluate.differing(finished["poincare"].results, directory.results) == []


def test_runs_that_share_a_first_stage_train_it_once(finished, outputs, monkeypatch):
    monkeypatch.setattr(FirstStage, "loss", lambda self, step: pytest.fail("trained again"))
    directory = prepare(outputs, "geometry=hybrid", "diffusion=ddpm", "diffusion.sampler.steps=3")
    run(directory.path)
    curves = [[r for r in curve(d) if r["stage"] == "first_stage"] for d in (directory, finished["hybrid"])]
    assert curves[0] == curves[1]


def test_a_learned_curvature_is_saved_and_loaded(tmp_path):
    directory = prepare(tmp_path, "geometry=hybrid", "curvature=learnable")
    metrics = run(directory.path)["metrics"]
    assert metrics["curvature_0"] == 0
    assert metrics["curvature_1"] not in (0, 1)


def test_one_learned_curvature_is_shared_by_latents_and_embeddings(tmp_path, monkeypatch):
    """The first stage learns it, then embeddings are placed on its balls, and they hold still."""
    settings = ["geometry=poincare", "curvature=learnable", "conditioning.hyperbolic=true"]
    directory = prepare(tmp_path, *settings, "training.first_stage.learning_rate=0.1")
    metrics = run(directory.path)["metrics"]
    c = metrics["curvature_0"]
    assert c != 1
    model = load_model(directory.config, build_dataset(directory.config), directory.path, torch.device("cpu"))
    [table] = [m for m in model.denoiser.modules() if type(m).__name__ == "HyperbolicEmbedding"]
    assert table.manifold.curvature is model.autoencoder.manifold.curvature
    assert float(table.manifold.curvature()) == pytest.approx(c)
    assert evaluate.main([f"run={directory.path}"]) == 0


@pytest.mark.parametrize(
    "changed", ["metrics.samples=70", "conditioning.guidance_scale=1", "diffusion.sampler.steps=3"]
)
def test_what_training_does_not_read_trains_nothing_again(finished, outputs, monkeypatch, changed):
    for stage in (FirstStage, DiffusionStage):
        monkeypatch.setattr(stage, "loss", lambda self, step: pytest.fail("trained again"))
    directory = prepare(outputs, "geometry=poincare", changed)
    assert directory.path != finished["poincare"].path
    run(directory.path)
    assert weights(directory) == weights(finished["poincare"])
    assert curve(directory) == curve(finished["poincare"])
    is_seen = "guidance" not in changed  # after six steps labels hardly steer
    assert (directory.results["metrics"] != finished["poincare"].results["metrics"]) or not is_seen


def test_results_say_which_code_made_them(finished):
    provenance = finished["poincare"].results["provenance"]
    assert len(provenance["data"]) == 64
    assert provenance["hldm"] == hldm.__version__
    assert provenance["dirty"] in (None, True, False)
    assert provenance["commit"] is None or len(provenance["commit"]) == 40


def test_a_diverging_run_is_shown_as_failed(tmp_path):
    directory = prepare(tmp_path, "training.first_stage.learning_rate=1e30", "training.optimizer.weight_decay=0")
    with pytest.raises(UserError, match=r"first_stage: the loss is.*training\.first_stage\.learning_rate="):
        run(directory.path)
    assert directory.state == "failed"
    assert "first_stage" in directory.status["error"]
    assert directory.results is None


def test_evaluation_reproduces_the_results_bit_for_bit(finished, monkeypatch, capsys):
    argv = [f"run={finished['euclidean'].path.parent}"]
    assert evaluate.main(argv) == 0
    assert capsys.readouterr().out.count("every metric is the recorded one, bit for bit") >= 3


def test_evaluation_notices_a_number_that_is_not_the_recorded_one(finished, monkeypatch, capsys):
    directory = finished["hybrid"]
    true = directory.results
    try:
        directory.write_results({**true, "metrics": {**true["metrics"], "fid": true["metrics"]["fid"] + 1e-9}})
        argv = [f"run={directory.path}"]
        assert evaluate.main(argv) == 1
        assert "fid: recorded" in capsys.readouterr().out
    finally:
        directory.write_results(true)


def test_more_sampling_seeds_are_added(tmp_path, monkeypatch, capsys):
    directory = prepare(tmp_path)
    first = run(directory.path)
    argv = [f"run={directory.path}", "seeds=0,1,2"]
    assert evaluate.main(argv) == 0
    results = directory.results
    assert results["provenance"]["sampling_seeds"] == [0, 1, 2]
    assert results["per_sampling_seed"]["0"] == first["per_sampling_seed"]["0"]
    fids = [results["per_sampling_seed"][seed]["fid"] for seed in "012"]
    assert len(set(fids)) == 3
    assert results["metrics"]["fid"] == pytest.approx(sum(fids) / 3)
    assert results["metrics"]["fid_seed_sd"] > 0
    argv = [f"run={directory.path}"]
    assert evaluate.main(argv) == 0


@pytest.mark.parametrize("damage", ["half", "gone", "another run's"])
def test_a_damaged_checkpoint_is_named(finished, tmp_path, monkeypatch, damage):
    directory = prepare(tmp_path, "denoiser.block_channels=[16,32]" if damage == "another run's" else "seed=0")
    source, target = finished["euclidean"].path, directory.path
    (target / "checkpoints").mkdir()
    (target / "results.json").write_text((source / "results.json").read_text())
    content = weights(finished["euclidean"])
    if damage != "gone":
        kept = content[: len(content) // 2] if damage == "half" else content
        (target / "checkpoints" / "model.safetensors").write_bytes(kept)
    argv = [f"run={target}"]
    with pytest.raises(UserError, match=r"model\.safetensors"):
        evaluate.main(argv)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=nowhere"], "no runs"),
        (["run={outputs}/first_stages"], "no runs"),
        ([], "run=… is missing"),
        (["run=x", "seed=1"], "Did you mean seeds="),
        (["run=x", "seeds=one"], "whole number"),
    ],
)
def test_wrong_arguments_of_evaluate(finished, outputs, monkeypatch, arguments, message):
    argv = [*(a.format(outputs=outputs) for a in arguments)]
    with pytest.raises(UserError, match=message):
        evaluate.main(argv)


def test_results_hold_nothing_of_the_clock(finished):
    text = json.dumps(finished["poincare"].results)
    assert "minutes" not in text
    assert "seconds" not in text
