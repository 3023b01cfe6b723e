"""Whole runs with a global point, alone and beside a map: complete, and reproduced by evaluation."""

import math

import pytest
import torch
from safetensors.torch import load_file

from hldm.commands import evaluate
from hldm.config.compose import compose
from hldm.pipeline import run
from hldm.run.directory import RunDirectory
from hldm.run.identity import run_identity
from tests.pipeline.conftest import POINT, TINY

LEARNED = ["curvature=learnable", "denoiser.attention=hyperbolic_distance", "denoiser.curvature=learnable"]
SMALL = {"global": POINT, "map_global": [*TINY, "denoiser.width=16", "denoiser.blocks=1"]}


def finish(outputs, layout, *overrides):
    config = compose([*SMALL[layout], f"latent={layout}", *overrides, f"paths.outputs={outputs}"])
    directory = RunDirectory.create(outputs / config.study / run_identity(config).name, config)
    run(directory.path)
    return directory


@pytest.mark.parametrize(
    ("layout", "overrides", "scales"),
    [
        ("global", ["geometry=poincare", "autoencoder.latent_channels=2"], ()),
        ("global", ["denoiser=cross_attention", "conditioning=text", "geometry=hybrid"], ()),
        ("map_global", ["geometry=poincare", *LEARNED, "autoencoder.global_channels=2"], (2,)),
    ],
)
def test_a_run_leaves_everything_it_should_and_evaluation_reproduces_it(
    tmp_path, monkeypatch, layout, overrides, scales
):
    directory = finish(tmp_path, layout, *overrides)
    metrics = directory.results["metrics"]
    assert metrics.keys() >= {"fid", "label_accuracy", "reconstruction_mse", "elbo", "delta_rel", "sqrt_c_rms"}
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["sqrt_c_rms"] > 0
    assert metrics["sqrt_c_rms_drawn"] > 0
    for name in ("map_sqrt_c_rms", "map_sqrt_c_rms_drawn"):
        assert (name in metrics) == (layout == "map_global")
    learned = [metrics[name] for name in ("curvature_0", "denoiser_curvature") if name in metrics]
    assert len(learned) == (2 if layout == "map_global" else 1)
    assert layout == "global" or all(c > 0 and c != 1 for c in learned)
    # the hierarchy of one point: it has no positions whose radii could differ from the latent's
    assert metrics["radius_median"] == metrics["point_radius_median"]
    saved = load_file(directory.path / "checkpoints" / "model.safetensors")
    assert saved["latent_scale"].shape == scales
    assert torch.all(saved["latent_scale"] != 1)
    for name in ("samples.png", "reconstructions.png", "latents.png"):
        assert (directory.path / name).stat().st_size > 100, name
    argv = [f"run={directory.path}"]
    assert evaluate.main(argv) == 0
