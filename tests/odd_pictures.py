"""Folders with files as people have them: every mode, some damaged, some no pictures."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

GOOD = {
    "plain.png": "RGB",
    "grey.png": "L",
    "bilevel.png": "1",
    "palette.gif": "P",
    "transparent.png": "RGBA",
    "grey_alpha.png": "LA",
    "print.jpg": "CMYK",
    "levels16.png": "I;16",
    "levels32.tif": "I",
    "video.jpg": "YCbCr",
    "web.webp": "RGB",
    "Größe, 中文 🐦.png": "RGB",
    "CAPITALS.JPG": "RGB",
}
"""Name → mode."""


def gradient(width: int = 20, height: int = 12) -> Image.Image:
    """Red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 60)], axis=2).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    content = io.BytesIO()
    image.save(content, format=kind, **settings)
    return content.getvalue()


def in_mode(mode: str) -> Image.Image:
    image = gradient()
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode == "I":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.int32) * 257)
    if mode == "LA":
        return image.convert("L").convert("LA")
    return image.convert(mode)


def written(folder: Path) -> Path:
    """Every odd file that there is: 16 that can be read, 5 that cannot, and others that are no pictures by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, mode in GOOD.items():
        in_mode(mode).save(folder / name)
    (folder / "dot.png").write_bytes(encoded(Image.new("RGB", (1, 1), "red")))
    gradient(10_000, 3).save(folder / "wide.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    gradient(12, 12).save(folder / "turned.jpg", exif=exif, quality=100, subsampling=0)
    whole = encoded(gradient(200, 200), "JPEG")
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "truncated.png").write_bytes(encoded(gradient(200, 200))[:-200])
    (folder / "words.jpg").write_text("not a picture")
    (folder / "empty.png").write_bytes(b"")
    Image.fromarray(np.ones((4, 4), np.float32)).save(folder / "floats.tif")
    (folder / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n")
    (folder / "notes.txt").write_text("not called a picture")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def classes(folder: Path, counts: dict[str, int], side: int = 16) -> Path:
    """A sub-folder of PNGs for each class, all different, whose mean colour tells the class."""
    generator = np.random.default_rng(0)
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = generator.integers(0, 100, (side, side + 4, 3))
            pixels[..., number % 3] += 120
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index:03}.png")
    return folder
