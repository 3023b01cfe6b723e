"""Two small archives that are like Omniglot's: 3 alphabets, 8 characters, 20 drawers."""

import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw

ALPHABETS = {
    "images_background_small1.zip": {"Aa": 3, "Bb_(old)": 2},
    "images_background_small2.zip": {"Bb_(old)": 2, "Cc": 3},
}
"""Archive → alphabet → its characters."""


def drawing(character: int, drawer: int) -> bytes:
    """A PNG, black on white: a bar for each number up to the character's, further down for a higher drawer."""
    picture = Image.new("1", (105, 105), 1)
    for bar in range(character):
        ImageDraw.Draw(picture).rectangle((20 + 25 * bar, 10 + 2 * drawer, 28 + 25 * bar, 50 + 2 * drawer), fill=0)
    content = BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()


def packed(alphabets: Mapping[str, int], draw: Callable[[int, int], bytes] = drawing) -> bytes:
    """The archive of alphabets of so many characters."""
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("images/"), b"")
        for alphabet, characters in alphabets.items():
            for character in range(1, characters + 1):
                for drawer in range(1, 21):
                    # the same time for all, so that equal drawings make equal archives
                    name = f"images/{alphabet}/character{character:02}/{character:04}_{drawer:02}.png"
                    archive.writestr(zipfile.ZipInfo(name), draw(character, drawer))
    return content.getvalue()


def written(folder: Path, draw: Callable[[int, int], bytes] = drawing) -> Path:
    """A folder with both archives."""
    folder.mkdir(exist_ok=True)
    for name, alphabets in ALPHABETS.items():
        (folder / name).write_bytes(packed(alphabets, draw))
    return folder
