"""What the pool of one machine adds to the runs themselves, and what large studies cost the command.

    python benchmarks/sweep.py                     five minutes on a quiet machine
    python benchmarks/sweep.py --jobs 20 --seconds 4 --slots 4
    python benchmarks/sweep.py --training          two short runs side by side on one thread each, against one after
                                                   the other on all; ten minutes more
    python benchmarks/sweep.py --only plan,list    parts: makespan, first, plan, list, training

Jobs of known length sleep, so that nothing but the pool decides about their makespan. `first` is a real run.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import yaml
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package of this checkout

from hldm.config.compose import compose
from hldm.machine import Allotment
from hldm.paths import CHECKOUT as ROOT
from hldm.resources import cores
from hldm.run.directory import RunDirectory, write_json
from hldm.run.identity import Identity
from hldm.study import job
from hldm.study.execute import execute
from hldm.study.plan import Point

SLEEPER = """
import json, os, sys, time
path = sys.argv[1]
time.sleep(float(open(path + "/seconds").read()))
open(path + "/results.json", "w").write('{"metrics": {}}')
with open(path + "/status.json") as file: status = json.load(file)
with open(path + "/new", "w") as file: json.dump({**status, "state": "finished", "minutes": 0}, file)
os.replace(path + "/new", path + "/status.json")
"""

MEASURED = """
import re, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
sys.argv = ["train.py", *{argv!r}]
from hldm import commands, console
status = console.run(lambda: commands.main({command!r} + sys.argv[1:]))
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
print("\\nMEASURED", status or 0, time.process_time(), peak)
"""

TINY = [
    "experiment=smoke",
    "tracking=none",
    "hardware=cpu",
    "training.first_stage.steps=5",
    "training.diffusion.steps=5",
    "training.log_every=1",
]

Row = tuple[str, str, str]
"""What was measured, the figure, and what it is to be."""


def makespan(folder: Path, jobs: int, seconds: float, slots: int) -> Iterator[Row]:
    """Jobs of one length over slots, against the least time that they can take."""
    script = folder / "sleeper.py"
    script.write_text(SLEEPER)
    job.WORKER = ("-S", "-E", str(script))
    config = compose([])
    config = config.model_copy(update={"paths": config.paths.model_copy(update={"outputs": str(folder / "outputs")})})
    points = []
    for number in range(jobs):
        run = RunDirectory(folder / "outputs" / "main" / f"run{number}")
        run.path.mkdir(parents=True)
        (run.path / "seconds").write_text(str(seconds))
        points.append(Point((), config, Identity(run.path.name, "0"), run, run.state))
    start = time.monotonic()
    with (folder / "shown").open("w") as shown:
        execute(points, Allotment(slots, 1), Console(file=shown))
    took, rounds = time.monotonic() - start, -(-jobs // slots)
    assert all(point.run.state == "finished" for point in points)
    what = f"{jobs} jobs of {seconds:g} s on {slots} slots"
    yield f"{what}: makespan over ideal", f"{took / (rounds * seconds):.3f}", "≤ 1.10"
    yield f"{what}: overhead of a job", f"{1000 * (took - rounds * seconds) / rounds:.0f} ms", ""


def first_step(folder: Path) -> Iterator[Row]:
    """From the command to the first line of metrics.jsonl: Hydra, the plan, torch, the data, a step."""
    for what, argv in (("one run", ["seed=0"]), ("a grid of two, one slot", ["-m", "seed=1,2", "hardware.slots=1"])):
        start = time.monotonic()
        command = [sys.executable, str(ROOT / "train.py"), *argv, *TINY, f"paths.outputs={folder / 'first'}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            seen = set((folder / "first").glob("*/*/metrics.jsonl"))
            while set((folder / "first").glob("*/*/metrics.jsonl")) == seen and process.poll() is None:
                time.sleep(0.02)
            took = time.monotonic() - start
            process.terminate()
        yield f"command to first step, {what}", f"{took:.1f} s", ""


def measured(command: list[str], argv: list[str]) -> tuple[str, str]:
    """Seconds and MiB of a command in a process of its own."""
    code = MEASURED.format(root=str(ROOT), argv=argv, command=command)
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status, processor, peak = done.stdout.rpartition("MEASURED")[2].split()
    if int(status):
        sys.exit(done.stderr)
    return f"{time.monotonic() - start:.1f} s ({float(processor):.1f} s of a processor)", f"{peak} MiB"


def large_plan(folder: Path) -> Iterator[Row]:
    """The plan of a thousand points, nothing of which is there."""
    argv = ["-m", "geometry=poincare", "curvature=range(0.1,1,0.1)", "seed=range(0,100)", "plan=true", "tracking=none"]
    took, peak = measured(["train"], [*argv, f"paths.outputs={folder / 'plan'}"])
    yield "plan of 1,000 points", took, "≤ 10 s"
    yield "plan of 1,000 points: memory", peak, "≤ 150 MiB"


def large_list(folder: Path) -> Iterator[Row]:
    """`hldm runs` of two thousand runs in all states."""
    if find_spec("hldm.commands.runs") is None:
        return
    config, study = compose([]), folder / "list" / "main"
    text = yaml.safe_dump(config.dump(), sort_keys=False, allow_unicode=True)
    states = ("finished", "failed", "running", "stopped", "new")
    for number in range(2000):
        run = study / f"poincare-c1-s{number}-00000000"
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(text, encoding="utf-8")
        state = states[number % len(states)]
        progress = {"stage": "diffusion", "step": number % 900, "steps": 900, "updated": "2026-01-01T00:00:00+00:00"}
        write_json(run / "status.json", {"state": state, "minutes": 3.5, "progress": progress, "error": "x" * 200})
        if state == "finished":
            write_json(run / "results.json", {"metrics": {"fid": 1.0}})
    took, peak = measured(["runs"], [str(study)])
    yield "list of 2,000 runs", took, "≤ 2 s"
    yield "list of 2,000 runs: memory", peak, ""


def training(folder: Path) -> Iterator[Row]:
    """Two short runs in both ways that all cores can work on them."""
    many = cores()
    steps = ["training.first_stage.steps=60", "training.diffusion.steps=200"]
    took = {}
    for slots, threads in ((1, many), (2, max(1, many // 2))):
        where = [f"hardware.slots={slots}", f"hardware.threads={threads}", f"paths.outputs={folder / str(slots)}"]
        argv = ["-m", "seed=0,1", *TINY[:3], *steps, *where]
        start = time.monotonic()
        subprocess.run([sys.executable, str(ROOT / "train.py"), *argv], check=True, stdout=subprocess.DEVNULL)
        took[slots] = time.monotonic() - start
        yield f"2 smoke runs, {slots} at a time on {threads} threads each", f"{took[slots]:.0f} s", ""
    yield "side by side against one after the other", f"{100 * (took[1] / took[2] - 1):+.0f} %", ""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--only", default="makespan,first,plan,list")
    arguments = parser.parse_args()
    parts = {
        "makespan": lambda folder: makespan(folder, arguments.jobs, arguments.seconds, arguments.slots),
        "first": first_step,
        "plan": large_plan,
        "list": large_list,
        "training": training,
    }
    chosen = [*arguments.only.split(","), *(["training"] if arguments.training else [])]
    machine = platform.processor() or platform.machine()
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{cores()} cores, {machine}, Python {platform.python_version()}, {date.today()}, load before {load}\n")
    print("| | | to be |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for name in filter(None, chosen):
            for row in parts[name](Path(temporary)):
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
