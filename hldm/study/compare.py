"""The results of several runs beside each other: tables for the terminal, a verdict in words, and a picture."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from hldm.errors import UserError
from hldm.run.directory import RunDirectory
from hldm.study.cells import Finished
from hldm.study.comparable import words
from hldm.study.comparison import Comparison
from hldm.study.dashboard import board, check, write_dashboard
from hldm.study.drawing_process import Function, NotDrawn, draw
from hldm.study.fairness import summary
from hldm.study.figures import write_figures
from hldm.study.leave import write_files
from hldm.study.pictures import terminal_picture
from hldm.study.plan import Point
from hldm.study.rows import Row, rows_of_plan, rows_of_runs
from hldm.study.tables import print_cells, print_runs, written
from hldm.study.tiles import Sheet, sheet, write_sheet
from hldm.study.verdict import ONE_SEED, footnotes, overview, verdict
from hldm.study.whole import Study

MOST_VERDICTS = 12
"""Cells that have their verdict printed; the others have it in comparison.json."""

MOST_SENTENCES = 12
"""Exclusions that are printed."""


def print_comparison(plan: list[Point], console: Console) -> None:
    """What a command that ran this plan ends with; a run alone is compared with nothing."""
    # the study is nowhere kept while something is drawn
    folder = plan[0].config.study_folder
    pictures, chosen = print_study(Study.of(folder, rows_of_plan(plan)), console)
    _print_pictures(pictures, chosen, folder, console)


def print_runs_of(
    folder: Path,
    runs: Iterable[RunDirectory],
    console: Console,
    *,
    has_latex: bool = False,
    has_dashboard: bool = False,
) -> None:
    """The same of run directories, whatever commands made them, and figures for a paper.

    Args:
        folder: where files about all of them go.
        has_latex: whether tables for a paper are among the files.
        has_dashboard: whether Weights & Biases gets a report and a workspace.
    """
    rows, damaged = rows_of_runs(runs)
    if not rows:
        raise UserError(" ".join(damaged))
    tracker = check([row.point.config for row in rows]) if has_dashboard else None
    study = Study.of(folder, rows, damaged)
    del rows
    pictures, chosen = print_study(study, console, has_latex=has_latex)
    _print_figures(study, console)
    shown = board(study) if tracker else None
    del study
    _print_pictures(pictures, chosen, folder, console)
    if shown and tracker:
        links = write_dashboard(shown, tracker, folder)
        console.print(f"Report on Weights & Biases: {links.report}", soft_wrap=True)
        console.print(f"Workspace: {links.workspace}", soft_wrap=True)


def print_study(study: Study, console: Console, *, has_latex: bool = False) -> tuple[list[Path], Sheet]:
    """A table of cells or, with one seed each, of runs; what may be compared, the verdict, and the files it leaves.

    Returns:
        the picture of each run that has one, and which of them stand in the common picture.
    """
    if study.has_seeds:
        print_cells(study.comparison, console)
    else:
        print_runs(study.rows, console)
    for line in _unfinished(study):
        _print_wrapped(line, console, style="red")
    for line in (*study.damaged, *_captions(study.rows)):
        _print_wrapped(line, console)
    is_compared = len(study.cells) > 1
    if is_compared:
        print_verdict(study.comparison, console)
        console.print()
        _print_wrapped(summary(study.checks), console)
    if is_compared or study.has_seeds:
        for line in write_files(study, has_latex=has_latex):
            console.print(line, soft_wrap=True)
    pictures = [file for row in study.runs if row.run and (file := _picture(row.point))]
    return pictures, sheet(study.comparison, study.cells, _runs_folder(study))


def _unfinished(study: Study) -> Iterator[str]:
    """A sentence on each run that has not finished, with what is known of the reason."""
    unfinished = [row for row in study.runs if row.run is None]
    for row in unfinished[:MOST_SENTENCES]:
        name = row.point.run.path.name
        cell = f"{study.cell_of[name]}, seed {row.point.config.seed}: " if name in study.cell_of else ""
        yield f"{cell}{row.state}{f' ({row.error})' if row.error else ''}, {name}."
    if (more := len(unfinished) - MOST_SENTENCES) > 0:
        yield f"{more} more runs have not finished: see summary.csv."


def _captions(rows: Sequence[Row]) -> list[str]:
    """One line per way in which the numbers were made: as a rule, one. The floor moves a little with the seed."""
    lines: dict[str, list[Row]] = {}
    for row in rows:
        if row.run is not None and "samples" in (made := row.run.provenance):
            line = (
                f"n = {made['samples']} samples against {words(made.get('reference'))}, features of {_extractors(made)}"
            )
            lines.setdefault(line, []).append(row)
    return [
        f"{line}; FID of real images at this n: {_floor(of_line, 'floor_fid', '{:.3g}')}, "
        f"their label accuracy: {_floor(of_line, 'floor_label_accuracy', '{:.1%}')}."
        for line, of_line in lines.items()
    ]


def _floor(rows: Sequence[Row], name: str, form: str) -> str:
    """What real images score, the mean over the runs that say it."""
    known = [row.metrics[name] for row in rows if name in row.metrics]
    return written(fmean(known) if known else None, form)


def _extractors(made: Mapping[str, Any]) -> str:
    """The extractors, of which the first one leads."""
    there = made.get("extractors")
    sections = [one for one in there if isinstance(one, Mapping)] if isinstance(there, list) else []
    known = [f"{one.get('name', '?')} ({str(one.get('sha256', '?'))[:8]})" for one in sections]
    return " and ".join(known) or "?"


# ------------------------------------------------------------------------------------------------------------- verdict


def print_verdict(comparison: Comparison, console: Console) -> None:
    """What cannot be compared and why, then what the differences say."""
    for sentence in comparison.exclusions[:MOST_SENTENCES]:
        _print_wrapped(sentence, console)
    if (more := len(comparison.exclusions) - MOST_SENTENCES) > 0:
        console.print(f"{more} more exclusions are in comparison.json.")
    for sentence in comparison.cautions:
        _print_wrapped(f"Caution: {sentence}", console)
    compared = list(dict.fromkeys(one.cell for one in comparison.differences))
    if not any(len(one.seeds) > 1 for one in comparison.differences):
        if compared:
            _print_wrapped(ONE_SEED, console)
        return
    for cell in compared[:MOST_VERDICTS]:
        title, *sentences = verdict(comparison, cell)
        console.print()
        _print_wrapped(title, console, style="bold" if sentences else None)
        for sentence in sentences:
            _print_wrapped(sentence, console, indent="  ")
    console.print()
    if (more := len(compared) - MOST_VERDICTS) > 0:
        console.print(f"The verdicts on {more} more cells are in comparison.json.")
    for sentence in footnotes(comparison):
        _print_wrapped(sentence, console)
    console.print()
    _print_wrapped("In short", console, style="bold")
    for cell in compared[:MOST_VERDICTS]:
        _print_wrapped(overview(comparison, cell), console, indent="  ")


def _print_wrapped(text: str, console: Console, indent: str = "", style: str | None = None) -> None:
    lines = textwrap.wrap(text, console.width, initial_indent=indent, subsequent_indent=f"{indent}  ")
    console.print("\n".join(lines), style=style, highlight=False)


# ------------------------------------------------------------------------------------------------------------- picture


def _print_pictures(pictures: list[Path], chosen: Sheet, folder: Path, console: Console) -> None:
    """A tile for each cell; of a run alone, a corner of its own."""
    if len(pictures) > 1:
        what = f"{chosen.file.partition('.')[0].capitalize()} side by side: "
        for file in _drawn(
            folder / "comparison.png", console, write_sheet, chosen, folder / "comparison.png", ("png",)
        ):
            console.print(f"{what}{file}", soft_wrap=True)
    elif pictures:
        if console.is_terminal:
            console.print(terminal_picture(pictures[0]), soft_wrap=True)
        console.print(f"{pictures[0].stem.capitalize()}: {pictures[0]}", soft_wrap=True)


def _print_figures(study: Study, console: Console) -> None:
    target = study.folder / "figures"
    # of runs a figure needs no more than what they ended with
    cells = [replace(of, runs={seed: Finished(run.metrics) for seed, run in of.runs.items()}) for of in study.cells]
    if files := _drawn(target, console, write_figures, study.comparison, cells, _runs_folder(study), target):
        console.print(f"{len(files)} figures for a paper: {target}", soft_wrap=True)


def _drawn(target: Path, console: Console, function: Function, *arguments: Any) -> list[Path]:
    """The files that a function draws in a process of its own; where it cannot, a line says why."""
    try:
        return draw(function, *arguments)
    except NotDrawn as error:
        console.print(f"{target} cannot be written ({error}).", soft_wrap=True)
        return []


def _runs_folder(study: Study) -> Path:
    return study.runs[0].point.run.path.parent


def _picture(point: Point) -> Path | None:
    """The samples of a run, or its latents where it has none."""
    files = (point.run.path / f"{name}.png" for name in ("samples", "latents"))
    return next((file for file in files if file.is_file()), None)
