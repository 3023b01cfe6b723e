"""The results of several runs beside each other: a table for the terminal and a picture."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from hldm.config.options import LEAVES_RESULT
from hldm.config.schema import RunConfig
from hldm.run.directory import Snapshot
from hldm.study.pictures import comparison_picture, terminal_picture
from hldm.study.plan import Point

COLUMNS = {
    "−log p(x)": ("nll", "{:.2f}"),
    "FID": ("fid", "{:.3g}"),
    "IS": ("inception_score", "{:.2f}"),
    "KID": ("kid", "{:.2g}"),
    "δ_rel": ("delta_rel", "{:.3f}"),
    "label acc": ("label_accuracy", "{:.1%}"),
}
"""Heading → name in results.json and how it is written. One that no run has is left out."""

IN_COLUMNS = ("geometry", "curvature", "seed")


MOST_TILES = 60
"""Sample grids in one picture: with hundreds of runs it would be larger than anybody opens."""


MANY_TILES = 12
"""Beyond so many, they are drawn smaller."""


@dataclass(frozen=True)
class Row:
    """A point with the files of its run, read once."""

    point: Point
    run: Snapshot


def print_comparison(plan: list[Point], console: Console) -> None:
    """The table of all points, a caption that says what the numbers rest on, and the picture's path."""
    runs = {point.run.path: point.run for point in plan}
    snapshots = {path: run.snapshot() for path, run in runs.items()}
    rows = [Row(point, snapshots[point.run.path]) for point in plan]
    print_table(rows, console)
    for line in _captions(rows):
        console.print(line)
    finished = [row for row in rows if row.point.original is None and row.run.state == "finished"]
    short = short_names({key for row in rows for key in _others(row.point)})
    pictures = [(_title(row, short), file) for row in finished if (file := _picture(row.point))]
    if len(pictures) > 1:
        _print_picture(pictures, plan[0].config.study_folder / "comparison.png", console)
    elif pictures:
        if console.is_terminal:
            console.print(terminal_picture(pictures[0][1]), soft_wrap=True)
        console.print(f"{_kind(pictures)}: {pictures[0][1]}", soft_wrap=True)


def print_table(rows: list[Row], console: Console) -> None:
    """A line for each point."""
    keys = {key for row in rows for key in _others(row.point)}
    short = short_names(keys)
    has_more = len(rows) > 1 and bool(keys)
    # where all differ in one other setting alone it is the heading, which leaves its values more room
    only = next(iter(keys)) if len(keys) == 1 else None
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=has_more)
    table.add_column("#", justify="right")
    for name in ("geometry", "curvature"):
        table.add_column(name)
    table.add_column("seed", justify="right")
    also = [_others(row.point).get(only, "") if only else _more(row.point, short) for row in rows]
    if has_more:
        heading = short[only] if only else "also"
        table.add_column(heading, overflow="fold", min_width=min(18, max(map(len, also))))
    columns = {name: column for name, column in COLUMNS.items() if any(column[0] in row.run.metrics for row in rows)}
    for name in (*columns, "minutes"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, row in enumerate(rows, start=1):
        table.add_row(
            str(number),
            *_names(row),
            *(also[number - 1 : number] if has_more else ()),
            *_figures(row.run, columns.values()),
            style="red" if row.run.state == "failed" else None,
        )
    console.print(table)


def _print_picture(pictures: list[tuple[str, Path]], target: Path, console: Console) -> None:
    shown = pictures[:MOST_TILES]
    first = "" if len(shown) == len(pictures) else f" (the first {MOST_TILES} of {len(pictures)})"
    try:
        comparison_picture(shown, target, **({"columns": 6, "width": 240} if len(shown) > MANY_TILES else {}))
    except OSError as error:  # outputs that are only read
        console.print(f"{target} cannot be written ({error.strerror or error}).", soft_wrap=True)
    else:
        console.print(f"{_kind(pictures)} side by side{first}: {target}", soft_wrap=True)


def _names(row: Row) -> list[str]:
    config, original = row.point.config, row.point.original
    same = f" (= {original})" if original else ""
    return [f"{config.geometry.name}{same}", _curvature(config, row.run), str(config.seed)]


def _curvature(config: RunConfig, run: Snapshot) -> str:
    if config.is_flat or not config.curvature.is_learnable:
        return config.curvature_words
    learned = [value for name, value in sorted(run.metrics.items()) if name.startswith("curvature_") and value]
    if learned:
        return "learned " + ", ".join(f"{c:.3g}" for c in learned)
    return f"learnable from {config.curvature.value:g}"


def _others(point: Point) -> dict[str, str]:
    """Overrides that have no column of their own, setting → value."""
    parts = (override.partition("=") for override in point.overrides)
    shown = (*IN_COLUMNS, *LEAVES_RESULT)
    return {key: value for key, _, value in parts if key.split(".")[0] not in shown}


def _more(point: Point, short: Mapping[str, str]) -> str:
    return " ".join(f"{short[key]}={value}" for key, value in _others(point).items())


def short_names(keys: Collection[str]) -> dict[str, str]:
    """Setting → the shortest end of its name that no other of these settings, and no column, has."""

    def ends(key: str) -> list[str]:
        parts = key.split(".")
        return [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]

    taken = [*IN_COLUMNS, *(end for key in keys for end in ends(key))]
    return {key: next((end for end in ends(key) if taken.count(end) == 1), key) for key in keys}


def _figures(run: Snapshot, columns: Collection[tuple[str, str]]) -> list[str]:
    if run.state != "finished":
        return [run.state, *[""] * len(columns)]
    figures = [_written(run.metrics.get(name), form) for name, form in columns]
    return [*figures, _written(run.status.get("minutes"), "{:.1f}")]


def _written(value: Any, form: str) -> str:
    return form.format(value) if isinstance(value, int | float) else "–"


def _captions(rows: list[Row]) -> list[str]:
    """One line per way in which the numbers were made: as a rule, one."""
    lines: dict[str, None] = {}
    for row in rows:
        provenance = row.run.provenance
        if row.run.state != "finished" or "samples" not in provenance:
            continue
        floor = _written(row.run.metrics.get("floor_fid"), "{:.3g}")
        reference = provenance.get("reference", "the test images")
        line = f"n = {provenance['samples']} samples against {reference}, features of {_extractor(provenance)};"
        lines[f"{line} FID of real images at this n: {floor}."] = None
    return list(lines)


def _extractor(provenance: Mapping[str, Any]) -> str:
    """The extractor that leads, whose metrics are in the table."""
    extractors = provenance.get("extractors")
    extractor = extractors[0] if isinstance(extractors, list) and extractors else None
    if not isinstance(extractor, Mapping):
        return "?"
    digest = str(extractor.get("sha256", ""))[:8]
    return f"{extractor.get('name', '?')}" + (f" ({digest})" if digest else "")


def _picture(point: Point) -> Path | None:
    """The samples of a run, or its latents where it has none."""
    files = (point.run.path / f"{name}.png" for name in ("samples", "latents"))
    return next((file for file in files if file.is_file()), None)


def _kind(pictures: list[tuple[str, Path]]) -> str:
    return pictures[0][1].stem.capitalize()


def _title(row: Row, short: Mapping[str, str]) -> str:
    geometry, curvature, seed = _names(row)
    c = "" if curvature == "flat" else f" c = {curvature}" if curvature[0].isdigit() else f" c {curvature}"
    more = f" {_more(row.point, short)}" if _others(row.point) else ""
    name, (key, form) = next(
        ((h, column) for h, column in COLUMNS.items() if column[0] in row.run.metrics), ("FID", COLUMNS["FID"])
    )
    return f"{geometry}{c}, seed {seed}{more}: {name} {_written(row.run.metrics.get(key), form)}"
