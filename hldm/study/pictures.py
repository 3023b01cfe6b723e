"""The sample grids of runs: taken from their pictures, side by side, and a few digits in the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from hldm.drawing import COLUMNS, GRID, beside, caption, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLOCKS = " ▄▀█"  # index: 2 × upper pixel + lower pixel

DAMAGED = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for a file that is no picture any more."""

FEW_TILES = 12
"""Beyond so many, each has fewer pixels."""


class Tile(NamedTuple):
    """A picture with what stands above it."""

    title: str
    file: Path


def grid_of(png: Path) -> tuple[Image.Image, list[str]]:
    """The images of a sample grid, each pixel one pixel, and the words above its columns.

    Of a picture that does not say where its images lie, as those of earlier versions: all of it, and no words.
    """
    with Image.open(png) as picture:
        picture.load()
    box = str(picture.info.get(GRID, "")).split()
    if len(box) != 5 or not all(part.isdigit() for part in box):
        return picture, []
    left, top, width, height, scale = map(int, box)
    grid = picture.crop((left, top, left + width, top + height))
    small = grid.resize((max(1, width // max(1, scale)), max(1, height // max(1, scale))), Image.Resampling.NEAREST)
    return small, str(picture.info.get(COLUMNS, "")).splitlines()


def words_above(png: Path) -> list[str]:
    """The words above the columns of a sample grid; none where the file is damaged."""
    try:
        return grid_of(png)[1]
    except DAMAGED:
        return []


@styled()
def tiles_figure(title: str, rows: Sequence[tuple[str, Sequence[Tile | None]]]) -> "Figure":
    """Pictures in rows with their names.

    Args:
        rows: what stands beside each row, and its tiles from the left; None leaves a gap.
    """
    columns = max(len(tiles) for _, tiles in rows)
    count = sum(tile is not None for _, tiles in rows for tile in tiles)
    pixels = 640 if count <= FEW_TILES else 320
    width = max(60.0, min(52.0, 240 / columns) * columns)
    side = width / columns
    found = [[None if tile is None else _shown(tile.file, pixels) for tile in tiles] for _, tiles in rows]
    heights = [max((p.height / p.width for p in row if p is not None), default=1.0) * side + 6 for row in found]
    figure = new_figure(width + 6, sum(heights) + 8)
    every = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for (name, tiles), pictures, line in zip(rows, found, every, strict=True):
        if name:
            beside(line[0], name, 10)
        for axes in line:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for axes, tile, picture in zip(line, tiles, pictures, strict=False):
            if tile is not None and picture is not None:
                colours: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255} if picture.mode == "L" else {}
                # in a PDF the pixels stay as they are; a PNG has fewer, and takes their means
                axes.imshow(picture, interpolation="antialiased", **colours)
                axes.set_title(tile.title, fontsize=7)
    caption(figure, title)
    return figure


def _shown(png: Path, pixels: int) -> Image.Image | None:
    """None where the file is damaged: the other tiles are drawn."""
    try:
        picture = grid_of(png)[0]
    except DAMAGED:
        return None
    picture = picture if picture.mode == "L" else picture.convert("RGB")
    picture.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    return picture


def terminal_picture(png: Path, columns: int = 80, crop: tuple[int, int] = (151, 61)) -> str:
    """The upper left corner of a grid in half blocks, two pixels to a character: light on a dark terminal.

    Of a damaged file, the sentence that says so.

    Args:
        png: a sample grid.
        columns: width in characters.
        crop: width and height of the corner in pixels; by default two rows of five digits.
    """
    try:
        picture = grid_of(png)[0].convert("L")
    except DAMAGED:
        return f"{png.name} is damaged and is not shown. The run's numbers do not depend on it."
    corner = picture.crop((0, 0, min(crop[0], picture.width), min(crop[1], picture.height)))
    height = 2 * round(corner.height * columns / corner.width / 2)
    small = corner.resize((columns, height), Image.Resampling.BOX)
    # a grey picture has one number per pixel, where Pillow's annotation allows a tuple
    bright = [[small.getpixel((x, y)) > 110 for x in range(columns)] for y in range(height)]  # type: ignore[operator]  # grey: a number
    lines = (
        "".join(BLOCKS[2 * upper + lower] for upper, lower in zip(bright[y], bright[y + 1], strict=True)).rstrip()
        for y in range(0, height, 2)
    )
    return "\n".join(lines)
