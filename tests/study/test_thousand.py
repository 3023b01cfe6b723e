"""A grid of a thousand finished points is planned and compared within seconds, in little memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hldm.paths import CHECKOUT as ROOT
from tests.speed import allowed

SCRIPT = """
import re, sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from hldm import console
from hldm.commands import train
from hldm.study import grid
from PIL import Image
argv = ["-m", *{typed!r}, "tracking=none", "hardware=cpu", "hardware.threads=1", "paths.outputs=" + {outputs!r}]

def make(points, allotment, shown):
    from tests.study.made_runs import PROVENANCE, usual
    for point in points:
        point.run.path.mkdir(parents=True)
        run = point.run
        Image.new("L", (604, 604), 255).save(run.path / "samples.png")
        run.write_results(usual(point))
        run.update_status(state="finished", minutes=1, seconds={{"diffusion": 60}})

if "make" in sys.argv:
    grid.execute = make
else:
    grid.execute = lambda points, allotment, shown: None
status = console.run(lambda: train.main(argv))
# not ru_maxrss, which starts at what the process that started this one had
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6
print("\\nMEASURED", status, time.process_time(), peak)
"""


@pytest.mark.parametrize(
    ("typed", "expected", "most_seconds"),
    [
        (["seed=range(0,1000)"], "euclidean", 10),
        (
            ["geometry=euclidean,poincare", "curvature=range(0.01,1.99,0.01)", "seed=0,1,2,3,4"],
            "poincare c=0.01 against",
            20,
        ),
    ],
)
def test_a_thousand_finished_points(typed: list[str], expected: str, most_seconds: float, tmp_path: Path) -> None:
    """1,000 seeds of one cell: 4.7 s of a processor and 120 MB; 199 cells of five: 7.6 s and 138 MB."""
    script = SCRIPT.format(root=str(ROOT), typed=typed, outputs=str(tmp_path))
    environment = {**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script, "make"], env=environment, check=True, capture_output=True)
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    runs = done.stdout.count("finished already")
    assert runs >= 995  # the flat model is one cell at every curvature
    assert "Samples side by side: " in done.stdout
    assert expected in done.stdout
    status, seconds, peak = (json.loads(word) for word in done.stdout.partition("MEASURED")[2].split())
    assert status == 0
    assert seconds < allowed(most_seconds)
    assert peak < 150
    assert (tmp_path / "main" / "comparison.png").stat().st_size < 5e6
    assert (tmp_path / "main" / "comparison.json").stat().st_size < 10e6
