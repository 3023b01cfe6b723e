"""The runs of a study beside each other, a tile for each cell: rows are geometries, columns curvatures.

Samples come from the pictures of the runs, latents from their numbers at one scale for all.
"""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hldm.drawing import (
    MARKERS,
    PALETTE,
    beside,
    caption,
    circles,
    distances,
    in_sequence,
    legend,
    new_figure,
    nice,
    save,
    styled,
)
from hldm.study.cells import Cell
from hldm.study.comparison import Comparison
from hldm.study.page.disks import read
from hldm.study.pictures import Tile, tiles_figure, words_above
from hldm.study.series import series_name
from hldm.study.tables import figure_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_TILES = 60
"""In one picture: with hundreds of cells it would be larger than anybody opens."""

MOST_ACROSS = 10
"""Curvatures beside each other; of more, as many are chosen evenly."""

WRAPPED = 4
"""Tiles in a line where curvature does not vary; more where there are many."""

MOST_NAMES = 20
"""In a legend."""

MOST_SEEDS = 12
"""Of a cell that is alone."""

SAMPLES, LATENTS = "samples.png", "latents.json"

SHOWN = ("fid", "nll", "elbo_flow", "elbo")
"""The first of these that a cell has stands above its tile."""


class Place(NamedTuple):
    """A run that has a tile.

    Attributes:
        title: what stands above.
        folder: the run directory.
    """

    title: str
    folder: Path


class Sheet(NamedTuple):
    """The runs that have a tile, without all that a comparison knows of them.

    Attributes:
        file: of a run: what is shown.
        words: which seed is shown, and how many curvatures of how many.
        rows: what stands beside each row, and its places from the left.
    """

    file: str
    words: str
    rows: list[tuple[str, list[Place | None]]]


EMPTY = Sheet("", "", [])


def sheet(comparison: Comparison, cells: Sequence[Cell], study: Path) -> Sheet:
    """Of the runs' samples, or of their latents where none has samples."""
    return next((found for file in (SAMPLES, LATENTS) if (found := places(comparison, cells, study, file)).rows), EMPTY)


def places(comparison: Comparison, cells: Sequence[Cell], study: Path, file: str) -> Sheet:
    """Where the run of each cell stands.

    Where curvature varies, a row has the cells of one geometry (and the other settings of a series) in the order of
    their curvature; flat ones, which have none, stand on the left. Otherwise cells stand in lines as they come. A
    single cell has a tile for each of its seeds.

    Args:
        study: folder of the runs.
        file: what a run must have to be shown.
    """

    def folder(cell: Cell, seed: int) -> Path | None:
        path = study / cell.run_names[seed] if seed in cell.run_names else None
        return path if path and seed in cell.runs and (path / file).is_file() else None

    if len(cells) == 1:
        there = [(seed, path) for seed in cells[0].runs if (path := folder(cells[0], seed))]
        some = "" if len(there) <= MOST_SEEDS else f", {MOST_SEEDS} of {len(there)} seeds"
        lines = _wrapped([Place(f"seed {seed}", path) for seed, path in there[:MOST_SEEDS]])
        return Sheet(file, comparison.cells[0].name + some, lines)
    counts = Counter(seed for cell in cells for seed in cell.runs if folder(cell, seed))
    if not counts:
        return EMPTY
    # the same noise in all of them
    seed = max(counts, key=lambda seed: (counts[seed], -seed))
    known = [
        (cell, series_name(cell, of.name), of, path)
        for cell, of in zip(cells, comparison.cells, strict=True)
        if (path := folder(cell, seed))
    ]
    curvatures = list(dict.fromkeys(cell.config.curvature_words for cell, *_ in known if not cell.config.is_flat))
    if len(curvatures) < 2:
        lines = _wrapped([Place(_title(of.name, of, comparison), path) for *_, of, path in known])
        return Sheet(file, f"seed {seed}", lines)
    across = _evenly(curvatures, MOST_ACROSS)
    rows: dict[str, list[Place | None]] = {}
    for cell, name, of, path in known:
        line = rows.setdefault(name, [None] * len(across))
        c = cell.config.curvature_words
        if cell.config.is_flat:
            line[0] = Place(_title("flat", of, comparison), path)
        elif c in across:
            line[across.index(c)] = Place(_title(f"c = {c}" if c[0].isdigit() else c, of, comparison), path)
    some = "" if len(across) == len(curvatures) else f", {len(across)} of {len(curvatures)} curvatures"
    return Sheet(file, f"seed {seed}{some}", list(rows.items())[: MOST_TILES // len(across)])


def _wrapped(found: list[Place]) -> list[tuple[str, list[Place | None]]]:
    shown = found[:MOST_TILES]
    lines = math.ceil(len(shown) / max(WRAPPED, math.ceil(len(shown) ** 0.5)))
    across = math.ceil(len(shown) / lines) if lines else 0
    return [("", list(shown[i : i + across])) for i in range(0, len(shown), max(1, across))]


def _evenly(values: list[str], most: int) -> list[str]:
    """So many of them with both ends, numbers in their order and then words."""
    ordered = sorted(values, key=lambda c: (not c[0].isdigit(), float(c) if c[0].isdigit() else 0.0))
    if len(ordered) <= most:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (most - 1))] for i in range(most)]


def _title(name: str, of: Any, comparison: Comparison) -> str:
    """With the mean over seeds of the figure that counts most."""
    one = next((one for key in SHOWN for one in comparison.figures if one.name == key and key in of.intervals), None)
    return name if one is None else f"{name}\n{one.measure.heading.split(',')[0]} {figure_text(one, of)}"


def write_sheet(found: Sheet, target: Path, kinds: Sequence[str] = ("png", "pdf")) -> list[Path]:
    """Samples side by side at the same noise, or latents at one scale; nothing where no run has them."""
    if found.file == SAMPLES and found.rows:
        tiles = [
            (name, [place and Tile(place.title, place.folder / SAMPLES) for place in line]) for name, line in found.rows
        ]
        columns = next((words for _, line in tiles for tile in line if tile and (words := words_above(tile.file))), [])
        by = f"; columns of a tile: {', '.join(columns)}" if 0 < len(columns) <= 12 else ""
        return save(tiles_figure(f"Samples, {found.words}{by}", tiles), target, kinds)
    latents = [
        (name, [place and (place.title, read(place.folder / LATENTS)) for place in line]) for name, line in found.rows
    ]
    if not any(tile is not None and tile[1] is not None for _, line in latents for tile in line):
        return []
    return save(latent_tiles_figure(found.words, latents), target, kinds)


@styled()
def latent_tiles_figure(
    what: str, rows: Sequence[tuple[str, Sequence[tuple[str, dict[str, Any] | None] | None]]]
) -> Any:
    """Planes in normal coordinates, where the length is the distance to the origin; others by two components.

    All tiles have one scale, so that a plane of large curvature looks as small as it is for its latents. Where it lies
    in the picture, a circle at 1/√c says from where on space is curved for them.

    Args:
        what: which runs, in words.
        rows: what stands beside each row; title and content of latents.json for each tile.
    """
    columns = max(len(line) for _, line in rows)
    side = min(46.0, 240 / columns)
    figure = new_figure(max(90.0, side * columns + 8), (side + 12) * len(rows) + 16)
    every = figure.subplots(len(rows), columns, squeeze=False)
    shown = [tile[1] for _, line in rows for tile in line if tile is not None and tile[1] is not None]
    furthest = {
        flat: _furthest(one for one in shown if (one["kind"] == "components") == flat) for flat in (True, False)
    }
    labels = sorted({label for one in shown for label in one["labels"]})
    names = next(one["class_names"] for one in shown)
    is_depth = all(str(name).startswith("depth ") for name in names)
    sequence = in_sequence(len(names)) if is_depth else []
    how = {
        label: {"color": sequence[label % len(sequence)], "marker": "o"} if is_depth
        else {"color": PALETTE[label % len(PALETTE)], "marker": MARKERS[label % len(MARKERS)]}
        for label in labels
    }  # fmt: skip
    for (name, line), of_row in zip(rows, every, strict=True):
        if name:
            beside(of_row[0], name)
        for axes, tile in zip(of_row, [*line, *[None] * (columns - len(line))], strict=True):
            if tile is None or tile[1] is None:
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                continue
            axes.set_title(tile[0], fontsize=7)
            _draw(axes, tile[1], furthest[tile[1]["kind"] == "components"], how)
    for label in labels[:MOST_NAMES]:
        figure.axes[0].scatter([], [], label=_name(names, label), **{"s": 16, **how[label]})
    legend(figure)
    kinds = {one["kind"] for one in shown}
    scale = "two principal components" if kinds == {"components"} else "length = distance to the origin"
    caption(figure, f"Latents of test images at one scale ({scale}), {what}")
    return figure


def _name(names: Sequence[Any], label: int) -> str:
    return str(names[label]) if label < len(names) else str(label)


def _furthest(found: Any) -> float:
    return max((math.hypot(*point) for one in found for point in one["points"]), default=0.0)


def _draw(axes: "Axes", one: dict[str, Any], furthest: float, how: dict[int, dict[str, Any]]) -> None:
    reach = nice(1.05 * furthest)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.locator_params(nbins=4)
    words = [] if one.get("sqrt_c_rms") is None else [f"√c·rms {one['sqrt_c_rms']:.2g}"]
    if one["kind"] == "components":
        for k, share in enumerate(one.get("explained") or (), 1):
            name = f"component {k}, {100 * share:.0f} %"
            (axes.set_xlabel if k == 1 else axes.set_ylabel)(name, fontsize=6, labelpad=1)
    else:
        c = one["curvature"]
        rings = distances(furthest) if c == 0 else [(c**-0.5, "")]
        circles(axes, [(radius, "") for radius, _ in rings if radius < reach])
        words.append(
            f"circle: 1/√c = {c**-0.5:.3g}" if c else f"circles: r = {', '.join(f'{r:.3g}' for r, _ in rings)}"
        )
    for label, looks in how.items():
        xs = [point for point, own in zip(one["points"], one["labels"], strict=True) if own == label]
        if xs:
            axes.scatter(
                [x for x, _ in xs], [y for _, y in xs], **{"s": 4, "alpha": 0.75, "linewidths": 0, "zorder": 2, **looks}
            )
    axes.set_title("\n".join([axes.get_title(), "; ".join(words)]) if words else axes.get_title(), fontsize=7)
