"""The results of several runs beside each other: tables for the terminal, a verdict in words, and a picture."""

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from hldm.files import write_text_atomically
from hldm.study.cells import Cell, Finished, cells
from hldm.study.comparable import words
from hldm.study.comparison import Comparison, compare
from hldm.study.pictures import terminal_picture
from hldm.study.plan import Point
from hldm.study.tables import Row, print_cells, print_runs, written
from hldm.study.tiles import Sheet, sheet, write_sheet
from hldm.study.verdict import ONE_SEED, footnotes, verdict

MOST_VERDICTS = 12
"""Cells that have their verdict printed; the others have it in comparison.json."""

MOST_SENTENCES = 12
"""Exclusions that are printed."""


def print_comparison(plan: list[Point], console: Console) -> None:
    """A table of cells or, with one seed each, of runs; what may be compared, the verdict, and the picture's path."""
    rows = _rows(plan)
    pictures = [file for row in rows if row.point.original is None and row.run and (file := _picture(row.point))]
    study = plan[0].config.study_folder
    chosen = sheet(*_print_figures(rows, console), study)
    del rows  # a picture takes as much memory as the figures of many runs
    if len(pictures) > 1:
        _print_picture(chosen, study / "comparison.png", console)
    elif pictures:
        if console.is_terminal:
            console.print(terminal_picture(pictures[0]), soft_wrap=True)
        console.print(f"{pictures[0].stem.capitalize()}: {pictures[0]}", soft_wrap=True)


def _print_figures(rows: list[Row], console: Console) -> tuple[Comparison, list[Cell]]:
    known = {row.point.run.path: row.run for row in rows}
    found = cells([row.point for row in rows], lambda point: known[point.run.path])
    comparison = compare(found)
    has_seeds = any(len(cell.runs) + len(cell.unfinished) > 1 for cell in found)
    if has_seeds:
        print_cells(comparison, console)
    else:
        print_runs(rows, console)
    for line in _captions(rows):
        console.print(line)
    if len(found) > 1:
        print_verdict(comparison, console)
    if len(found) > 1 or has_seeds:
        _write(comparison, rows[0].point.config.study_folder / "comparison.json", console)
    return comparison, found


def _rows(plan: list[Point]) -> list[Row]:
    found: dict[Path, Row] = {}
    rows = []
    for point in plan:
        if (first := found.get(point.run.path)) is None:
            run = point.run.snapshot()
            first = Row(point, run.state, Finished.of_snapshot(run), run.status.get("minutes"))
            found[point.run.path] = first
        rows.append(Row(point, first.state, first.run, first.minutes))
    return rows


def _captions(rows: list[Row]) -> list[str]:
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


def _floor(rows: list[Row], name: str, form: str) -> str:
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


def _print_wrapped(text: str, console: Console, indent: str = "", style: str | None = None) -> None:
    lines = textwrap.wrap(text, console.width, initial_indent=indent, subsequent_indent=f"{indent}  ")
    console.print("\n".join(lines), style=style, highlight=False)


def _write(comparison: Comparison, file: Path, console: Console) -> None:
    """All of it for programs, with the sentences."""
    compared = dict.fromkeys(one.cell for one in comparison.differences)
    content = {**comparison.as_json(), "verdicts": {cell: verdict(comparison, cell) for cell in compared}}
    try:
        # in one line: indented, a thousand runs take a second and 25 MB more
        write_text_atomically(file, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")
    except OSError as error:  # outputs that are only read
        console.print(f"{file} cannot be written ({error.strerror or error}).", soft_wrap=True)


# ------------------------------------------------------------------------------------------------------------- picture


def _print_picture(chosen: Sheet, target: Path, console: Console) -> None:
    try:
        files = write_sheet(chosen, target, ("png",))
    except OSError as error:  # outputs that are only read
        console.print(f"{target} cannot be written ({error.strerror or error}).", soft_wrap=True)
    else:
        for file in files:
            console.print(f"{chosen.file.partition('.')[0].capitalize()} side by side: {file}", soft_wrap=True)


def _picture(point: Point) -> Path | None:
    """The samples of a run, or its latents where it has none."""
    files = (point.run.path / f"{name}.png" for name in ("samples", "latents"))
    return next((file for file in files if file.is_file()), None)
