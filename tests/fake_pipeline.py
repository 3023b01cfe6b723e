"""Stands in for `python -m hldm worker DIRECTORY`: leaves the files of a run, without the work and without torch.

The environment variable FAKE holds what goes wrong: "kill poincare", "fail euclidean", "slow".
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from hldm.run.directory import RunDirectory

METRICS = {
    "fid": 1.25,
    "floor_fid": 0.5,
    "inception_score": 9.8,
    "kid": 3.2e-4,
    "delta_rel": 0.19,
    "label_accuracy": 0.967,
    "curvature_0": 0.83,
}


def run(path: Path) -> None:
    directory = RunDirectory(path)
    wrong = os.environ.get("FAKE", "")
    with directory.work():
        starts = path / "starts"
        starts.write_text((starts.read_text() if starts.exists() else "") + "x")
        (path / "environment").write_text(f"{os.environ['OMP_NUM_THREADS']} {os.environ['GOMP_SPINCOUNT']}")
        geometry = directory.config.geometry.name
        print(f"a line from {path.name}", flush=True)
        if wrong == f"kill {geometry}":
            os.kill(os.getpid(), signal.SIGKILL)
        if wrong == f"fail {geometry}":
            raise RuntimeError("no luck")
        if wrong == "slow":
            time.sleep(60)
        directory.update_status(seconds={"first_stage": 60, "diffusion": 120, "evaluation": 60})
        Image.new("L", (604, 604), 255).save(path / "samples.png")
        extractor = {"name": "digits", "sha256": "abcdef0123"}
        provenance = {"samples": 5000, "reference": "mnist test images (10000)", "extractors": [extractor]}
        provenance |= {"rule": "classes as in the reference", "data": "0123", "classifier": extractor}
        directory.write_results({"metrics": METRICS, "provenance": provenance})


def preempted(number: int, frame: Any) -> None:
    """Leaves a file that says so."""
    (Path(sys.argv[1]) / "preempted").touch()
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as hldm/commands/worker.py does
    signal.signal(signal.SIGTERM, preempted)
    run(Path(sys.argv[1]))
