"""A picture of rows of images: what each row is stands to its left, what each image is stands below it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from hldm.drawing import font_file
from hldm.files import write_atomically
from hldm.pipeline.pictures import image_grid

GAP = 2
MARGIN = 12
LEAST_TILE = 84
"""Pixels that an image is wide at least: two numbers below it can be read."""
INK, PALE = (30, 30, 30), (90, 90, 90)


@dataclass(frozen=True)
class Row:
    """Images of one kind.

    Attributes:
        label: what they are; a line break is kept.
        images: uint8 (K, C, H, W).
        notes: what each of them is, K or none; a line break is kept.
    """

    label: str
    images: Tensor
    notes: Sequence[str] = ()


def save_rows(path: Path, rows: Sequence[Row], caption: str) -> None:
    """Write the rows below each other as PNG, with the caption above them, wrapped to their width."""
    width = rows[0].images.shape[-1]
    scale = max(1, -(-LEAST_TILE // width))
    body, small = ImageFont.truetype(font_file(), 14), ImageFont.truetype(font_file(), 11)
    grids = [_enlarged(row.images, scale) for row in rows]
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left = 2 * MARGIN + max(int(measure.multiline_textbbox((0, 0), row.label, body)[2]) for row in rows)
    whole = max(left + max(grid.width for grid in grids) + MARGIN, 480)
    lines = _wrapped(caption, whole - 2 * MARGIN, body)
    top = 2 * MARGIN + 20 * len(lines)
    heights = [
        grid.height + 15 * max((note.count("\n") + 1 for note in row.notes), default=0) + 4
        for grid, row in zip(grids, rows, strict=True)
    ]
    picture = Image.new("RGB", (whole, top + sum(heights) + MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    draw.multiline_text((MARGIN, MARGIN), "\n".join(lines), INK, body, spacing=5)
    for row, grid, height in zip(rows, grids, heights, strict=True):
        picture.paste(grid, (left, top))
        draw.multiline_text((left - MARGIN, top + grid.height / 2), row.label, INK, body, anchor="rm", align="right")
        step = (width + GAP) * scale
        for k, note in enumerate(row.notes):
            fitting = "\n".join(_shortened(line, step - 2, small) for line in note.split("\n"))
            at = left + GAP * scale / 2 + (k + 0.5) * step, top + grid.height + 1
            draw.multiline_text(at, fitting, PALE, small, anchor="ma", align="center", spacing=2)
        top += height
    write_atomically(path, lambda file: picture.save(file, format="PNG"))


def _enlarged(images: Tensor, scale: int) -> Image.Image:
    grid = image_grid(images.cpu(), columns=len(images), gap=GAP).convert("RGB")
    return grid.resize((grid.width * scale, grid.height * scale), Image.Resampling.NEAREST)


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
