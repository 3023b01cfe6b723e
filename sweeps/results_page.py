"""A page of docs/results/ whose tables are filled from runs, and the command that runs what is missing.

Figures of finished runs are kept beside the page as JSON, under the arguments of train.py, so that another machine runs
only what is missing there, and a page says which runs it rests on.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hldm.config.compose import compose  # noqa: E402
from hldm.files import write_text_atomically  # noqa: E402 - the folder above is not on the path of a script
from hldm.run.directory import RunDirectory  # noqa: E402
from hldm.run.identity import run_identity  # noqa: E402

Figures = dict[str, dict[str, Any]]
"""Arguments of a run → its figures."""

Table = Callable[[Figures], Iterator[str]]
"""Figures → the lines of a Markdown table."""


class ResultsPage:
    """One page, its figures and its runs.

    Args:
        page: the Markdown file; a table stands between `<!-- name -->` and `<!-- end -->`.
        runs: the arguments of train.py of every run, in the order in which they are run.
        kept: names of the metrics that are kept.
        tables: name → what makes it.
    """

    def __init__(self, page: Path, runs: list[list[str]], kept: tuple[str, ...], tables: dict[str, Table]) -> None:
        self.page = page
        self.runs = runs
        self.kept = kept
        self.tables = tables

    @property
    def figures(self) -> Figures:
        """What is recorded so far."""
        file = self.page.with_suffix(".json")
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def directory(self, arguments: list[str], settings: list[str]) -> RunDirectory:
        """Where the run with these arguments is, or would be."""
        config = compose([*arguments, *settings])
        return RunDirectory(Path(config["paths"]["outputs"]) / config["study"] / run_identity(config).name)

    def collect(self, settings: list[str]) -> None:
        """Take the figures of finished runs."""
        figures = self.figures
        for arguments in self.runs:
            run = self.directory(arguments, settings)
            if run.state != "finished" or not (results := run.results):
                continue
            metrics = {key: results["metrics"][key] for key in self.kept if key in results["metrics"]}
            known = figures.get(" ".join(arguments), {})
            if {key: known.get(key) for key in metrics} != metrics:
                provenance = results["provenance"]
                figures[" ".join(arguments)] = {
                    **metrics,
                    **{
                        key: provenance[key]
                        for key in ("network_evaluations", "machine", "threads")
                        if key in provenance
                    },
                    "torch": provenance["versions"]["torch"],
                    "date": date.today().isoformat(),
                    "seconds": run.status.get("seconds", {}),
                }
        text = json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
        write_text_atomically(self.page.with_suffix(".json"), text)

    def fill(self) -> None:
        """Replace what stands between the page's markers by the tables of what is recorded."""
        text = self.page.read_text(encoding="utf-8")
        for name, table in self.tables.items():
            lines = "\n".join(table(self.figures))
            marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
            text = marked.sub(lambda found, lines=lines: f"{found[1]}{lines}\n{found[2]}", text)
        write_text_atomically(self.page, text)

    def main(self, arguments: list[str]) -> int:
        """Run what is missing and fill the page; only fill it with `--tables`. Exit status of the first failed run."""
        settings = [argument for argument in arguments if argument != "--tables"]
        self.collect(settings)
        self.fill()
        for run in [] if "--tables" in arguments else self.runs:
            if " ".join(run) in self.figures:
                continue
            status = subprocess.run([sys.executable, str(ROOT / "train.py"), *run, *settings], check=False).returncode
            if status:
                return status
            self.collect(settings)
            self.fill()
        print(f"{len(self.figures)} of {len(self.runs)} runs: {self.page}")
        return 0


def header(*names: str) -> Iterator[str]:
    """The first two lines of a table."""
    yield f"| {' | '.join(names)} |"
    yield "|" + "---|" * len(names)


def spread(values: list[float], digits: int = 2) -> str:
    """The mean and, in brackets, the values it is of."""
    if not values:
        return "–"
    return f"{fmean(values):.{digits}f} ({', '.join(f'{value:.{digits}f}' for value in values)})"


def of_seeds(figures: Figures, seeds: Iterable[int], run: Callable[[int], list[str]]) -> dict[int, dict[str, Any]]:
    """Seed → the figures of the run that `run` names for it, of the seeds that there are."""
    return {seed: found for seed in seeds if (found := figures.get(" ".join(run(seed))))}


def difference(values: Mapping[int, float], others: Mapping[int, float], digits: int = 2) -> str:
    """Mean of values − others over the seeds of both, with its 95 % interval by Student's t, from two seeds on."""
    apart = [values[seed] - others[seed] for seed in values if seed in others]
    if len(apart) < 2:
        return "–"
    margin = stats.t.ppf(0.975, len(apart) - 1) * stdev(apart) / len(apart) ** 0.5
    return f"{fmean(apart):+.{digits}f} ± {margin:.{digits}f}"
