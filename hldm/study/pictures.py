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
    # one grid at a time is in memory, beside the sheet
    tall = [_height(file, width) for _, file in grids]
    columns, line = min(columns, len(grids)), 28
    starts = range(0, len(grids), columns)
    rows = [grids[i : i + columns] for i in starts]
    heights = [max(tall[i : i + columns]) + line + GAP for i in starts]
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, sum(heights) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for i, (title, file) in enumerate(row):
            left = GAP + i * (width + GAP)
            draw.text((left, top), _fitting(title, font, width), fill="black", font=font)
            with Image.open(file) as picture:
                tile = picture.convert("RGB")
            sheet.paste(tile.resize((width, _height(file, width)), Image.Resampling.LANCZOS), (left, top + line))
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


def _height(file: Path, width: int) -> int:
    """Of a picture at that width; its file is opened, not read."""
    with Image.open(file) as picture:
        return round(picture.height * width / picture.width)


def _fitting(title: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    title = title.replace("−", "-")  # Pillow's own font has no minus sign
    while font.getlength(title) > width and len(title) > 1:
        title = title[:-2].rstrip("…") + "…"
    return title
