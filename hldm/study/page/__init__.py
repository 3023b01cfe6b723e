"""The page of a comparison: one HTML file that needs no network, with its data inside (docs/decisions/0020).

static/ holds the template, the style and the scripts, which are put together here and read nothing but the data.
"""

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from hldm.study.page.data import page_data
from hldm.study.whole import Study

STATIC = Path(__file__).with_name("static")

SCRIPTS = ("dom", "model", "charts", "matrix", "tables", "panels", "gallery", "page")
"""In the order in which they need each other."""


def page(study: Study) -> str:
    """The whole page as text."""
    return assembled(page_data(study))


def assembled(data: dict[str, Any]) -> str:
    """The page around some data.

    The browser is told to run this script and no other, and to load nothing (Content-Security-Policy).
    """
    script = "\n".join(["'use strict';", *(_static(f"{name}.js") for name in SCRIPTS)])
    return Template(_static("page.html")).substitute(
        title=escape(f"{data['study']}: comparison"),
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=_static("page.css"),
        script=script,
        data=embedded(data),
    )


def _static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def embedded(data: Any) -> str:
    """JSON that can stand in a script element whatever strings it holds: no < ends it, and no & is read as another."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
