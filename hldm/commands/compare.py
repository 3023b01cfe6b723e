"""Compare the runs of a study: tables, a verdict in words, files for other programs, and a page for the browser.

    hldm compare outputs/geometry_curvature
    hldm compare outputs/main latex=true
    hldm compare "outputs/main/poincare-*" out=~/comparison
    hldm compare outputs/geometry_curvature wandb=true

Reads run directories alone, wherever they were made, and trains nothing. What is there of a study that still runs is
compared too. Files go to the folder of the runs unless out= names another one:

    comparison.html   one page for any browser, without a network: figures, curves, samples, provenance
    summary.csv       a line for each run, with the settings in which runs differ and every metric
    cells.csv         a line for each cell and figure: means with intervals, differences from the baseline
    comparison.json   all of it
    comparison.tex    tables for LaTeX, with latex=true
    wandb.json        which report and workspace on Weights & Biases are the study's, with wandb=true

    hldm compare <study folder, run directory or pattern> [out=<folder>] [latex=true] [wandb=true]
"""

import os
from pathlib import Path

from hldm import console
from hldm.errors import UserError
from hldm.paths import expanded
from hldm.run.directory import RunDirectory
from hldm.study.compare import print_runs_of
from hldm.tracking.workspace import check_dashboard

KEYS = ("study", "out", "latex", "wandb")


def main(argv: list[str]) -> None:
    """Compare what the arguments name."""
    arguments = console.key_values(
        [_with_key(argument) for argument in argv],
        {"study": str, "out": folder, "latex": console.yes_or_no, "wandb": console.yes_or_no},
        usage=__doc__,
        required=("study",),
    )
    runs = RunDirectory.find(arguments["study"])
    if not runs:
        raise UserError(
            f"{arguments['study']} names no runs. Name a folder of run directories, such as outputs/main, or a pattern "
            "in quotes."
        )
    if has_dashboard := arguments.get("wandb", False):
        check_dashboard()
    out = arguments.get("out") or runs[0].path.parent
    has_latex = arguments.get("latex", False)
    print_runs_of(out, runs, console.terminal(), has_latex=has_latex, has_dashboard=has_dashboard)


def _with_key(argument: str) -> str:
    """What has no key of this command is the study; a folder may have = in its name."""
    key, equals, _ = argument.partition("=")
    is_study = not argument.startswith("-") and (not equals or (key not in KEYS and expanded(argument).exists()))
    return f"study={argument}" if is_study else argument


def folder(text: str) -> Path:
    """A folder that exists and can be written, or can be made."""
    path = expanded(text)
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not there.is_dir():
        raise ValueError(f"{there} is a file. Name a folder.")
    if not os.access(there, os.W_OK):
        raise ValueError(f"{there} cannot be written. Name another folder.")
    return path
