"""Grids of images: each pixel as it is, words above columns and beside rows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hldm.pipeline.pictures import LONGEST, image_grid, save_grid


def images(n: int, channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 255, (n, channels, 28, 28), generator=generator, dtype=torch.uint8)


def opened(file: Path) -> tuple[Image.Image, tuple[int, ...]]:
    with Image.open(file) as picture:
        picture.load()
    return picture, tuple(map(int, picture.info["Grid"].split()))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("names", [{}, {"column_names": "abcde"}, {"row_names": ["one", "two", "three"]}])
def test_the_images_are_there_pixel_by_pixel(tmp_path: Path, channels: int, names: dict[str, list[str]]) -> None:
    save_grid(tmp_path / "a.png", images(15, channels), 5, 3, **names)
    picture, (left, top, width, height, scale) = opened(tmp_path / "a.png")
    assert scale == 3
    assert (left > 0, top > 0) == ("row_names" in names, "column_names" in names)
    assert picture.size == (left + width, top + height)
    inner = picture.crop((left, top, left + width, top + height))
    np.testing.assert_array_equal(np.asarray(inner)[::3, ::3], np.asarray(image_grid(images(15, channels), 5)))
    outside = np.asarray(picture.convert("L"))[:top] if top else np.asarray(picture.convert("L"))[:, :left]
    assert outside.size == 0 or (outside < 60).sum() > 20


def test_each_column_has_its_word_above(tmp_path: Path) -> None:
    save_grid(tmp_path / "a.png", images(10), 5, column_names=["8", "", "8", "", "8"])
    picture, (_, top, width, _, _) = opened(tmp_path / "a.png")
    dark = (np.asarray(picture)[:top] < 100).sum(0)
    per_column = [int(part.sum()) for part in np.array_split(dark[:width], 5)]
    assert [count > 0 for count in per_column] == [True, False, True, False, True]
    assert picture.info["Columns"].splitlines() == ["8", "", "8", "", "8"]


def test_words_too_long_for_a_column_stand_upright_and_are_cut(tmp_path: Path) -> None:
    save_grid(tmp_path / "a.png", images(3), 3, column_names=["aeroplane", "a" * 60, "名 é"])
    picture, (_, top, width, _, _) = opened(tmp_path / "a.png")
    assert 60 < top < LONGEST + 20
    assert picture.width == width
    assert picture.info["Columns"].splitlines()[1] == "a" * 60


def test_the_same_grid_has_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_grid(tmp_path / f"{name}.png", images(4), 2, column_names=["x", "y"], row_names=["p", "q"])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
