"""`hldm evaluate …`, and `python evaluate.py …`: results.json once more, from the weights."""

import os
import sys
from typing import Annotated, Any, Self

from annotated_types import Ge
from pydantic import BaseModel, ConfigDict, ValidationError

from hldm import console
from hldm.config.schema import RunConfig
from hldm.errors import UserError
from hldm.machine import Allotment
from hldm.run.directory import RunDirectory
from hldm.run.summary import print_metrics

USAGE = """
Recompute every metric of finished runs from their checkpoints and compare with results.json.

    python evaluate.py run=<run directory, study folder or pattern> [seeds=0,1,2]
"""


class Provenance(BaseModel):
    """What recomputing needs to know of where results come from; results.json may be from elsewhere."""

    model_config = ConfigDict(strict=True)

    sampling_seeds: list[Annotated[int, Ge(0)]]
    threads: Annotated[int, Ge(1)]
    machine: Any
    versions: Any
    weights: Any


class Recorded(BaseModel):
    """What recomputing needs of results.json."""

    metrics: dict[str, Any]
    per_sampling_seed: dict[str, Any]
    curves: dict[str, Any] = {}
    per_image: dict[str, Any] = {}
    provenance: Provenance

    @classmethod
    def of(cls, directory: RunDirectory) -> Self:
        """What stands in a finished run.

        Raises:
            UserError: an entry is missing, or is not what it should be.
        """
        try:
            return cls.model_validate(directory.results)
        except ValidationError as error:
            wrong = dict.fromkeys(".".join(map(str, problem["loc"])) for problem in error.errors())
            raise UserError(
                f"{directory.path / 'results.json'} has no sound {', '.join(wrong)}, so it is damaged or "
                "from another version. Delete it and repeat the command that started the run, which makes it again "
                "from the weights."
            ) from None


def main(argv: list[str]) -> int:
    """0 where every recomputed number is the recorded one, 1 where one differs, 2 where a run cannot be evaluated."""
    if argv[:1] == ["-sc"]:  # the completion of train.py is asked for every script of Python
        return 0
    arguments = console.key_values(argv, {"run": str, "seeds": console.wholes}, usage=USAGE, required=("run",))
    directories = find_runs(arguments["run"])
    status = 0
    for directory in directories:
        try:
            is_same = reevaluate(directory, arguments.get("seeds"))
        except UserError as error:
            if len(directories) == 1:
                raise
            print(console.paragraphs(f"{directory.path.name}: {error}"), file=sys.stderr)
            status = 2
        else:
            status = max(status, int(not is_same))
    return status


def find_runs(text: str) -> list[RunDirectory]:
    """The finished runs that a directory, a study folder or a pattern names.

    Raises:
        UserError: there is none.
    """
    runs = RunDirectory.find(text)
    finished = [run for run in runs if (run.path / "results.json").is_file()]
    if not finished:
        what = f"{len(runs)} unfinished run{'s' if len(runs) > 1 else ''}" if runs else "no runs"
        raise UserError(
            f"run={text} names {what}. Give a finished run (outputs/<study>/<run id>), a study folder or a pattern in "
            "quotes; python train.py with the same settings finishes a run."
        )
    return finished


def reevaluate(directory: RunDirectory, seeds: list[int] | None) -> bool:
    """Recompute one run's results and say how they compare; with more seeds, write the extended results.

    What writes holds the run, so that nobody else's results are lost; what only reads needs no more than that.

    Raises:
        BusyError: another process works on the run, whose results are to be written.
    """
    config, recorded = directory.config, Recorded.of(directory)
    if not seeds:
        return _reevaluate(directory, config, recorded, [])
    if not recorded.provenance.sampling_seeds:
        raise UserError(f"seeds=… draws samples, and {directory.path.name} is evaluated without any. Leave it out.")
    if not os.access(directory.path, os.W_OK):
        raise UserError(
            f"seeds=… writes {directory.path / 'results.json'}, which cannot be written. Leave seeds= out, or copy the "
            "run to a folder of yours."
        )
    with directory.lock():
        return _reevaluate(directory, config, Recorded.of(directory), seeds)  # as they are now: nobody else writes


def _reevaluate(directory: RunDirectory, config: RunConfig, recorded: Recorded, seeds: list[int]) -> bool:
    provenance = recorded.provenance
    directory.check_weights()
    os.environ.update(Allotment(1, provenance.threads).environment(0))
    # torch only now: a wrong argument is answered at once, and the threads are set before it starts
    import torch

    from hldm.pipeline import evaluate_run
    from hldm.pipeline.build import build_dataset, device_to_look_with, load_model
    from hldm.pipeline.stopwatch import Stopwatch

    print(f"{directory.path.name}")
    device = device_to_look_with(config.hardware)
    torch.set_num_threads(provenance.threads)
    dataset = build_dataset(config)
    model = load_model(config, dataset, directory.path, device)
    wanted = sorted({*provenance.sampling_seeds, *seeds})
    results = evaluate_run(model, dataset, config, directory, wanted, stopwatch := Stopwatch())
    if stopwatch.words:
        print(f"    evaluation: {stopwatch.words}")
    if wanted != sorted(provenance.sampling_seeds):
        directory.write_results(results)
        print(f"    results.json now holds {len(wanted)} sampling seeds: {', '.join(map(str, wanted))}")
    print_metrics(results["metrics"], console.terminal(), directory.path / "results.json")
    parts = ["per_sampling_seed", "curves", "per_image"]
    if wanted == sorted(provenance.sampling_seeds):
        parts.append("metrics")
    differences = [row for part in parts for row in differing(getattr(recorded, part), results[part], part)]
    for name, before, after in differences:
        print(f"    {name}: recorded {before!r}, now {after!r}")
    for key in ("machine", "versions", "threads", "weights"):
        if (before := getattr(provenance, key)) != results["provenance"][key]:
            print(f"    {key}: recorded {before}, now {results['provenance'][key]}")
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
    is_list = isinstance(recorded, list) and isinstance(recomputed, list) and len(recorded) == len(recomputed)
    if is_list and any(isinstance(item, dict) for item in recorded):  # the points of a curve
        pairs = enumerate(zip(recorded, recomputed, strict=True))
        return [row for number, pair in pairs for row in differing(*pair, f"{name}/{number}")]
    return [] if recorded == recomputed else [(name.lstrip("/"), recorded, recomputed)]
