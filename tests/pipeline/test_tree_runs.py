"""Whole runs on pictures with a known tree, in every layout, asked for classes of a chosen level."""

import math
from pathlib import Path

import pytest

from hldm.commands import evaluate, generate
from hldm.config.compose import compose
from hldm.pipeline import run
from hldm.pipeline.build import build_dataset
from hldm.run.directory import RunDirectory
from hldm.run.identity import run_identity
from hldm.study.pictures import grid_of
from tests.fake_omniglot import written
from tests.pipeline.conftest import POINT, TINY

TREE = ["dataset=tree_images", "dataset.depth=2", "dataset.siblings=80"]
CASES = {
    "global": [*POINT, *TREE, "dataset.label_level=1", "geometry=poincare"],
    "map_global": [*TINY, "denoiser.width=16", "denoiser.blocks=1", *TREE, "geometry=hybrid"],
    "map": [*TINY, "dataset=omniglot", "dataset.label_level=character", "geometry=poincare"],
}


@pytest.mark.parametrize("layout", CASES)
def test_a_run_on_a_known_tree(layout: str, tmp_path: Path) -> None:
    typed = [*CASES[layout], f"latent={layout}", f"paths.outputs={tmp_path}"]
    if layout == "map":
        typed += [f"dataset.folder={written(tmp_path / 'omniglot')}", "conditioning=text_names"]
    config = compose(typed)
    directory = RunDirectory.create(tmp_path / run_identity(config).name, config)
    run(directory.path)
    metrics = directory.results["metrics"]
    assert metrics.keys() >= {"fid", "floor_fid", "reconstruction_mse", "delta_rel"}
    # there are no digits, and nobody who would tell them apart
    assert not metrics.keys() & {"label_accuracy", "inception_score", "radius_entropy_spearman"}
    assert [extractor["name"] for extractor in directory.results["provenance"]["extractors"]] == ["unlabelled"]
    # all drawings lie at one depth, so that it has no rank correlation with anything
    assert ("radius_depth_spearman" in metrics) == (layout != "map")
    assert all(math.isfinite(value) for value in metrics.values())
    classes = {"global": 3, "map_global": 7, "map": 8}[layout]
    assert build_dataset(config).classes == classes
    grid, columns = grid_of(directory.path / "samples.png")
    assert grid.size == (30 * classes + 2, 10 * 30 + 2)
    assert columns == list(build_dataset(config).class_names)
    for name in ("reconstructions.png", "latents.png", "latents.pdf", "latents.json"):
        assert (directory.path / name).stat().st_size > 100, name
    assert evaluate.main([f"run={directory.path}"]) == 0
    asked = {"map": "prompt=a picture of bb old 2"}.get(layout, "label=2")
    generate.main([f"run={directory.path}", asked, "n=3", f"out={tmp_path}/drawn.png"])


def test_a_picture_has_as_many_columns_as_fit(tmp_path: Path) -> None:
    """Of 40 classes, 32 evenly chosen."""
    tree = ["dataset=tree_images", "dataset.depth=3", "dataset.children=3", "dataset.siblings=20"]
    few = [setting for setting in POINT if "first_stage_images" not in setting]
    config = compose([*few, *tree, "latent=global", "metrics.first_stage_images=100", f"paths.outputs={tmp_path}"])
    directory = RunDirectory.create(tmp_path / run_identity(config).name, config)
    run(directory.path)
    grid, columns = grid_of(directory.path / "samples.png")
    assert grid.size == (30 * 32 + 2, 10 * 30 + 2)
    assert len(columns) == 32
