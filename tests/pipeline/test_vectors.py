"""Runs with one latent vector per image and no diffusion: the Poincaré VAE on digits, and on the tree."""

import json
import math

import numpy as np
import pytest
import torch

from hldm.commands import evaluate, generate
from hldm.config.compose import compose
from hldm.console import terminal
from hldm.errors import UserError
from hldm.pipeline import run
from hldm.pipeline.build import build_dataset
from hldm.run.directory import RunDirectory
from hldm.run.identity import run_identity
from hldm.study.compare import print_comparison
from hldm.study.plan import make_plan
from hldm.tracking import JsonLines

SMALL = [
    "tracking=none",
    "hardware=cpu",
    "hardware.threads=1",
    "autoencoder.hidden=8",
    "training.first_stage.steps=6",
    "training.checkpoint_every=2",
    "training.log_every=1",
    "metrics.first_stage_images=100",
    "metrics.hierarchy.points=40",
    "metrics.hierarchy.draws=3",
    "metrics.hierarchy.test_points=20",
    "metrics.likelihood.images=8",
    "metrics.likelihood.importance_samples=50",
    "metrics.likelihood.checked_images=4",
    "metrics.likelihood.spacing=0.5",
]
DIGITS = [*SMALL, "experiment=pvae_mnist", "metrics.samples=60", "metrics.sampling_batch_size=40"]
TREE = [*SMALL, "experiment=pvae_tree"]


def finish(outputs, *overrides):
    config = compose([*overrides, f"paths.outputs={outputs}"])
    directory = RunDirectory.create(outputs / config.study / run_identity(config).name, config)
    run(directory.path)
    return directory


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("tree"), *TREE, "geometry=poincare")


def test_compiled_training_is_training(tmp_path, monkeypatch):
    """In one graph each, for both families; `backend=eager` stands in for the compiler, which takes half a minute."""
    real, graphs = torch.compile, []
    unjudged = ("metrics.extractors=[]", "metrics.likelihood=null", "metrics.hierarchy.draws=0")

    def compile_without_compiler(function, **options):
        graphs.append(function.__name__)
        return real(function, backend="eager", fullgraph=True)

    monkeypatch.setattr("torch.compile", compile_without_compiler)
    for distribution in ("wrapped", "riemannian"):
        curves = []
        for compiled in ("false", "true"):
            arguments = [
                *DIGITS,
                *unjudged,
                "geometry=poincare",
                f"distribution={distribution}",
                f"hardware.compile={compiled}",
            ]
            directory = finish(tmp_path / compiled, *arguments)
            records = JsonLines(directory.path / "metrics.jsonl").records()
            curves.append([record["loss"] for record in records if "loss" in record])
        assert len(curves[0]) == 6
        assert curves[0] == pytest.approx(curves[1], rel=1e-5)
    assert sorted(graphs) == ["_call_impl", "_call_impl", "_integrals", "_quantile_and_integrals"]


def reevaluated(directory, monkeypatch, *arguments):
    argv = [f"run={directory.path}", *arguments]
    return evaluate.main(argv)


@pytest.mark.parametrize(("latent_dim", "distribution"), [(2, "wrapped"), (3, "riemannian")])
def test_the_poincare_vae_on_digits(tmp_path, monkeypatch, latent_dim, distribution):
    directory = finish(
        tmp_path, *DIGITS, "geometry=poincare", f"latent_dim={latent_dim}", f"distribution={distribution}"
    )
    metrics = directory.results["metrics"]
    assert metrics.keys() >= {"fid", "floor_fid", "elbo", "delta_rel", "radius_entropy_spearman", "nll", "nll_error"}
    assert ("nll_importance" in metrics) == (latent_dim == 2)
    assert "label_accuracy" not in metrics  # nothing asked for a label
    assert all(math.isfinite(value) for value in metrics.values())
    assert directory.results["provenance"]["network_evaluations"] == 0
    assert reevaluated(directory, monkeypatch) == 0


def test_the_tree(tree, monkeypatch):
    metrics = tree.results["metrics"]
    assert metrics.keys() >= {"elbo", "delta_rel", "radius_depth_spearman", "nll", "nll_importance"}
    assert not metrics.keys() & {"fid", "inception_score", "radius_entropy_spearman"}
    assert all(math.isfinite(value) for value in metrics.values())
    assert not (tree.path / "samples.png").exists()
    latents = json.loads((tree.path / "latents.json").read_text(encoding="utf-8"))
    assert latents["kind"] == "disk"
    assert latents["class_names"][0] == "depth 0"
    assert reevaluated(tree, monkeypatch) == 0
    with pytest.raises(UserError, match="without any"):
        reevaluated(tree, monkeypatch, "seeds=0,1")


def test_the_tree_in_a_table(tree, capsys):
    print_comparison(make_plan([(("geometry=poincare",), tree.config)]), terminal())
    out = capsys.readouterr().out
    assert "−log p(x)" in out
    assert "FID" not in out
    assert f"{tree.results['metrics']['nll']:.2f}" in out
    assert "latents.png" in out.replace("\n", "")


def test_drawn_vectors_are_arrays(tree, tmp_path, monkeypatch):
    argv = [f"run={tree.path}", "n=7", f"out={tmp_path}/a.npz"]
    generate.main(argv)
    with np.load(tmp_path / "a.npz") as content:
        assert content["arr_0"].shape == (7, 50)
        assert content["arr_0"].dtype == np.float32
    for argument in (f"out={tmp_path}/a.png", "label=3"):
        argv = [f"run={tree.path}", argument]
        with pytest.raises(UserError):
            generate.main(argv)


def test_the_latent_space_of_vectors_is_arrays_too(tree, tmp_path):
    def drawn(*arguments):
        generate.main([f"run={tree.path}", *arguments, f"out={tmp_path}/a.npz"])
        with np.load(tmp_path / "a.npz") as content:
            return dict(content)

    plain, moved = drawn("n=4")["arr_0"], drawn("n=4", "radius=1,0")["arr_0"]
    assert np.array_equal(moved[:4], plain)
    assert np.array_equal(moved[4], moved[5])
    path = drawn("n=4", "between=0,3")["arr_0"]
    assert path.shape == (18, 50)
    assert np.allclose(path[[0, 8]], plain[[0, 3]], atol=1e-5)
    labels = build_dataset(tree.config).train.labels
    mean = drawn(f"mean_of={labels[0]}")["arr_0"]
    assert mean.shape == (1 + 2 * int((labels == labels[0]).sum()), 50)
    absent = next(label for label in range(127) if label not in labels)
    with pytest.raises(UserError, match=rf"Class {absent} of branching has no training image"):
        drawn(f"mean_of={absent}")
    beside = drawn("n=4", "neighbours=2")
    assert beside.keys() == {
        *("arr_0", "nearest_in_data", "distances_in_data", "nearest_in_latents", "distances_in_latents")
    }
    with pytest.raises(UserError, match=r"neighbours=10000 are more than the \d+ training images of branching"):
        drawn("neighbours=10000")
    with pytest.raises(UserError, match=r"vectors, which make no picture. Type out=radius.npz"):
        generate.main([f"run={tree.path}", "radius=0.5"])
    with pytest.raises(UserError, match=r"guidance=2 has no effect .* no diffusion model, and its samples come from"):
        drawn("guidance=2")
    with pytest.raises(UserError, match=r"steps=2 has no effect on .* no diffusion model"):
        drawn("steps=2")
