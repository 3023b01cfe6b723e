"""Latents of runs for a page: `latents.json` of each, with as many points as the page has room for."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hldm.run.directory import is_number

POINTS = 120_000
"""Of all runs together."""

MOST, LEAST = 400, 40
"""Of one run."""

KINDS = ("disk", "plane", "components")


def disks(runs: Sequence[Path]) -> dict[str, Any]:
    """The latents of some runs.

    Returns:
        names: lists of class names, which runs share. of: a drawing for each run that has latents, with `run` its
        place.
    """
    there = [(place, content) for place, run in enumerate(runs) if (content := read(run / "latents.json"))]
    most = min(MOST, max(LEAST, POINTS // max(1, len(there))))
    names: dict[tuple[str, ...], int] = {}
    drawings = []
    for place, content in there:
        points, labels = content["points"][:most], content["labels"][:most]
        drawings.append({
            "run": place,
            "kind": content["kind"],
            "curvature": content["curvature"],
            "points": [float(f"{value:.4g}") for point in points for value in point],
            "labels": labels,
            "names": names.setdefault(tuple(map(str, content["class_names"])), len(names)),
            "explained": content.get("explained"),
            "rms": content.get("sqrt_c_rms"),
        })  # fmt: skip
    return {"names": [list(known) for known in names], "of": drawings}


def read(file: Path) -> dict[str, Any] | None:
    """What a latents.json says; None where there is none, or where it is not what it should be."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        points, labels, c, rms = (content.get(name) for name in ("points", "labels", "curvature", "sqrt_c_rms"))
        is_whole = (
            content["kind"] in KINDS
            and all(isinstance(part, list) for part in (points, labels, content["class_names"]))
            and len(points) == len(labels) > 0
            and all(len(point) == 2 and all(map(is_number, point)) for point in points)
            and all(isinstance(label, int) for label in labels)
            and all(map(is_number, (c, *(content.get("explained") or ()))))
            and c >= 0
            and (rms is None or is_number(rms))
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return content if is_whole else None
