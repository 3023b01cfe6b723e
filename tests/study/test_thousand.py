"""A grid of a thousand finished points is planned and compared within seconds, in little memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

from hldm.paths import CHECKOUT as ROOT
from tests.conftest import FAKE

SCRIPT = """
import re, sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from hldm import console
from hldm.commands import train
from hldm.study import grid
from hldm.run.directory import RunDirectory
from PIL import Image
import runpy
fake = runpy.run_path({fake!r})
outputs = "paths.outputs=" + {outputs!r}
argv = ["-m", "seed=range(0,1000)", "tracking=none", "hardware=cpu", "hardware.threads=1", outputs]

def make(points, allotment, shown):
    for point in points:
        run = RunDirectory.create(point.run.path, point.config)
        Image.new("L", (604, 604), 255).save(run.path / "samples.png")
        run.write_results({{"metrics": fake["METRICS"], "provenance": {{}}}})
        run.update_status(state="finished", minutes=1, seconds={{"diffusion": 60}})

if "make" in sys.argv:
    grid.execute = make
else:
    grid.execute = lambda points, allotment, shown: None
status = console.run(lambda: train.main(argv))
# not ru_maxrss, which starts at what the process that started this one had
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
print("\\nMEASURED", status, time.process_time(), peak)
"""


def test_a_thousand_finished_points(tmp_path: Path) -> None:
    """Bounds are generous: 3 seconds and 110 to 165 MiB were measured on a busy machine."""
    script = SCRIPT.format(root=str(ROOT), fake=str(FAKE), outputs=str(tmp_path))
    environment = {**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script, "make"], env=environment, check=True, capture_output=True)
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.count("finished already") == 1000
    assert "the first 60 of 1000" in " ".join(done.stdout.split())
    status, seconds, peak = (json.loads(word) for word in done.stdout.partition("MEASURED")[2].split())
    assert status == 0
    assert seconds < 20
    assert peak < 250
    assert (tmp_path / "main" / "comparison.png").stat().st_size < 5e6
