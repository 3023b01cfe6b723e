"""`hldm compare`: whatever lies in a folder of runs, from a command line."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hldm import console
from hldm.commands import compare
from hldm.study.plan import Point
from tests.study.made_runs import dressed, made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    def results(point: Point) -> Mapping[str, Any] | None:
        return None if point.config.seed == 1 and not point.config.has_flat_latents else dressed(point)

    return made(tmp_path, "geometry=euclidean,poincare seed=0,1,2", results)[0].config.study_folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take most of the time of a comparison."""
    monkeypatch.setattr("hldm.study.compare._print_figures", lambda *_: None)
    monkeypatch.setattr("hldm.study.compare._print_pictures", lambda *_: None)


def call(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    status = console.run(lambda: compare.main([str(argument) for argument in argv]))
    out, err = capsys.readouterr()
    return status, out, err


def test_a_study_in_tables_words_and_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, folder)
    assert (status, err) == (0, "")
    assert re.search(r"poincare c=1 +2 of 3 ", out)
    assert "poincare c=1, seed 1: failed (no luck), poincare-c1-s1-" in " ".join(out.split())
    assert "In short" in out
    written = {file.name for file in folder.iterdir() if file.is_file()}
    assert written == {"comparison.html", "comparison.json", "comparison.png", "cells.csv", "summary.csv"}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("width", [80, 200])
def test_a_file_is_as_wide_as_columns_says(
    folder: Path, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    status, out, _ = call(capsys, folder)
    assert status == 0
    widest = max(len(line.rstrip()) for line in out.splitlines() if "/" not in line)
    assert width - 20 < widest <= width


def test_latex_and_another_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "elsewhere" / "new"
    status, _, _ = call(capsys, f"study={folder}", f"out={out}", "latex=true")
    assert status == 0
    assert {file.name for file in out.iterdir() if file.is_file()} == {
        "comparison.html", "comparison.json", "comparison.png", "comparison.tex", "cells.csv", "summary.csv"
    }  # fmt: skip
    assert not [file for file in folder.iterdir() if file.is_file()]


@pytest.mark.usefixtures("undrawn")
def test_a_pattern_and_a_folder_with_an_equals_sign(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, folder / "poincare-*")
    assert status == 0
    assert "euclidean" not in out
    renamed = folder.rename(folder.with_name("c=1"))
    status, out, _ = call(capsys, renamed)
    assert status == 0
    assert (renamed / "comparison.html").is_file()


@pytest.mark.usefixtures("undrawn")
def test_damaged_runs_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, *others = sorted(path for path in folder.iterdir() if path.is_dir())
    (run / "config.yaml").write_text("seed: [", encoding="utf-8")
    status, out, _ = call(capsys, folder)
    assert status == 0
    assert f"{run.name} is left out: " in " ".join(out.split())
    for other in others:
        (other / "config.yaml").write_text("seed: [", encoding="utf-8")
    status, _, err = call(capsys, folder)
    assert status == 2
    assert "config.yaml cannot be read" in " ".join(err.split())


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["outputs/nowhere"], ["outputs/nowhere names no runs", "outputs/main"]),
        ([], ["study=… is missing"]),
        (["outputs/x", "latex=perhaps"], ["'perhaps' is neither true nor false"]),
        (["outputs/x", "latx=true"], ["Did you mean latex=true?"]),
        (["outputs/x", "out=/proc/version/x"], ["is a file"]),
    ],
)
def test_mistakes_have_a_sentence(argv: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, *argv)
    assert (status, out) == (2, "")
    for part in parts:
        assert part in " ".join(err.split())


def test_help_shows_how_it_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        compare.main(["--help"])
    assert "hldm compare outputs/geometry_curvature" in capsys.readouterr().out


def test_it_starts_without_torch() -> None:
    script = (
        "import sys, hldm.commands.compare; print([m for m in ('torch', 'matplotlib', 'wandb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
