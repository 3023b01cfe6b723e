"""Pictures of runs for a page: small, each once, within a budget."""

import base64
import hashlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

SIDE = 302
"""Longest side: half of a grid of a hundred digits, whose pixels are doubled."""

BUDGET = 3_500_000
"""Characters for all pictures of a page."""

QUALITY = 60


def thumbnails(runs: Iterable[tuple[int, Path]], name: str) -> dict[str, Any]:
    """The pictures of that name in the folders of some runs, as far as the budget goes.

    Args:
        runs: (place, folder), those that matter most first.

    Returns:
        images: data URIs, each once. of: [[place of the run, place of its image], …] in the order of runs.
        left: how many runs have a picture that is not shown.
    """
    images: dict[bytes, int | None] = {}
    uris: list[str] = []
    of, left, size = [], 0, 0
    for place, folder in runs:
        try:
            content = (folder / name).read_bytes()
        except OSError:
            continue
        digest = hashlib.sha256(content).digest()
        if digest not in images:
            if size >= BUDGET:
                left += 1
                continue
            small = thumbnail(content)
            images[digest] = None if small is None else len(uris)
            if small is not None:
                uris.append(f"data:image/webp;base64,{base64.b64encode(small).decode()}")
                size += len(uris[-1])
        if (image := images[digest]) is not None:
            of.append([place, image])
    return {"images": uris, "of": sorted(of), "left": left}


def thumbnail(content: bytes) -> bytes | None:
    """The picture in a file as WebP, at most `SIDE` long; None where it cannot be read."""
    try:
        with Image.open(BytesIO(content)) as picture:
            small = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow raises for damage
        return None
    if (longest := max(small.size)) > SIDE:
        width, height = (max(1, round(side * SIDE / longest)) for side in small.size)
        small = small.resize((width, height), Image.Resampling.BOX)
    written = BytesIO()
    small.save(written, format="WEBP", quality=QUALITY, method=2)
    return written.getvalue()
