"""A search by whole runs: what it judges is what stands in their results.json, of validation images."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hldm.paths import CHECKOUT
from hldm.run.directory import RunDirectory
from tests.pipeline.conftest import TINY


def test_a_search_judges_by_the_curves_over_validation_images(tmp_path: Path) -> None:
    arguments = ["search=tpe", "curvature=interval(0.1,10)", "geometry=poincare", *TINY, "study=s"]
    arguments += ["metrics.guidance_scales=[1,2]", "metrics.validation_samples=20", "search.metric=kid"]
    arguments += ["search.trials=1", f"paths.outputs={tmp_path}"]
    command = [sys.executable, str(CHECKOUT / "train.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    [found] = json.loads((tmp_path / "s" / "search.json").read_text())["searches"]
    runs = [RunDirectory(file.parent) for file in (tmp_path / "s").glob("*/status.json")]
    assert len(found["trials"]) == len(runs) == 1
    by_curvature = {f"curvature={run.config.curvature.value:g}": run for run in runs}
    for trial in found["trials"]:
        results = by_curvature[trial["settings"][0]].results
        curve = results["curves"]["guidance"]
        assert curve["split"] == "validation"
        [point] = [point for point in curve["points"] if point["value"] == curve["best"]]
        assert trial["kid"] == pytest.approx(point["kid"])
        assert trial["kid"] != results["metrics"]["kid"]
    assert all(run.config.search is None for run in runs)
