"""What evaluate.py does: results.json once more, from the weights."""

import os
import sys
from typing import Any

from hldm import console
from hldm.errors import UserError
from hldm.study.comparison import print_metrics, terminal
from hldm.study.resources import Allotment
from hldm.study.run_directory import RunDirectory

USAGE = """
Recompute every metric of finished runs from their checkpoints and compare with results.json.

    python evaluate.py run=<run directory, study folder or pattern> [seeds=0,1,2]
"""


def main() -> int:
    """0 where every recomputed number is the recorded one, 1 where one differs."""
    arguments = console.key_values(sys.argv[1:], {"run": str, "seeds": console.wholes}, usage=USAGE, required=("run",))
    directories = find_runs(arguments["run"])
    same = [reevaluate(directory, arguments.get("seeds")) for directory in directories]
    return 0 if all(same) else 1


def find_runs(text: str) -> list[RunDirectory]:
    """The finished runs that a directory, a study folder or a pattern names.

    Raises:
        UserError: there is none.
    """
    runs = RunDirectory.find(text)
    finished = [run for run in runs if run.results is not None]
    if not finished:
        what = f"{len(runs)} unfinished runs" if runs else "no runs"
        raise UserError(
            f"run={text} names {what}. Give a finished run (outputs/<study>/<run id>), a study folder or a pattern in "
            "quotes; python train.py with the same settings finishes a run."
        )
    return finished


def reevaluate(directory: RunDirectory, seeds: list[int] | None) -> bool:
    """Recompute one run's results and say how they compare; with more seeds, write the extended results."""
    recorded, config = directory.results, directory.config
    assert recorded is not None, "find_runs returns finished runs"
    provenance = recorded["provenance"]
    if seeds and not provenance["sampling_seeds"]:
        raise UserError(f"seeds=… draws samples, and {directory.path.name} is evaluated without any. Leave it out.")
    os.environ.update(Allotment(1, provenance["threads"]).environment(0))
    # torch only now: a wrong argument is answered at once, and the threads are set before it starts
    import torch

    from hldm.pipeline import evaluate
    from hldm.pipeline.build import build_dataset, choose_device, load_model

    print(f"{directory.path.name}")
    device = choose_device(config)
    torch.set_num_threads(provenance["threads"])
    dataset = build_dataset(config)
    model = load_model(config, dataset, directory.path, device)
    wanted = sorted({*provenance["sampling_seeds"], *(seeds or [])})
    results = evaluate(model, dataset, config, directory.path, wanted)
    if wanted != sorted(provenance["sampling_seeds"]):
        directory.write_results(results)
        print(f"    results.json now holds {len(wanted)} sampling seeds: {', '.join(map(str, wanted))}")
    print_metrics(results["metrics"], terminal())
    differences = list(differing(recorded["per_sampling_seed"], results["per_sampling_seed"]))
    if wanted == sorted(provenance["sampling_seeds"]):
        differences += list(differing(recorded["metrics"], results["metrics"]))
    for name, before, after in differences:
        print(f"    {name}: recorded {before!r}, now {after!r}")
    for key in ("machine", "versions", "threads", "weights"):
        if provenance[key] != results["provenance"][key]:
            print(f"    {key}: recorded {provenance[key]}, now {results['provenance'][key]}")
    if not differences:
        print("    every metric is the recorded one, bit for bit")
    return not differences


def differing(recorded: Any, recomputed: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """(name, recorded, recomputed) of every value that is recorded and not the same now."""
    if isinstance(recorded, dict):
        return [
            row
            for key, value in recorded.items()
            for row in differing(value, recomputed.get(key) if isinstance(recomputed, dict) else None, f"{name}/{key}")
        ]
    return [] if recorded == recomputed else [(name.lstrip("/"), recorded, recomputed)]
