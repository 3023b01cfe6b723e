"""One file → pixels: every mode ends in the same colours, and what cannot be read says why."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hldm.data.pictures import UnreadableError, prepared
from tests.odd_pictures import GOOD, encoded, gradient, in_mode, written


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("odd"))


@pytest.mark.parametrize("name", GOOD)
def test_every_mode_ends_in_the_same_colours(odd: Path, name: str) -> None:
    found = prepared((odd / name).read_bytes(), 8, 3)
    assert found.shape == (3, 8, 8)
    assert found.dtype == np.uint8
    expected = gradient() if GOOD[name] not in ("L", "1", "LA", "I", "I;16") else gradient().convert("L").convert("RGB")
    wanted = prepared(encoded(expected), 8, 3)
    # palettes, JPEG and one bit lose something
    assert np.abs(found.astype(int) - wanted).mean() < (60 if GOOD[name] == "1" else 12)
    assert prepared((odd / name).read_bytes(), 8, 1).shape == (1, 8, 8)


def test_the_middle_square_is_reduced_with_antialiasing() -> None:
    """As Pillow does it to the square alone: nothing of the sides comes in, and stripes of a pixel become grey."""
    stripes = np.zeros((64, 100, 3), np.uint8)
    stripes[:, 18:82:2] = 255
    found = prepared(encoded(Image.fromarray(stripes)), 8, 3)
    assert np.abs(found.astype(int) - 127).max() <= 6
    square = Image.fromarray(stripes).crop((18, 0, 82, 64)).resize((8, 8), Image.Resampling.BICUBIC)
    assert np.array_equal(found, np.asarray(square).transpose(2, 0, 1))
    tall = prepared(encoded(gradient(12, 21)), 12, 3)
    assert np.array_equal(tall, np.asarray(gradient(12, 21)).transpose(2, 0, 1)[:, 4:16])


def test_a_picture_of_one_pixel_and_one_of_ten_thousand(odd: Path) -> None:
    assert np.unique(prepared((odd / "dot.png").read_bytes(), 8, 3).reshape(3, -1), axis=1).T.tolist() == [[255, 0, 0]]
    assert prepared((odd / "wide.png").read_bytes(), 8, 3).shape == (3, 8, 8)


def test_a_picture_is_turned_as_its_camera_was_held(odd: Path) -> None:
    found = prepared((odd / "turned.jpg").read_bytes(), 12, 3).astype(int)
    upright = np.asarray(gradient(12, 12).rotate(-90)).transpose(2, 0, 1)
    assert np.abs(found - upright).mean() < 4


def test_what_is_transparent_lies_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert prepared(encoded(clear), 8, 3).min() == 255
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([255, 0, 0] + [0] * 765)
    assert prepared(encoded(palette, transparency=0), 8, 3).min() == 255


def test_sixteen_bits_keep_their_white() -> None:
    for mode in ("I;16", "I"):
        found = prepared(encoded(in_mode(mode), "TIFF"), 12, 1)
        wanted = prepared(encoded(gradient().convert("L")), 12, 1)
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated.jpg", "truncated"),
        ("truncated.png", "truncated|broken"),
        ("words.jpg", "it is not a picture"),
        ("empty.png", "it is empty"),
        ("floats.tif", "white is not known"),
        ("script.png", "it is not a picture"),  # PostScript is a program
    ],
)
def test_what_cannot_be_read_says_why(odd: Path, name: str, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        prepared((odd / name).read_bytes(), 8, 3)


def test_levels_beyond_sixteen_bits_are_refused() -> None:
    content = io.BytesIO()
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(content, format="TIFF")
    with pytest.raises(UnreadableError, match="beyond 16 bits"):
        prepared(content.getvalue(), 8, 3)


def test_bytes_in_thirty_two_bits_are_bytes() -> None:
    content = io.BytesIO()
    Image.fromarray(np.asarray(gradient().convert("L")).astype(np.int32)).save(content, format="TIFF")
    wanted = prepared(encoded(gradient().convert("L")), 12, 1)
    assert np.array_equal(prepared(content.getvalue(), 12, 1), wanted)


def png16(kind: int, pixels: list[int], clear: list[int]) -> bytes:
    """A PNG of one row of 16-bit levels, grey (0) or in colour (2), one of them transparent."""
    values = 1 if kind == 0 else 3
    head = struct.pack(">IIBBBBB", len(pixels) // values, 1, 16, kind, 0, 0, 0)
    row = zlib.compress(b"\0" + struct.pack(f">{len(pixels)}H", *pixels))
    parts = ((b"IHDR", head), (b"tRNS", struct.pack(f">{values}H", *clear)), (b"IDAT", row), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def test_what_is_transparent_in_sixteen_bits_lies_on_white() -> None:
    assert prepared(png16(0, [1000], [1000]), 8, 3).min() == 255
    assert prepared(png16(0, [1000], [1001]), 8, 3).max() == 4
    assert prepared(png16(2, [1000, 1799, 5], [1000, 1799, 5]), 8, 3).min() == 255
    assert prepared(png16(2, [1000, 1799, 5], [5000, 1799, 5]), 8, 3).max() == 7
