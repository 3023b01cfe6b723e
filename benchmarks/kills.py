"""Whole processes killed at random times, and asked to stop: each ends as one that nothing happened to, byte for byte.

    python benchmarks/kills.py                          30 kills and 12 signals, over experiment=smoke
    python benchmarks/kills.py kills=200 seed=1
    python benchmarks/kills.py geometry=hybrid          other settings of the run

The run is a grid of one, so that there is a parent and a child. Either is killed, or gets SIGTERM, SIGINT or SIGHUP, at
a random time; the same command follows until the run is finished, and its files are compared with those of a run that
was left alone. tests/pipeline/test_nothing_lost.py does this within one process, in seconds.
"""

import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import date
from pathlib import Path

from hldm.config.compose import compose
from hldm.paths import CHECKOUT
from hldm.run.directory import RunDirectory
from hldm.run.identity import run_identity

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
PATIENCE = 600


class Study:
    """A grid of one run, in outputs of its own."""

    def __init__(self, outputs: Path, overrides: list[str]) -> None:
        self.outputs = outputs
        self.arguments = [*overrides, "tracking=none", "hardware.threads=1", f"paths.outputs={outputs}"]
        config = compose(self.arguments)
        self.run = RunDirectory(outputs / config.study / run_identity(config).name)

    def start(self) -> subprocess.Popen[bytes]:
        """The command of a user."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (self.outputs / "said.txt").open("ab") as said:
            command = [sys.executable, "train.py", "-m", "seed=0", *self.arguments]
            return subprocess.Popen(
                command, cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                preexec_fn=_as_from_a_terminal, start_new_session=True,
            )  # fmt: skip

    @property
    def child(self) -> int | None:
        """The process that works on the run."""
        try:
            status = json.loads((self.run.path / "status.json").read_text())
        except (OSError, ValueError):
            return None
        pid = status.get("pid") if status.get("state") == "running" else None
        return pid if pid and Path(f"/proc/{pid}").exists() else None

    def files(self) -> dict[str, bytes]:
        """What is the same whenever a run was begun."""
        found = [*self.run.path.rglob("*"), *(self.outputs / "first_stages").rglob("*")]
        left_out = {"status.json", "config.yaml", "log.txt", ".lock"}
        kept = {
            str(file.relative_to(self.outputs)): file.read_bytes()
            for file in found
            if file.is_file() and file.name not in left_out and ".lease" not in file.parts
        }
        for name in [name for name in kept if name.endswith("results.json")]:
            kept[name] = _without_surroundings(kept[name])
        return kept


def _without_surroundings(results: bytes) -> bytes:
    """results.json without the command, which names the outputs, and without git, which others may be at work with."""
    content = json.loads(results)
    for name in ("command", "commit", "dirty", "begun_with"):
        content["provenance"].pop(name, None)
    return json.dumps(content).encode()


def _as_from_a_terminal() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def wait_for_child(study: Study, process: subprocess.Popen[bytes]) -> int | None:
    """The run's process; None where the command has ended before."""
    deadline = time.monotonic() + PATIENCE
    while (pid := study.child) is None and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return pid


def wait_until_nobody_works(study: Study) -> None:
    """A child whose parent was killed may go on for a while."""
    deadline = time.monotonic() + PATIENCE
    while study.child is not None and time.monotonic() < deadline:
        time.sleep(0.05)


def differences(found: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """Names of files that only one has, or that differ."""
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def main(argv: list[str]) -> int:
    """Print what was done and what came of it; 1 where a file differs."""
    options = {"kills": 30, "signals": 12, "seed": 0}
    overrides = [] if any(argument.startswith("experiment=") for argument in argv) else ["experiment=smoke"]
    for argument in argv:
        name, _, value = argument.partition("=")
        if name in options:
            options[name] = int(value)
        else:
            overrides.append(argument)
    moment = random.Random(options["seed"])
    with tempfile.TemporaryDirectory() as folder:
        alone = Study(Path(folder) / "alone", overrides)
        alone.outputs.mkdir()
        process = alone.start()
        wait_for_child(alone, process)
        began = time.monotonic()
        if process.wait() != 0:
            print((alone.outputs / "said.txt").read_text()[-2000:])
            return 1
        seconds, expected = time.monotonic() - began, alone.files()
        print(f"{date.today()}, {platform.machine()}, one thread; a run takes {seconds:.0f} s; {len(expected)} files")

        todo = ["KILL"] * options["kills"] + ["signal"] * options["signals"]
        moment.shuffle(todo)
        done: Counter[str] = Counter()
        wrong, runs = [], 0
        while todo:
            study = Study(Path(folder) / str(runs), overrides)
            study.outputs.mkdir()
            runs += 1
            while True:
                process = study.start()
                pid = wait_for_child(study, process)
                if todo and pid is not None:
                    time.sleep(moment.uniform(0, seconds / 3))
                    what = signal.SIGKILL if todo[-1] == "KILL" else moment.choice(SIGNALS)
                    whom = moment.choice(["parent", "child"])
                    if process.poll() is None and study.child == pid:
                        todo.pop()
                        done[f"{what.name} to the {whom}"] += 1
                        os.kill(process.pid if whom == "parent" else pid, what)
                process.wait()
                wait_until_nobody_works(study)
                if study.run.state == "finished":
                    break
            wrong += [f"{study.outputs.name}: {name}" for name in differences(study.files(), expected)]
        for name, count in sorted(done.items()):
            print(f"  {count:4}  {name}")
        print(f"{runs} runs finished after {sum(done.values())} disturbances; files that differ: {len(wrong)}")
        for line in wrong[:20]:
            print(f"  {line}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
