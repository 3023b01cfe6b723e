"""Guidance is a curve: chosen on validation images with common noise, reported on test images."""

import dataclasses
import importlib
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from hldm.commands import evaluate
from hldm.config.compose import compose
from hldm.data import InMemorySplit, Split
from hldm.data.idx import mnist
from hldm.pipeline import run
from hldm.pipeline.build import build_dataset, build_model, load_model
from hldm.pipeline.curves import Setting, draw_curves, drawn_with
from hldm.pipeline.log import RunLog
from hldm.pipeline.samples import build_extractors, sample_images
from hldm.run.directory import RunDirectory
from hldm.run.identity import run_identity, training_identity
from hldm.tracking import NoTracker
from hldm.training import stream
from tests.fake_data import noise_digits
from tests.pipeline.conftest import TINY, prepare, weights

SCALES = [1.0, 2.0, 3.0]
CURVE = ["metrics.guidance_scales=[1,2,3]", "metrics.validation_samples=20", "conditioning.guidance_scale=3"]


@pytest.fixture(scope="module")
def drawn(outputs):
    """One finished run with a curve."""
    directory = prepare(outputs, "geometry=poincare", *CURVE, "metrics.sampling_seeds=[0,1]")
    run(directory.path)
    return directory


def test_the_best_is_the_least_fid_of_the_recorded_curve(drawn):
    curve = drawn.results["curves"]["guidance"]
    assert [point["value"] for point in curve["points"]] == SCALES
    assert (curve["split"], curve["samples"], curve["images"]) == ("validation", 20, 5000)
    fids = [point["fid"] for point in curve["points"]]
    assert curve["best"] == SCALES[fids.index(min(fids))]
    assert drawn.results["metrics"]["best_guidance"] == curve["best"]
    assert all({"fid", "kid", "label_accuracy", "inception_score"} <= point.keys() for point in curve["points"])


def test_test_images_judge_without_guidance_at_the_best_and_at_the_default(drawn):
    results = drawn.results
    metrics, best = results["metrics"], results["curves"]["guidance"]["best"]
    place = {1.0: "_unguided", 3.0: ""}.get(best)
    for name in ("fid", "kid", "label_accuracy", "inception_score"):
        values = {end: metrics[f"{name}{end}"] for end in ("", "_unguided", "_best")}
        assert all(map(math.isfinite, values.values()))
        if place is not None:
            assert values["_best"] == values[place]
    assert metrics["fid"] != metrics["fid_unguided"]
    for end in ("_bootstrap_sd", "_seed_sd"):
        assert {f"fid{end}", f"fid_unguided{end}", f"fid_best{end}"} <= metrics.keys()
    assert not [name for name in metrics if name.count("_sd") > 1]


def test_scales_that_places_share_are_drawn_once(outputs, monkeypatch):
    """Three points of the curve, then without guidance, as the run has it and each extractor's best."""
    samples, seen = importlib.import_module("hldm.pipeline.samples"), []
    draw = samples.sample_images

    def counted(model: Any, labels: Tensor, **how: Any) -> Tensor:
        seen.append((how["noise"], model.conditioning.guidance_scale))
        return draw(model, labels, **how)

    monkeypatch.setattr(samples, "sample_images", counted)
    directory = prepare(outputs, "geometry=poincare", *CURVE, "metrics.samples=50")
    curve = run(directory.path)["curves"]["guidance"]
    bests = {value for name, value in curve.items() if name.startswith("best")}
    assert seen[:3] == [("validation", scale) for scale in SCALES]
    assert sorted(seen[3:]) == [("sampling", scale) for scale in sorted({1.0, 3.0} | bests)]


def test_evaluation_recomputes_the_curve(drawn, capsys):
    assert evaluate.main([f"run={drawn.path}"]) == 0
    assert "bit for bit" in capsys.readouterr().out
    true = drawn.results
    try:
        wrong = {**true, "curves": {"guidance": {**true["curves"]["guidance"], "best": 7.0}}}
        wrong["curves"]["guidance"]["points"] = [
            {**point, "kid": 0.5} for point in wrong["curves"]["guidance"]["points"]
        ]
        drawn.write_results(wrong)
        assert evaluate.main([f"run={drawn.path}"]) == 1
        out = capsys.readouterr().out
        assert "guidance/best: recorded 7.0" in out
        assert "guidance/points/1/kid: recorded 0.5" in out
    finally:
        drawn.write_results(true)


def test_the_parts_of_an_evaluation_say_what_they_cost(drawn):
    seconds = drawn.status["evaluation_seconds"]
    assert {"curves", "samples", "floor", "first stage"} <= seconds.keys()
    assert sum(seconds.values()) <= drawn.status["seconds"]["evaluation"] + 1


class Counted(Split):
    """A split that counts the images that are read of it."""

    def __init__(self, split: Split) -> None:
        self.split, self.labels, self.read_images = split, split.labels, 0

    def read(self, indices: Tensor) -> Tensor:
        self.read_images += len(indices)
        return self.split.read(indices)


def test_nothing_reads_test_or_training_images_for_the_choice():
    config = compose([*TINY, *CURVE])
    noise = noise_digits(60)
    train, test = Counted(noise.train), Counted(noise.test)
    validation = InMemorySplit(255 - noise.train.images, noise.train.labels)
    dataset = dataclasses.replace(noise, train=train, validation=validation, test=test)
    model = build_model(config, dataset).eval()
    extractors = build_extractors(config.metrics, torch.device("cpu"))

    def sample(setting: Setting, labels: Tensor) -> Tensor:
        with drawn_with(setting, model, config):
            return sample_images(model, labels, seed=0, batch_size=20)

    curves = draw_curves(sample, dataset, config, extractors, None)
    assert len(curves["guidance"]["points"]) == 3
    assert (train.read_images, test.read_images) == (0, 0)
    # without validation images there is nothing to choose on
    empty = InMemorySplit(noise.train.images[:0], noise.train.labels[:0])
    assert draw_curves(sample, dataclasses.replace(dataset, validation=empty), config, extractors, None) == {}


def test_validation_images_are_never_trained_on_and_are_no_test_images():
    """The same ones for every geometry and seed."""
    fingerprints = set()
    for overrides in ([], ["geometry=euclidean"], ["seed=3"], ["latent=global"]):
        dataset = mnist(compose(overrides).dataset)
        fingerprints.add(dataset.fingerprint)
        assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [55_000, 5_000, 10_000]
    assert len(fingerprints) == 1
    seen = {image.numpy().tobytes() for split in (dataset.train, dataset.test) for image in split.first()}
    assert not [1 for image in dataset.validation.first() if image.numpy().tobytes() in seen]


def test_all_scales_start_from_the_same_noise(drawn, monkeypatch):
    config, dataset = drawn.config, build_dataset(drawn.config)
    model = load_model(config, dataset, drawn.path, torch.device("cpu"))
    seen = []
    monkeypatch.setattr(
        type(model.sampler), "sample",
        lambda self, process, manifold, predict, shape, generator: seen.append(torch.randn(shape, generator=generator))
        or torch.zeros(shape),
    )  # fmt: skip
    evaluation = importlib.import_module("hldm.pipeline.evaluate")
    evaluation.evaluate_run(model, dataset, config, drawn)
    first, second, third, *reported = seen[:4]
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    # what is reported is drawn from other noise than what was chosen on
    assert not torch.equal(first, reported[0][: len(first)])


def test_a_setting_holds_while_its_block_lasts(drawn):
    config, dataset = drawn.config, build_dataset(drawn.config)
    model = load_model(config, dataset, drawn.path, torch.device("cpu"))
    labels = torch.arange(4)

    def latents() -> Tensor:
        return model.sample_latents(labels, stream(0, "sampling", 0))

    sampler, usual = model.sampler, latents()
    for setting in (Setting(guidance=0.0), Setting(steps=1), Setting(method="rk4")):
        with drawn_with(setting, model, config):
            assert not torch.equal(latents(), usual)
        assert model.sampler is sampler
        assert torch.equal(latents(), usual)
    assert Setting.of(config, "guidance", 3.0) == Setting() == Setting.of(config, "method", "midpoint")
    assert Setting.of(config, "steps", 7) == Setting(steps=7)


def test_steps_and_methods_are_curves_too(outputs):
    settings = ["metrics.sampler_steps=[1,2]", "metrics.sampler_methods=[euler,midpoint]"]
    directory = prepare(outputs, "geometry=poincare", *settings, "metrics.validation_samples=20")
    results = run(directory.path)
    assert list(results["curves"]) == ["steps", "method"]
    assert [point["value"] for point in results["curves"]["method"]["points"]] == ["euler", "midpoint"]
    metrics = results["metrics"]
    assert metrics["best_steps"] == results["curves"]["steps"]["best"]
    assert "best_method" not in metrics  # it is no number
    assert {"fid_best_steps", "fid_best_method"} <= metrics.keys()
    assert "fid_unguided" not in metrics
    # the run's own setting, midpoint with two steps, is the same point on both
    assert results["curves"]["steps"]["points"][1]["fid"] == results["curves"]["method"]["points"][1]["fid"]


@pytest.mark.parametrize(
    "overrides",
    [["metrics.guidance_scales=[1.5]"], ["metrics.guidance_scales=[]"], ["conditioning=none"], ["diffusion=none"],
     ["conditioning.dropout=0", "conditioning.guidance_scale=1"], ["dataset.validation_images=0"]],
)  # fmt: skip
def test_a_run_without_use_for_a_curve_has_none(overrides):
    assert compose(overrides).curves == {}
    assert list(compose([]).curves) == ["guidance"]


def test_one_value_leaves_no_suffix(finished):
    results = finished["poincare"].results
    assert results["curves"] == {}
    assert not [name for name in results["metrics"] if name.endswith(("_best", "_unguided")) or "best_" in name]


def test_every_extractor_has_a_best_of_its_own(finished, monkeypatch):
    """Where two disagree, the metrics of each stand at the scale that it prefers."""
    directory = finished["poincare"]
    config, dataset = directory.config, build_dataset(directory.config)
    metrics = config.metrics.model_copy(update={"guidance_scales": (1.0, 1.5), "validation_samples": 20})
    config = config.model_copy(update={"metrics": metrics})
    model = load_model(config, dataset, directory.path, torch.device("cpu"))
    samples, curves = (importlib.import_module(f"hldm.pipeline.{name}") for name in ("samples", "curves"))
    extractor = build_extractors(metrics, torch.device("cpu"))[""]
    other = build_extractors(metrics, torch.device("cpu"))[""]
    monkeypatch.setattr(samples, "build_extractors", lambda *_: {"": extractor, "_other": other})

    def image_metrics(
        images: Tensor, labels: Any, reference: Tensor, judge: Any, *_: Any, **__: Any
    ) -> dict[str, float]:
        scale = model.conditioning.guidance_scale
        return {"fid": 1 / scale if judge is extractor else scale, "kid": scale}

    # samples know the scale that they were drawn at no more when they are judged, so each is judged while it is drawn
    monkeypatch.setattr(curves, "image_metrics", image_metrics)
    scored = []
    points = curves.draw_curves(
        lambda setting, labels: scored.append(setting) or torch.zeros(20, 1, 28, 28, dtype=torch.uint8),
        dataset, config, {"": extractor, "_other": other}, None,
    )  # fmt: skip
    assert scored == [Setting(guidance=1.0), Setting()]
    curve = {"best": 1.5, "best_other": 1.0}
    wanted = curves.places({"guidance": curve}, config, {"": extractor, "_other": other})
    assert wanted["_best"] == {"": Setting(), "_other": Setting(guidance=1.0)}
    assert wanted["_unguided"] == {"": Setting(guidance=1.0), "_other": Setting(guidance=1.0)}
    assert curves.best_values({"guidance": curve}) == {"best_guidance": 1.5, "best_guidance_other": 1.0}
    assert points["guidance"].keys() >= {"best", "best_other"}


def test_training_does_not_depend_on_what_is_measured(drawn, finished):
    assert training_identity(drawn.config) == training_identity(finished["poincare"].config)
    assert run_identity(drawn.config) != run_identity(finished["poincare"].config)
    assert weights(drawn) == weights(finished["poincare"])


def test_a_tracker_is_given_each_curve_as_a_stage_of_its_own(tmp_path):
    rows = []

    class Recording(NoTracker):
        def log(self, step, metrics, stage):
            rows.append((stage, step, dict(metrics)))

    guidance = {"points": [{"value": 1.0, "kid": 0.2}, {"value": 1.5, "kid": 0.1}], "best": 1.5}
    method = {"points": [{"value": "euler", "kid": 0.3}], "best": "euler"}
    RunLog(RunDirectory(tmp_path), Recording()).curves({"guidance": guidance, "method": method})
    assert rows == [
        ("guidance_curve", 1, {"value": 1.0, "kid": 0.2}),
        ("guidance_curve", 2, {"value": 1.5, "kid": 0.1}),
        ("method_curve", 1, {"kid": 0.3}),
    ]
    assert not (tmp_path / "metrics.jsonl").exists()  # it is the log of training
