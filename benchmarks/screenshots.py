"""The pictures of docs/comparing.md: what `hldm compare` shows of a study, in a terminal, a browser and figures.

    python benchmarks/screenshots.py outputs/look --to docs/images
    python benchmarks/screenshots.py outputs/look --to FOLDER --full     pages of any length and size, to be looked at

The study is compared as anybody does it, with COLUMNS=80 and COLUMNS=200; the browser is that of the tests.
"""

import argparse
import io
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tests of this checkout

from hldm.drawing import font_file
from tests.study.browser import Browser

ROOT = Path(__file__).resolve().parents[1]

LARGEST = 150_000
"""Bytes of a picture in the documentation."""

LINES = 24
"""Of a terminal, before what is said in short."""

FIGURES = ("fid_against_curvature", "guidance_fid", "precision_recall", "samples", "latents")

PAPER = (794, 1123)
"""A4 in pixels of a browser."""


def compared(study: Path, columns: int) -> str:
    """What the command says where a terminal is so wide."""
    environment = {**os.environ, "COLUMNS": str(columns)}
    argv = [sys.executable, "-m", "hldm", "compare", str(study)]
    done = subprocess.run(argv, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def shortened(text: str) -> str:
    """Tables and the first verdicts, then all of them in short."""
    start, _, end = text.partition("\nIn short\n")
    return "\n".join([*start.splitlines()[:LINES], "  …", "", "In short", end])


def as_terminal(text: str, columns: int) -> Image.Image:
    """Light on dark."""
    font = ImageFont.truetype(str(Path(font_file()).with_name("DejaVuSansMono.ttf")), 13)
    wide, high = font.getlength("m"), 17
    shown = text.splitlines()
    picture = Image.new("RGB", (round(wide * columns) + 24, high * len(shown) + 20), "#15191f")
    draw = ImageDraw.Draw(picture)
    for i, line in enumerate(shown):
        draw.text((12, 10 + i * high), line, font=font, fill="#d8dee9")
    return picture


def pages(file: Path, *, is_full: bool) -> dict[str, Image.Image]:
    """The page on a desktop, in a dark room, on a phone and on paper."""
    found = {}
    with Browser(1280, 900) as browser:

        def shot(whole: bool = is_full) -> Image.Image:
            target = Path(browser.downloads).parent / "shot.png"
            browser.screenshot(target, whole=whole)
            with Image.open(target) as picture:
                picture.load()
            return picture.convert("RGB")

        browser.open(file)
        found["page_desktop"] = shot()
        browser.run("document.querySelector('.panels').scrollIntoView()")
        found["page_curves"] = shot(False)
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        found["page_dark"] = shot(False)
        browser.call("Emulation.setEmulatedMedia", features=[])
        browser.resize(390, 844, phone=True)
        browser.open(file)
        found["page_phone"] = shot()
        browser.resize(*PAPER)
        browser.open(file)
        browser.call("Emulation.setEmulatedMedia", media="print")
        browser.run("dispatchEvent(new Event('beforeprint'))")
        found["page_print"] = ImageOps.expand(ImageOps.expand(shot(), 40, "white"), 1, "#999")
    return found


def small(picture: Image.Image) -> bytes:
    """A WebP that is no larger than `LARGEST`, without losses where it can be."""
    picture = picture.convert("RGB")
    picture.thumbnail((1200, 2400), Image.Resampling.LANCZOS)
    for how in ({"lossless": True}, *({"quality": quality} for quality in range(90, 20, -10))):
        file = io.BytesIO()
        picture.save(file, "WEBP", method=6, **how)
        if file.tell() <= LARGEST:
            break
    return file.getvalue()


def main() -> None:
    """Compare, look, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args()
    study, to = arguments.study.resolve(), arguments.to
    to.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for columns in (80, 200):
        said = compared(study, columns).replace(str(study), str(arguments.study))
        pictures[f"terminal_{columns}"] = as_terminal(said if arguments.full else shortened(said), columns)
    pictures |= pages(study / "comparison.html", is_full=arguments.full)
    for name in FIGURES:
        if (file := study / "figures" / f"{name}.png").is_file():
            pictures[name] = Image.open(file)
    for name, picture in pictures.items():
        file = to / f"compare_{name}.{'png' if arguments.full else 'webp'}"
        if arguments.full:
            picture.save(file)
        else:
            file.write_bytes(small(picture))
        print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
