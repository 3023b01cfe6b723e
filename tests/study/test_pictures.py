"""Sample grids beside each other, and in the terminal."""

from pathlib import Path

from PIL import Image

from hldm.study.pictures import comparison_picture, terminal_picture


def test_grids_side_by_side(tmp_path: Path) -> None:
    for i, size in enumerate([(604, 604), (300, 120), (604, 604), (50, 50)]):
        Image.new("L", size, 40 * i).save(tmp_path / f"{i}.png")
    grids = [
        (f"run {i} with a title that is far too long for its column " * 3, tmp_path / f"{i}.png") for i in range(4)
    ]
    comparison_picture(grids, tmp_path / "comparison.png", columns=3, width=200)
    with Image.open(tmp_path / "comparison.png") as picture:
        assert picture.width == 3 * (200 + 16) + 16
        for i, left in enumerate((116, 332, 548)):
            assert picture.getpixel((left, 60)) == (40 * i,) * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "2.png", "3.png", "comparison.png"]


def test_half_blocks(tmp_path: Path) -> None:
    picture = Image.new("L", (40, 40), 0)
    picture.paste(255, (0, 0, 20, 10))  # upper left: above the middle of its character row
    picture.paste(255, (20, 10, 40, 20))
    picture.save(tmp_path / "a.png")
    assert terminal_picture(tmp_path / "a.png", columns=4, crop=(40, 40)) == "▀▀▄▄\n"
