"""Sample grids as they are taken from the pictures of runs, and in the terminal."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hldm.pipeline.pictures import image_grid, save_grid
from hldm.study.page.thumbnails import thumbnail
from hldm.study.pictures import Tile, grid_of, terminal_picture, tiles_figure, words_above


def test_a_grid_is_taken_without_its_words(tmp_path: Path) -> None:
    images = torch.randint(0, 255, (6, 3, 28, 28), dtype=torch.uint8)
    save_grid(tmp_path / "a.png", images, 3, 4, column_names=["0", "1", "2"], row_names=["a", "b"])
    grid, columns = grid_of(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(grid), np.asarray(image_grid(images, 3)))
    assert columns == ["0", "1", "2"]


def test_a_picture_of_an_earlier_version_is_taken_whole(tmp_path: Path) -> None:
    Image.new("L", (604, 302), 7).save(tmp_path / "a.png")
    grid, columns = grid_of(tmp_path / "a.png")
    assert (grid.size, columns) == ((604, 302), [])


def test_tiles_have_their_names(tmp_path: Path) -> None:
    for i in range(3):
        Image.new("L", (60, 40), 40 * i).save(tmp_path / f"{i}.png")
    tiles = [Tile(f"tile {i}", tmp_path / f"{i}.png") for i in range(3)]
    figure = tiles_figure("all of them", [("upper", tiles[:2]), ("lower", [None, tiles[2]])])
    assert [axes.get_title() for axes in figure.axes] == ["tile 0", "tile 1", "", "tile 2"]
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["upper", "lower"]
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 0, 1]
    assert figure.get_suptitle() == "all of them"


def test_half_blocks(tmp_path: Path) -> None:
    picture = Image.new("L", (40, 40), 0)
    picture.paste(255, (0, 0, 20, 10))  # upper left: above the middle of its character row
    picture.paste(255, (20, 10, 40, 20))
    picture.save(tmp_path / "a.png")
    assert terminal_picture(tmp_path / "a.png", columns=4, crop=(40, 40)) == "▀▀▄▄\n"


def test_no_flipped_bit_of_a_picture_ends_anything(tmp_path: Path) -> None:
    """It is shown with a wrong pixel, or left out with a sentence."""
    file, said = tmp_path / "a.png", 0
    save_grid(file, torch.randint(0, 255, (4, 1, 8, 8), dtype=torch.uint8), 2, 1, column_names=["0", "1"])
    content = file.read_bytes()
    for position in range(0, len(content), 9):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        file.write_bytes(changed)
        said += "is damaged and is not shown" in terminal_picture(file)
        thumbnail(bytes(changed))
        words_above(file)
    assert said > 30
    file.write_bytes(content[: len(content) // 2])
    assert "is damaged" in terminal_picture(file)
