"""How long `hldm runs outputs/<study>` takes, by the number of runs: seconds, and seconds of the processor.

python benchmarks/runs.py [500 2000]
"""

import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

STATES = ("finished", "failed", "running", "stopped", "new")


def make(folder: Path, runs: int) -> None:
    """So many runs, in every state."""
    for number in range(runs):
        run = folder / f"poincare-c{number / 1000:g}-s{number % 5}-{number:08x}"
        run.mkdir(parents=True)
        (run / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
        status: dict[str, Any] = {"state": STATES[number % 5], "pid": 12, "host": "node7", "minutes": 12.5}
        if status["state"] == "finished":
            weights = run / "checkpoints" / "model.safetensors"
            weights.parent.mkdir()
            weights.write_bytes(b"weights")
            (run / "results.json").write_text('{"metrics": {}}', encoding="utf-8")
            status["weights_bytes"] = weights.stat().st_size
        (run / "status.json").write_text(json.dumps({**status, "error": "no luck"}), encoding="utf-8")


def main() -> None:
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}\n")
    print("| runs | seconds | of the processor |\n|---|---|---|")
    for runs in map(int, sys.argv[1:] or ("500", "2000")):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder) / "study", runs)
            begin, before = time.perf_counter(), _children()
            command = [sys.executable, "-m", "hldm", "runs", f"{folder}/study"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            print(f"| {runs} | {time.perf_counter() - begin:.2f} | {_children() - before:.2f} |")


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
