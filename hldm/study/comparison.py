"""The results of several runs beside each other: a table for the terminal and a picture."""

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from hldm.study.config import get
from hldm.study.identity import is_flat, is_learnable
from hldm.study.overrides import LEAVES_RESULT
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


def terminal() -> Console:
    """A console that prints user text as it is, 100 columns wide where nobody watches."""
    width = None if sys.stdout.isatty() else 100
    return Console(width=width, markup=False, highlight=False, soft_wrap=False)


def print_comparison(plan: list[Point], console: Console) -> None:
    """The table of all points, a caption that says what the numbers rest on, and the picture's path."""
    has_more = len(plan) > 1 and any(_more(point) for point in plan)
    # where all differ in one other setting alone it is the heading, which leaves its values more room
    keys = {key for point in plan for key in _others(point)}
    only = keys.pop() if len(keys) == 1 else None
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=has_more)
    table.add_column("#", justify="right")
    for name in ("geometry", "curvature"):
        table.add_column(name)
    table.add_column("seed", justify="right")
    also = [_others(point).get(only, "") if only else _more(point) for point in plan]
    if has_more:
        heading = only.split(".")[-1] if only else "also"
        table.add_column(heading, overflow="fold", min_width=min(18, max(map(len, also))))
    metrics = [(point.run.results or {}).get("metrics", {}) for point in plan]
    columns = {name: column for name, column in COLUMNS.items() if any(column[0] in run for run in metrics)}
    for name in (*columns, "minutes"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, point in enumerate(plan, start=1):
        table.add_row(
            str(number),
            *_names(point),
            *(also[number - 1 : number] if has_more else ()),
            *_figures(point, columns.values()),
            style="red" if point.run.state == "failed" else None,
        )
    console.print(table)
    for line in _captions(plan):
        console.print(line)
    finished = [point for point in plan if point.original is None and point.run.state == "finished"]
    pictures = [(_title(point), file) for point in finished if (file := _picture(point))]
    if len(pictures) > 1:
        target = plan[0].run.path.parent / "comparison.png"
        comparison_picture(pictures, target)
        console.print(f"{_kind(pictures)} side by side: {target}", soft_wrap=True)
    elif pictures:
        if console.is_terminal:
            console.print(terminal_picture(pictures[0][1]), soft_wrap=True)
        console.print(f"{_kind(pictures)}: {pictures[0][1]}", soft_wrap=True)


def print_metrics(metrics: Mapping[str, float], console: Console) -> None:
    """Every metric of one run, with ± its standard deviation over sampling seeds where there are several."""
    cells = []
    for name, value in metrics.items():
        if not name.endswith("_seed_sd"):
            sd = metrics.get(f"{name}_seed_sd")
            cells += [name, f"{value:.4g}" + ("" if sd is None else f" ± {sd:.2g}")]
    table = Table(box=None, show_header=False, pad_edge=False)
    per_row = 6  # three names with their values
    for _ in range(per_row):
        table.add_column(overflow="fold")
    for start in range(0, len(cells), per_row):
        table.add_row(*cells[start : start + per_row])
    console.print(table)


def _names(point: Point) -> list[str]:
    same = f" (= {point.original})" if point.original else ""
    return [f"{get(point.config, 'geometry.name')}{same}", _curvature(point), str(point.config["seed"])]


def _curvature(point: Point) -> str:
    if is_flat(point.config):
        return "flat"
    start = get(point.config, "curvature.value")
    if not is_learnable(point.config):
        return f"{start:g}"
    metrics = (point.run.results or {}).get("metrics", {})
    learned = [value for name, value in sorted(metrics.items()) if name.startswith("curvature_") and value]
    return "learned " + ", ".join(f"{c:.3g}" for c in learned) if learned else f"learnable from {start:g}"


def _others(point: Point) -> dict[str, str]:
    """Overrides that have no column of their own, setting → value."""
    parts = (override.partition("=") for override in point.overrides)
    shown = (*IN_COLUMNS, *LEAVES_RESULT)
    return {key: value for key, _, value in parts if key.split(".")[0] not in shown}


def _more(point: Point) -> str:
    return " ".join(f"{key.split('.')[-1]}={value}" for key, value in _others(point).items())


def _figures(point: Point, columns: Collection[tuple[str, str]]) -> list[str]:
    state = point.run.state
    if state != "finished":
        return [state, *[""] * len(columns)]
    metrics = (point.run.results or {}).get("metrics", {})
    figures = [_written(metrics.get(name), form) for name, form in columns]
    return [*figures, _written(point.run.status.get("minutes"), "{:.1f}")]


def _written(value: Any, form: str) -> str:
    return form.format(value) if isinstance(value, int | float) else "–"


def _captions(plan: list[Point]) -> list[str]:
    """One line per way in which the numbers were made: as a rule, one."""
    lines: dict[str, None] = {}
    for point in plan:
        results: Mapping[str, Any] = (point.run.state == "finished" and point.run.results) or {}
        provenance = results.get("provenance", {})
        if "samples" not in provenance:
            continue
        floor = _written(results.get("metrics", {}).get("floor_fid"), "{:.3g}")
        reference = provenance.get("reference", "the test images")
        line = f"n = {provenance['samples']} samples against {reference}, features of {_extractor(provenance)};"
        lines[f"{line} FID of real images at this n: {floor}."] = None
    return list(lines)


def _extractor(provenance: Mapping[str, Any]) -> str:
    extractor = provenance.get("extractor", "?")
    if not isinstance(extractor, Mapping):
        return str(extractor)
    digest = str(extractor.get("sha256", ""))[:8]
    return f"{extractor.get('name', '?')}" + (f" ({digest})" if digest else "")


def _picture(point: Point) -> Path | None:
    """The samples of a run, or its latents where it has none."""
    files = (point.run.path / f"{name}.png" for name in ("samples", "latents"))
    return next((file for file in files if file.is_file()), None)


def _kind(pictures: list[tuple[str, Path]]) -> str:
    return pictures[0][1].stem.capitalize()


def _title(point: Point) -> str:
    figures = (point.run.results or {}).get("metrics", {})
    geometry, curvature, seed = _names(point)
    c = "" if curvature == "flat" else f" c = {curvature}" if curvature[0].isdigit() else f" c {curvature}"
    more = f" {_more(point)}" if _more(point) else ""
    name, (key, form) = next(
        ((h, column) for h, column in COLUMNS.items() if column[0] in figures), ("FID", COLUMNS["FID"])
    )
    return f"{geometry}{c}, seed {seed}{more}: {name} {_written(figures.get(key), form)}"
