import subprocess
import sys
from pathlib import Path

import pytest

from hldm.tracking import NoTracker, labels

FIXED = "hldm.geometry.FixedCurvature"
LEARNABLE = "hldm.geometry.LearnableCurvature"


@pytest.mark.parametrize(
    ("geometry", "kind", "curvature"),
    [
        ("poincare", FIXED, 0.1),
        ("hybrid", LEARNABLE, "learnable"),
        ("euclidean", FIXED, 0.0),
        ("euclidean", LEARNABLE, 0.0),
    ],
)
def test_labels(geometry: str, kind: str, curvature: object) -> None:
    config = {"geometry": {"name": geometry}, "curvature": {"_target_": kind, "value": 0.1}, "seed": 3}
    assert labels(config) == {"geometry": geometry, "curvature": curvature, "seed": 3}


def test_no_tracker_writes_nothing(tmp_path: Path) -> None:
    tracker = NoTracker()
    tracker.start(tmp_path, "run", {}, "study", "train")
    tracker.log(1, {"loss": 0.5}, "first_stage")
    tracker.image("samples", tmp_path / "samples.png", None)
    tracker.summary({"final/fid": 1.0})
    tracker.finish(0)
    assert list(tmp_path.iterdir()) == []


def test_importing_and_building_a_tracker_does_not_import_wandb_or_torch() -> None:
    code = "import sys, hldm.tracking as t; t.WandbTracker('x'); sys.exit(len({'wandb', 'torch'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True)
