"""The examples run as they stand, at a small size."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.fake_omniglot import written

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


def test_the_tutorial_runs_and_draws_its_picture(tmp_path, capsys):
    runpy.run_path(str(EXAMPLES / "tutorial.py"))["main"](tmp_path, steps=20)
    out = capsys.readouterr().out
    assert "from 0 to x 3.00, from x to y 5.31" in out
    assert "half of the data lie within 0.17 of a node" in out
    assert (tmp_path / "tutorial.png").stat().st_size > 10_000


def test_known_trees_are_drawn(tmp_path):
    main = runpy.run_path(str(EXAMPLES / "known_trees.py"))["main"]
    main(tmp_path, str(written(tmp_path / "archives")))
    with Image.open(tmp_path / "tree_images.png") as picture:
        assert picture.size == (2 * (16 * 30 + 2), 2 * (7 * 30 + 2))
        assert picture.tobytes() == Image.open(ROOT / "docs" / "images" / "tree_images.png").tobytes()
    with Image.open(tmp_path / "omniglot.png") as picture:
        assert picture.size == (2 * (20 * 30 + 2), 2 * (3 * 30 + 2))


def test_hyperbolic_classifier() -> None:
    """Every curvature is trained with every seed and finds leaves far more often than chance, 3 %."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "examples/hyperbolic_classifier.py"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    rows = re.findall(r"(Euclidean|hyperbolic), c = ([\d.]+): (0\.\d+) (0\.\d+) (0\.\d+), mean (0\.\d+)", run.stdout)
    assert [(name, c) for name, c, *_ in rows] == [("Euclidean", "0"), ("hyperbolic", "0.3"), ("hyperbolic", "1")]
    assert all(float(number) > 0.3 for row in rows for number in row[2:])
    assert len({row[2:] for row in rows}) == 3, "curvature changes nothing"
