"""Omniglot's archives, read in memory: nothing is unpacked to a disk. Without torch: looked at before any work."""

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

from hldm.config.dataset import Omniglot
from hldm.errors import UserError

REMEDY = (
    "Put images_background_small1.zip and images_background_small2.zip of https://github.com/brendenlake/omniglot (its "
    "folder python/, 3 MB together) into a folder and type dataset.folder=<it>. Or let torchvision fetch 30 alphabets: "
    "python -c \"from torchvision.datasets import Omniglot; Omniglot('data', download=True)\", and type "
    "dataset.folder=data/omniglot-py dataset.archives=[images_background.zip]."
)

MEMBER = re.compile(r"[^/\\]+/(?P<alphabet>(?!\.)[^/\\]+)/character(?P<character>\d+)/\d+_(?P<drawer>\d+)\.png")
SIDE = 105
MOST_BYTES = 2**16
"""Of a member, unpacked: a drawing has a few hundred."""


class Drawing(NamedTuple):
    """One character by one hand."""

    alphabet: str
    character: int
    drawer: int


def read_drawings(settings: Omniglot) -> dict[Drawing, Image.Image]:
    """Drawing → grey picture of 105 × 105 pixels, ink 255 on 0, in the order of alphabets, characters and drawers.

    Raises:
        UserError: an archive is missing or damaged, holds something else than drawings or not all of them, or the
            drawers are too few to be parted.
    """
    if settings.folder is None:
        raise UserError(f"dataset=omniglot needs archives that do not come with it. {REMEDY}")
    found: dict[Drawing, bytes] = {}
    for name in settings.archives:
        path = Path(settings.folder, name)
        if not path.is_file():
            raise UserError(f"dataset.folder={settings.folder} has no {name}. {REMEDY}")
        for drawing, content in _members(path).items():
            if found.setdefault(drawing, content) != content:
                raise UserError(
                    f"{path} has another {_words(drawing)} than an archive before it: they are not of one data set. "
                    f"{REMEDY}"
                )
    drawers = {drawing.drawer for drawing in found}
    characters = {drawing[:2] for drawing in found}
    for alphabet, character in sorted(characters):
        if missing := [drawer for drawer in sorted(drawers) if Drawing(alphabet, character, drawer) not in found]:
            raise UserError(
                f"The archives in {settings.folder} lack {_words(Drawing(alphabet, character, missing[0]))}: they are "
                f"not whole. {REMEDY}"
            )
    if settings.validation_drawers + settings.test_drawers >= len(drawers):
        raise UserError(
            f"dataset.validation_drawers={settings.validation_drawers} and dataset.test_drawers="
            f"{settings.test_drawers} leave none of the {len(drawers)} drawers to train on. Type "
            "dataset.validation_drawers=2 dataset.test_drawers=4."
        )
    return {drawing: _ink(found[drawing], drawing, settings.folder) for drawing in sorted(found)}


def training_images(drawings: Iterable[Drawing], settings: Omniglot) -> int:
    """How many drawings are left to train on, in which classes are as frequent as in the others."""
    of_character = Counter(drawing[:2] for drawing in drawings)
    drawers = min(of_character.values())
    return len(of_character) * (drawers - settings.validation_drawers - settings.test_drawers)


def _members(path: Path) -> dict[Drawing, bytes]:
    """The files of an archive. A name is only ever compared with the form that it must have."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.is_dir():
                    continue
                match = MEMBER.fullmatch(member.filename)
                if match is None or member.file_size > MOST_BYTES:
                    raise UserError(
                        f"{path} is not an archive of Omniglot: it has {member.filename!r:.200} of {member.file_size} "
                        "bytes, and a drawing is called <archive>/<alphabet>/character01/0001_01.png and has at most "
                        f"{MOST_BYTES}. {REMEDY}"
                    )
                drawing = Drawing(match["alphabet"], int(match["character"]), int(match["drawer"]))
                found[drawing] = archive.read(member)
    # what zipfile raises of files that are cut off, changed, packed in ways it does not know, or encrypted
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path} cannot be read as a zip file: {error}. {REMEDY}") from None
    if not found:
        raise UserError(f"{path} is empty. {REMEDY}")
    return found


def _ink(content: bytes, drawing: Drawing, folder: str) -> Image.Image:
    """The picture of a PNG whose header says 105 × 105 pixels: nothing larger is ever decoded."""
    header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + 2 * SIDE.to_bytes(4, "big")
    try:
        if not content.startswith(header):
            raise ValueError(f"it is no PNG of {SIDE} × {SIDE} pixels")
        with Image.open(BytesIO(content), formats=["PNG"]) as picture:
            return ImageOps.invert(picture.convert("L"))  # they are drawn in black on white
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error) as error:
        raise UserError(f"The archives in {folder} have a wrong {_words(drawing)}: {error}. {REMEDY}") from None


def _words(drawing: Drawing) -> str:
    return f"drawing {drawing.drawer} of character {drawing.character} of {drawing.alphabet}"
