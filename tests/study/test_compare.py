"""What stands in the terminal at the end of a grid."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from hldm.study.compare import MOST_SENTENCES, MOST_VERDICTS, print_comparison
from hldm.study.plan import Point
from tests.study.made_runs import PROVENANCE, made, usual


def printed(plan: list[Point], width: int, capsys: pytest.CaptureFixture[str]) -> str:
    print_comparison(plan, Console(width=width, force_terminal=False))
    return capsys.readouterr().out


def widest(text: str) -> int:
    """Of the lines that name no file."""
    return max(len(line.rstrip()) for line in text.splitlines() if "/" not in line)


@pytest.mark.parametrize("width", [80, 100, 200])
def test_cells_with_intervals_then_the_verdict(width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def results(point: Point) -> Mapping[str, Any] | None:
        content = usual(point)
        content["metrics"]["floor_fid"] = 0.0475 + (point.config.seed == 0) * 0.001 - (point.config.seed == 1) * 0.001
        return None if point.config.seed == 2 and point.config.geometry.name == "hybrid" else content

    plan = made(tmp_path, "geometry=euclidean,poincare,hybrid curvature=0.1,1 seed=0,1,2", results)
    out = printed(plan, width, capsys)
    assert widest(out) <= width
    assert "…" not in out
    table, _, rest = out.partition("Means over seeds")
    rows = {line.strip().split("  ")[0]: line for line in table.splitlines() if " ± " in line}
    assert list(rows) == ["euclidean", "poincare c=0.1", "poincare c=1", "hybrid c=0.1", "hybrid c=1"]  # aliases folded
    assert "2 of 3" in rows["hybrid c=1"]
    assert table.count("FID") == {80: 3, 100: 5, 200: 6}[width]
    assert rows["euclidean"].count(" ± ") >= (3 if width < 200 else 9)
    assert "FID ↓" in table
    assert ("label accuracy ↑" in table and "%" in table) == (width == 200)
    words = " ".join(rest.split())
    assert "hybrid c=1, seed 2: failed (no luck), hybrid-c1-s2-" in words
    assert words.count("FID of real images at this n: 0.0475, their label accuracy: 99.1%.") == 1
    assert "poincare c=1 against euclidean over 3 seeds:" in words
    assert "FID, no guidance: +0.383 ± 0.014, worse (p .0029 by Holm over 40)" in words
    assert (
        "In short poincare c=0.1 against euclidean over 3 seeds: worse in FID, no guidance +0.383 ± 0.014 and bound "
        "with diffusion -5.97 ± 0.58 nats; no difference shown in 13 other figures." in words
    )
    assert "checks of fairness hold. Not: All runs have finished; Same seeds in every cell, more than one." in words
    assert words.index("poincare c=1 against") < words.index("hybrid c=0.1 against") < words.index("± is the 95 %")
    kept = json.loads((tmp_path / "main" / "comparison.json").read_text())
    assert kept["verdicts"]["poincare c=1"][1].startswith("FID, no guidance: +0.383")
    assert len(kept["differences"]) == 60
    assert [check["what"] for check in kept["checks"] if check["holds"] is False] == [
        "All runs have finished", "Same seeds in every cell, more than one"
    ]  # fmt: skip
    for name in ("comparison.html", "summary.csv", "cells.csv"):
        assert (tmp_path / "main" / name).stat().st_size > 1000
        assert str(tmp_path / "main" / name) in out


@pytest.mark.parametrize("width", [80, 200])
def test_one_seed_each_is_a_list_of_runs_and_no_verdict(
    width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def results(point: Point) -> Mapping[str, Any] | None:
        return None if point.config.geometry.name == "hybrid" else usual(point)

    plan = made(tmp_path, "geometry=euclidean,poincare,hybrid curvature=0.1,1 diffusion=flow,ddpm", results)
    out = printed(plan, width, capsys)
    assert widest(out) <= width
    assert "geom…" not in out
    for part in ("geometry", "curvature", "euclidean (= 1)", "minutes", "failed", "diffusion", "FID"):
        assert part in out
    assert ("Not shown for want of width: " in out) == (width == 80)
    assert "one seed shows nothing" in " ".join(out.split())
    assert "against euclidean" not in out


def test_what_cannot_be_compared_is_named_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of four numbers of samples, each with two seeds, the first is the baseline of none."""

    def results(point: Point) -> Mapping[str, Any]:
        torch = {"versions": {"torch": f"2.{point.config.seed}"}}
        return {**usual(point), "provenance": {**PROVENANCE, **torch, "samples": point.config.metrics.samples}}

    plan = made(tmp_path, "metrics.samples=100,200,300 seed=0,1", results)
    words = " ".join(printed(plan, 80, capsys).split())
    assert (
        "samples=200 is not compared with samples=100 in FID, no guidance; FID, best guidance; FID and 8 more" in words
    )
    assert "figures: n is 200, there 100." in words
    assert "n is 300, there 100." in words
    assert "Caution: Not all runs have the same torch: 2.0 (3 runs), 2.1 (3 runs)." in words
    verdict = words[words.index("samples=200 against samples=100") :]
    assert "bound with own prior" in verdict
    assert "FID, no guidance:" not in verdict


def test_results_of_an_earlier_version_have_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier = {"samples": 5000, "reference": "mnist test images (10000)", "extractor": {"name": "digits"}}

    def results(point: Point) -> Mapping[str, Any]:
        return {"metrics": usual(point)["metrics"], "provenance": earlier}

    plan = made(tmp_path, "geometry=euclidean,poincare seed=0,1", results)
    words = " ".join(printed(plan, 80, capsys).split())
    assert "poincare c=1 is not compared with euclidean in" in words
    assert "as those of earlier versions" in words
    assert "against euclidean" not in words


def test_a_large_grid_says_the_rest_in_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def results(point: Point) -> Mapping[str, Any]:
        unlike = {"samples": 7} if point.config.curvature.value > 0.5 else {}
        return {"metrics": {"fid": point.config.seed + 1.0, "elbo": 1.0}, "provenance": {**PROVENANCE, **unlike}}

    cells = MOST_SENTENCES + 3
    values = ",".join(f"0.{i:02d}" for i in range(51, 51 + cells))
    plan = made(tmp_path, f"geometry=euclidean,poincare curvature=0.1,{values} seed=0,1", results)
    out = printed(plan, 80, capsys)
    assert "3 more exclusions are in comparison.json." in out
    verdicts, _, short = out.partition("In short")
    assert verdicts.count("against euclidean over") == short.count("against euclidean over") == MOST_VERDICTS
    assert f"The verdicts on {cells + 1 - MOST_VERDICTS} more cells are in comparison.json." in out
    kept = json.loads((tmp_path / "main" / "comparison.json").read_text())
    assert len(kept["verdicts"]) == cells + 1
    assert len(kept["exclusions"]) == cells


def test_outputs_that_are_only_read_are_no_trouble(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = made(tmp_path, "geometry=euclidean,poincare seed=0,1", usual)
    for point in plan:
        Image.new("L", (60, 60)).save(point.run.path / "samples.png")

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("hldm.study.leave.write_text_atomically", refused)
    (tmp_path / "main" / "comparison.png").mkdir()  # in the way of the process that draws
    out = " ".join(printed(plan, 80, capsys).split())
    assert "comparison.json cannot be written (Permission denied)" in out
    assert "comparison.png cannot be written (Is a directory)" in out
    assert "against euclidean over 2 seeds" in out


def test_one_run_alone_is_compared_with_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = made(tmp_path, "geometry=poincare", usual)
    out = printed(plan, 80, capsys)
    assert "seed shows nothing" not in out
    assert not (tmp_path / "main" / "comparison.json").exists()
