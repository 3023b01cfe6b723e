"""Pictures of runs for a page: small, each once, within a budget."""

import base64
import hashlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

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
    images: dict[str, int] = {}
    uris: list[str] = []
    of, left, size = [], 0, 0
    for place, folder in runs:
        if not (folder / name).is_file():
            continue
        if size >= BUDGET:
            left += 1
            continue
        if (content := thumbnail(folder / name)) is None:
            continue
        digest = hashlib.sha256(content).hexdigest()
        if digest not in images:
            images[digest] = len(uris)
            uris.append(f"data:image/webp;base64,{base64.b64encode(content).decode()}")
            size += len(uris[-1])
        of.append([place, images[digest]])
    return {"images": uris, "of": sorted(of), "left": left}


def thumbnail(file: Path) -> bytes | None:
    """A picture as WebP, at most `SIDE` long; None where it cannot be read."""
    try:
        with Image.open(file) as picture:
            small = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    except (OSError, UnidentifiedImageError):
        return None
    if (longest := max(small.size)) > SIDE:
        width, height = (max(1, round(side * SIDE / longest)) for side in small.size)
        small = small.resize((width, height), Image.Resampling.BOX)
    content = BytesIO()
    small.save(content, format="WEBP", quality=QUALITY, method=2)
    return content.getvalue()
