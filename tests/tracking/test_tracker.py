import subprocess
import sys
from pathlib import Path

import pytest

from hldm.tracking import NoTracker, run_labels


@pytest.mark.parametrize("curvature", [0.0, 0.1, "learnable"])
def test_labels_are_what_the_caller_found(curvature: str | float) -> None:
    assert run_labels("hybrid", curvature, 3) == {"geometry": "hybrid", "curvature": curvature, "seed": 3}


def test_no_tracker_writes_nothing(tmp_path: Path) -> None:
    tracker = NoTracker()
    tracker.start(tmp_path, "run", {}, {}, {}, "study", "train")
    tracker.log(1, {"loss": 0.5}, "first_stage")
    tracker.image("samples", tmp_path / "samples.png")
    tracker.summary({"final/fid": 1.0})
    tracker.finish(0)
    assert list(tmp_path.iterdir()) == []


def test_importing_and_building_a_tracker_does_not_import_wandb_or_torch() -> None:
    code = "import sys, hldm.tracking as t; t.WandbTracker('x'); sys.exit(len({'wandb', 'torch'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True)
