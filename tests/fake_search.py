"""Stands in for a worker, as `fake_pipeline.py` does, whose figures depend on what a search tunes.

FID beside validation images is least at curvature 1 and a learning rate of 1e-3, and larger by .01 for each seed; on
test images it is best elsewhere. FAKE: "fail high" fails runs above curvature 3, "stop" ends as a run that was asked to
stop, "kill parent 3" kills the search with its third run.
"""

import math
import os
import signal
import sys
from pathlib import Path

from hldm.errors import Stopped
from hldm.run.directory import RunDirectory


def run(path: Path) -> None:
    directory = RunDirectory(path)
    config, wrong = directory.config, os.environ.get("FAKE", "")
    c, rate = getattr(config.curvature, "value", 1.0), config.training.diffusion.learning_rate
    with directory.work():
        starts = path / "starts"
        starts.write_text((starts.read_text() if starts.exists() else "") + "x")
        if wrong == "fail high" and c > 3:
            raise RuntimeError("no luck")
        if wrong == "stop":
            raise Stopped("asked")
        if wrong.startswith("kill parent"):
            count = len(list(path.parent.glob("*/starts")))
            if count == int(wrong.split()[-1]):
                os.kill(os.getppid(), signal.SIGKILL)
                sys.exit(1)
        fid = 0.2 + math.log10(c or 1e-3) ** 2 + math.log10(rate / 1e-3) ** 2 + 0.01 * config.seed
        points = [{"value": value, "fid": fid + abs(value - 1.5), "kid": fid / 10} for value in (1.0, 1.5, 2.0)]
        curves = {"guidance": {"split": "validation", "points": points, "best": 1.5}}
        directory.write_results({"metrics": {"fid": -fid, "nll": fid}, "curves": curves, "provenance": {}})


if __name__ == "__main__":
    run(Path(sys.argv[1]))
