"""Sample grids beside each other, and a few digits in the terminal."""

import os
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

GAP = 16
BLOCKS = " ▄▀█"  # index: 2 × upper pixel + lower pixel


def comparison_picture(grids: list[tuple[str, Path]], target: Path, columns: int = 3, width: int = 480) -> None:
    """Write one picture with the sample grid of every run under its title.

    Args:
        grids: (title, PNG).
        columns: how many beside each other.
        width: of one grid, in pixels.
    """
    font = ImageFont.load_default(size=18)
    titled = []
    for title, file in grids:
        with Image.open(file) as picture:
            tile = picture.convert("RGB")
        tile = tile.resize((width, round(tile.height * width / tile.width)), Image.Resampling.LANCZOS)
        titled.append((_fitting(title, font, width), tile))
    columns = min(columns, len(titled))
    rows = [titled[i : i + columns] for i in range(0, len(titled), columns)]
    line = 28
    heights = [max(tile.height for _, tile in row) + line + GAP for row in rows]
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, sum(heights) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for i, (title, tile) in enumerate(row):
            left = GAP + i * (width + GAP)
            draw.text((left, top), title, fill="black", font=font)
            sheet.paste(tile, (left, top + line))
        top += height
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    sheet.save(temporary, format="PNG")
    temporary.replace(target)


def terminal_picture(png: Path, columns: int = 80, crop: tuple[int, int] = (302, 122)) -> str:
    """The upper left corner of a picture in half blocks, two pixels to a character: light on a dark terminal.

    Args:
        png: a sample grid.
        columns: width in characters.
        crop: width and height of the corner in pixels; by default two rows of five digits.
    """
    with Image.open(png) as picture:
        corner = picture.convert("L").crop((0, 0, min(crop[0], picture.width), min(crop[1], picture.height)))
    height = 2 * round(corner.height * columns / corner.width / 2)
    small = corner.resize((columns, height), Image.Resampling.BOX)
    # a grey picture has one number per pixel, where Pillow's annotation allows a tuple
    bright = [[small.getpixel((x, y)) > 110 for x in range(columns)] for y in range(height)]  # type: ignore[operator]  # grey: a number
    lines = (
        "".join(BLOCKS[2 * upper + lower] for upper, lower in zip(bright[y], bright[y + 1], strict=True)).rstrip()
        for y in range(0, height, 2)
    )
    return "\n".join(lines)


def _fitting(title: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    title = title.replace("−", "-")  # Pillow's own font has no minus sign
    while font.getlength(title) > width and len(title) > 1:
        title = title[:-2].rstrip("…") + "…"
    return title
