"""The examples run as they stand, at a small size."""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_the_tutorial_runs_and_draws_its_picture(tmp_path, capsys):
    runpy.run_path(str(EXAMPLES / "tutorial.py"))["main"](tmp_path, steps=20)
    out = capsys.readouterr().out
    assert "from 0 to x 3.00, from x to y 5.31" in out
    assert "half of the data lie within 0.17 of a node" in out
    assert (tmp_path / "tutorial.png").stat().st_size > 10_000
