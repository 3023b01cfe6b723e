"""Grids of images as PNG, each pixel as it is, with words above columns and beside rows; and arrays for other programs.

A PNG says where its images lie (`hldm.drawing.GRID`), so that others can take them without the words.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from torch import Tensor

from hldm.drawing import COLUMNS, GRID, font_file
from hldm.files import write_atomically

MOST_COLUMNS = 32
"""Of a grid with a column per class."""

LETTERS = 18
"""Height of the words beside a grid, in pixels."""

LONGEST = 160
"""Pixels for the words above a column or beside a row; what is longer is cut."""


def image_grid(images: Tensor, columns: int, gap: int = 2) -> Image.Image:
    """uint8 images (N, C, H, W), C = 1 or 3, laid out row by row with a light gap between them."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    canvas = torch.full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), 96, dtype=torch.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap) + gap, (i % columns) * (width + gap) + gap
        canvas[:, top : top + height, left : left + width] = image
    array = canvas.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if channels == 1 else array)


def save_grid(
    path: Path,
    images: Tensor,
    columns: int,
    scale: int = 2,
    *,
    column_names: Sequence[str] = (),
    row_names: Sequence[str] = (),
) -> None:
    """Write a grid as PNG, each pixel `scale` pixels wide.

    Args:
        column_names: one word above each column, upright where the columns are too narrow for them.
        row_names: one beside each row.
    """
    grid = image_grid(images.cpu(), columns)
    grid = grid.resize((grid.width * scale, grid.height * scale), Image.Resampling.NEAREST)
    font = ImageFont.truetype(font_file(), LETTERS)
    above = [_fitting(name, font) for name in column_names]
    beside = [_fitting(name, font) for name in row_names]
    widest, rows = max(map(font.getlength, above), default=0), -(-len(images) // columns)
    is_upright = widest > grid.width / columns - 4
    top = int(widest if is_upright else LETTERS) + 10 if above else 0
    left = int(max(map(font.getlength, beside))) + 12 if beside else 0

    sheet = Image.new(grid.mode, (left + grid.width, top + grid.height), "white")
    sheet.paste(grid, (left, top))
    draw = ImageDraw.Draw(sheet)
    for i, name in enumerate(above):
        middle = left + (i + 0.5) * grid.width / columns
        if is_upright:
            _write_upright(sheet, name, font, middle, top - 5)
        else:
            draw.text((middle, top - 5), name, fill="black", font=font, anchor="md")
    for i, name in enumerate(beside):
        draw.text((left - 6, top + (i + 0.5) * grid.height / rows), name, fill="black", font=font, anchor="rm")

    facts = PngImagePlugin.PngInfo()
    facts.add_text(GRID, f"{left} {top} {grid.width} {grid.height} {scale}")
    if column_names:
        facts.add_itxt(COLUMNS, "\n".join(column_names))
    write_atomically(path, lambda file: sheet.save(file, format="PNG", pnginfo=facts))


def _fitting(name: str, font: ImageFont.FreeTypeFont) -> str:
    """As much of a name as has room."""
    while font.getlength(name) > LONGEST and len(name) > 1:
        name = name[:-2].rstrip("…") + "…"
    return name


def _write_upright(sheet: Image.Image, name: str, font: ImageFont.FreeTypeFont, middle: float, bottom: int) -> None:
    """A word that reads upwards, centred on a column."""
    word = Image.new("L", (int(font.getlength(name)) + 1, LETTERS + 6), 0)
    ImageDraw.Draw(word).text((0, word.height / 2), name, fill=255, font=font, anchor="lm")
    mask = word.rotate(90, expand=True)
    sheet.paste("black", (round(middle - mask.width / 2), bottom - mask.height), mask)


def save_npz(path: Path, images: Tensor, labels: Tensor | None) -> None:
    """`arr_0` images uint8 (N, H, W, C) and `arr_1` labels int64 (N,): what the field's evaluation scripts read.

    Vectors are float32 (N, D). Without labels there is no `arr_1`.
    """
    rows = images.permute(0, 2, 3, 1).contiguous() if images.ndim == 4 else images
    arrays = [x.numpy() for x in (rows, labels) if x is not None]

    def write(file: Path) -> None:
        with file.open("wb") as stream:  # given a name, numpy would append a second ending to it
            np.savez_compressed(stream, *arrays)

    write_atomically(path, write)
