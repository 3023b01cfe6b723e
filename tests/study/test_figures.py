"""Figures of a comparison: they show its numbers, and say what they show."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from PIL import Image

from hldm.pipeline.pictures import save_grid
from hldm.study.cells import Cell, Finished, cells
from hldm.study.comparison import Comparison, compare
from hldm.study.curve_figures import curves_figure
from hldm.study.figures import along_curvature, by_cell, precision_recall, write_figures
from hldm.study.plan import Point
from hldm.study.series import all_series, varies
from hldm.study.tiles import LATENTS, SAMPLES, latent_tiles_figure, places, sheet, write_sheet
from tests.study.made_runs import made, usual

SOME = {"fid", "precision", "recall"}
GRID = "geometry=euclidean,poincare,hybrid curvature=0.1,1,10 seed=0,1"


def compared(tmp_path: Path, typed: str, results: Any = usual) -> tuple[Comparison, list[Cell]]:
    plan = made(tmp_path, typed, results)
    known = {point.run.path: Finished.of_snapshot(point.run.snapshot()) for point in plan}
    found = cells(plan, lambda point: known[point.run.path])
    return compare(found), found


def with_pictures(found: list[Cell], study: Path, scale: float = 1.0) -> None:
    """samples.png and latents.json of every run: a grey for each cell, points as far out as c is small."""
    for i, cell in enumerate(found):
        c = 0.0 if cell.config.has_flat_latents else cell.config.curvature.value
        for seed in cell.runs:
            folder = study / cell.run_names[seed]
            shades = torch.full((4, 1, 28, 28), (20 * i + seed) % 256, dtype=torch.uint8)
            save_grid(folder / "samples.png", shades, 2, column_names=["0", "1"])
            latents: dict[str, Any] = {
                "kind": "disk" if c else "plane", "curvature": c, "points": [[scale / (1 + c), 0.0], [0.0, 0.1]],
                "labels": [0, 1], "class_names": ["zero", "one"], "explained": None, "sqrt_c_rms": 0.5 if c else None,
                "parents": None,
            }  # fmt: skip
            (folder / "latents.json").write_text(json.dumps(latents), encoding="utf-8")


def lines(axes: Axes) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.lines}


def figure_of(comparison: Comparison, name: str) -> Any:
    return next(one for one in comparison.figures if one.name == name)


def test_all_figures_of_a_grid_in_both_formats(tmp_path: Path) -> None:
    comparison, found = compared(tmp_path, "geometry=euclidean,poincare curvature=0.1,1 seed=0,1")
    comparison = replace(comparison, figures=[one for one in comparison.figures if one.metric in SOME])
    with_pictures(found, tmp_path / "main")
    files = write_figures(comparison, found, tmp_path / "main")
    names = {file.name for file in files}
    stems = {file.stem for file in files}
    assert names == {f"{stem}.{ending}" for stem in stems for ending in ("pdf", "png")}
    others = {"precision_recall", "guidance_fid", "guidance_label_accuracy", "samples", "latents"}
    assert stems == {f"{metric}_against_curvature" for metric in SOME} | others
    assert {file.parent for file in files} == {tmp_path / "main" / "figures"}
    for file in files:
        start = file.read_bytes()[:4]
        assert start == (b"%PDF" if file.suffix == ".pdf" else b"\x89PNG")


def test_a_measure_along_curvature(tmp_path: Path) -> None:
    comparison, found = compared(tmp_path, GRID)
    series = all_series(comparison, found)
    assert [one.name for one in series] == ["euclidean", "poincare", "hybrid"]
    assert varies(series)
    accuracy, fid = figure_of(comparison, "label_accuracy"), figure_of(comparison, "fid_unlabelled")
    first, second = along_curvature(series, [accuracy, fid], "digits").axes
    assert first.get_ylabel() == "label accuracy, % (higher is better)"
    assert (second.get_title(), second.get_xlabel()) == ("features: unlabelled", "curvature c")
    first.figure.draw_without_rendering()
    assert [text.get_text() for text in first.get_xticklabels()] == ["0.1", "1", "10"]
    drawn = lines(first)
    of = {cell.name: cell.intervals["label_accuracy"] for cell in comparison.cells}
    expected = [[c, 100 * of[f"poincare c={c:g}"].mean] for c in (0.1, 1, 10)]
    np.testing.assert_allclose(drawn["poincare"], expected)
    np.testing.assert_allclose(drawn["euclidean"][:, 1], 100 * of["euclidean"].mean)
    np.testing.assert_allclose(drawn["real images"][:, 1], 99.1)
    bands = [one.get_paths()[0].vertices for one in first.collections if type(one).__name__.startswith("FillBetween")]
    margin = of["hybrid c=10"].margin
    assert margin is not None
    top = max(y for x, y in bands[1] if x == 10)
    assert top == pytest.approx(100 * (of["hybrid c=10"].mean + margin))


def test_wide_intervals_are_cut_and_the_caption_says_it(tmp_path: Path) -> None:
    """As of two seeds of smoke runs: FID 336 ± 665, and no sample is precise."""

    def results(point: Point) -> Mapping[str, Any]:
        content = usual(point)
        content["metrics"] |= {"fid": 300.0 + 50 * point.config.seed + 10 * point.config.curvature.value}
        content["metrics"] |= {"precision": 0.0, "recall": 0.0, "floor_fid": 280.0}
        for value in content["curves"]["guidance"]["points"]:
            value["fid"] = content["metrics"]["fid"] + value["value"]
        return content

    comparison, found = compared(tmp_path, "geometry=euclidean,poincare curvature=0.1,1 seed=0,1", results)
    series, fid = all_series(comparison, found), figure_of(comparison, "fid")
    assert (comparison.cells[0].intervals["fid"].margin or 0) > 300
    for drawn in (along_curvature(series, [fid]), curves_figure(comparison, found, "guidance", fid)):
        low, high = drawn.axes[0].get_ylim()
        assert 200 < low < high < 500
        assert "cut" in drawn.get_suptitle()
    assert by_cell(comparison.cells, [fid]).axes[0].get_xlim()[0] > 0
    precision, recall = figure_of(comparison, "precision"), figure_of(comparison, "recall")
    drawn = precision_recall(series, [(precision, recall)])
    assert drawn.axes[0].get_xlim() == drawn.axes[0].get_ylim() == pytest.approx((-0.05, 1.05))
    assert along_curvature(series, [precision]).axes[0].get_ylim() == pytest.approx((-0.05, 1.05))
    assert "cut" not in drawn.get_suptitle()


def test_a_learned_curvature_stands_where_it_ended(tmp_path: Path) -> None:
    def results(point: Point) -> Mapping[str, Any]:
        content = usual(point)
        content["metrics"]["curvature_0"] = 0.6 + 0.1 * point.config.seed
        return content

    comparison, found = compared(tmp_path, "geometry=euclidean,poincare curvature=learnable seed=0,1", results)
    flat, ball = all_series(comparison, found)
    assert flat.flat is not None
    assert [(at.c, at.is_learned) for at in ball.curved] == [(pytest.approx(0.65), True)]
    assert not varies([flat, ball])
    [axes] = along_curvature([flat, ball], [figure_of(comparison, "fid")]).axes
    assert any(np.allclose(line[:, 0], 0.65) for line in lines(axes).values())
    assert "poincare, c learned" in axes.get_legend_handles_labels()[1]


def test_cells_have_a_line_each_where_curvature_does_not_vary(tmp_path: Path) -> None:
    comparison, found = compared(tmp_path, "geometry=euclidean,poincare diffusion=flow,ddpm seed=0,1")
    assert not varies(all_series(comparison, found))
    [axes] = by_cell(comparison.cells, [figure_of(comparison, "kid")]).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [cell.name for cell in comparison.cells]
    assert axes.get_xlabel() == "KID (lower is better)"
    means = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(means, [cell.intervals["kid"].mean for cell in comparison.cells])


def test_precision_against_recall(tmp_path: Path) -> None:
    comparison, found = compared(tmp_path, GRID)
    pair = figure_of(comparison, "precision"), figure_of(comparison, "recall")
    [axes] = precision_recall(all_series(comparison, found), [pair]).axes
    assert axes.get_xlabel() == "recall (higher is better)"
    assert {text.get_text() for text in axes.texts} == {"0.1", "1", "10"}
    dots = sum(len(one.get_offsets()) for one in axes.collections if type(one).__name__ == "PathCollection")
    assert dots == sum(len(cell.values["recall"]) for cell in comparison.cells)
    centres = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if len(line.get_xdata()) == 1]
    for cell in comparison.cells:
        mean = cell.intervals["recall"].mean, cell.intervals["precision"].mean
        assert any(np.allclose(mean, centre) for centre in centres)


def test_curves_have_a_panel_for_each_geometry_and_flat_space_in_all(tmp_path: Path) -> None:
    comparison, found = compared(tmp_path, GRID)
    drawn = curves_figure(comparison, found, "guidance", figure_of(comparison, "fid"))
    first, second = drawn.axes
    assert (first.get_title(), second.get_title()) == ("poincare", "hybrid")
    assert first.get_ylim() == second.get_ylim()
    assert list(lines(first)) == ["euclidean", "c = 0.1", "c = 1", "c = 10"]
    curve = next(one for one in comparison.curves if one.cell == "poincare c=10")
    np.testing.assert_allclose(
        lines(first)["c = 10"], [[point.value, point.means["fid"].mean] for point in curve.points]
    )
    assert "1000 samples against validation images" in drawn.get_suptitle()


def test_solvers_have_a_place_each_and_one_panel(tmp_path: Path) -> None:
    def results(point: Point) -> Mapping[str, Any]:
        points = [{"value": name, "fid": float(i)} for i, name in enumerate(("euler", "heun"))]
        curves = {"method": {"split": "validation", "samples": 10, "points": points, "best": "euler"}}
        return {**usual(point), "curves": curves}

    comparison, found = compared(tmp_path, "geometry=euclidean,poincare seed=0", results)
    [axes] = curves_figure(comparison, found, "method", figure_of(comparison, "fid")).axes
    assert list(lines(axes)) == ["euclidean", "poincare"]
    axes.figure.draw_without_rendering()
    assert [text.get_text() for text in axes.get_xticklabels()] == ["euler", "heun"]


def test_rows_of_tiles_are_geometries_and_columns_curvatures(tmp_path: Path) -> None:
    def results(point: Point) -> Mapping[str, Any] | None:
        return None if (point.config.geometry.name, point.config.curvature.value) == ("hybrid", 1) else usual(point)

    comparison, found = compared(tmp_path, GRID, results)
    study = tmp_path / "main"
    with_pictures(found, study)
    _, what, rows = places(comparison, found, study, SAMPLES)
    assert what == "seed 0"
    titles = {name: [place and place.title.split("\n")[0] for place in line] for name, line in rows}
    assert titles == {
        "euclidean": ["flat", None, None],
        "poincare": ["c = 0.1", "c = 1", "c = 10"],
        "hybrid": ["c = 0.1", None, "c = 10"],
    }
    of = comparison.cells[1].intervals["fid"]
    assert of.margin is not None
    assert (rows[1][1][0] or ("",))[0].split("\n")[1] == f"FID {of.mean:.2f} ± {of.margin:.2f}"
    [file] = write_sheet(sheet(comparison, found, study), tmp_path / "tiles.png", ("png",))
    with Image.open(file) as picture:
        shades = dict.fromkeys(np.asarray(picture.convert("L")).flatten().tolist())
    # every tile has the shade of its run, also the words above the columns are left out
    assert {20 * i for i, cell in enumerate(found) if cell.runs} <= shades.keys()


def test_seeds_are_tiles_where_there_is_one_cell(tmp_path: Path) -> None:
    comparison, found = compared(tmp_path, "geometry=poincare seed=range(0,6)")
    with_pictures(found, tmp_path / "main")
    _, what, rows = places(comparison, found, tmp_path / "main", SAMPLES)
    assert what == "poincare c=1"
    assert [[place and place.title for place in line] for _, line in rows] == [
        ["seed 0", "seed 1", "seed 2"], ["seed 3", "seed 4", "seed 5"]
    ]  # fmt: skip


def test_the_seed_that_most_cells_have_is_shown(tmp_path: Path) -> None:
    def results(point: Point) -> Mapping[str, Any] | None:
        return None if point.config.seed == 0 and point.config.geometry.name == "poincare" else usual(point)

    comparison, found = compared(tmp_path, "geometry=euclidean,poincare seed=0,1", results)
    with_pictures(found, tmp_path / "main")
    _, what, [(_, line)] = places(comparison, found, tmp_path / "main", SAMPLES)
    assert what == "seed 1"
    assert len(line) == 2


def test_of_many_curvatures_some_are_shown(tmp_path: Path) -> None:
    values = ",".join(f"0.{i:02d}" for i in range(10, 40))
    comparison, found = compared(tmp_path, f"geometry=euclidean,poincare curvature={values}")
    with_pictures(found, tmp_path / "main")
    _, what, rows = places(comparison, found, tmp_path / "main", SAMPLES)
    assert what == "seed 0, 10 of 30 curvatures"
    titles = [place.title.split("\n")[0] for place in rows[1][1] if place is not None]
    assert (titles[0], titles[-1], len(titles)) == ("c = 0.1", "c = 0.39", 10)


def test_latents_share_a_scale_and_say_where_space_is_curved(tmp_path: Path) -> None:
    comparison, found = compared(tmp_path, "geometry=euclidean,poincare curvature=0.1,4 seed=0")
    with_pictures(found, tmp_path / "main", scale=3.0)
    _, what, rows = places(comparison, found, tmp_path / "main", LATENTS)
    read = [
        (name, [p and (p.title, json.loads((p.folder / "latents.json").read_text())) for p in line])
        for name, line in rows
    ]
    drawn = latent_tiles_figure(what, read)
    shown = [axes for axes in drawn.axes if axes.collections]
    assert {axes.get_xlim() for axes in shown} == {(-4, 4)}
    flat, small, large = shown
    assert "circles: r = 1, 2, 3" in flat.get_title()
    assert [patch.radius for patch in large.patches if isinstance(patch, Circle)] == [0.5]
    assert "√c·rms 0.5; circle: 1/√c = 0.5" in large.get_title()
    assert "1/√c = 3.16" in small.get_title()
    [legend] = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == ["zero", "one"]


def test_runs_without_samples_show_their_latents_and_damaged_files_leave_a_gap(tmp_path: Path) -> None:
    comparison, found = compared(tmp_path, "geometry=euclidean,poincare seed=0")
    study = tmp_path / "main"
    with_pictures(found, study)
    folders = [study / cell.run_names[0] for cell in found]
    (folders[0] / "samples.png").write_bytes(b"\x89PNG no more")
    assert write_sheet(sheet(comparison, found, study), tmp_path / "a", ("png",)) == [tmp_path / "a.png"]
    for folder in folders:
        (folder / "samples.png").unlink()
    sound = json.loads((folders[0] / "latents.json").read_text())
    for name in ("kind", "class_names", "curvature", "points"):  # one letter of a key is another one
        (folders[0] / "latents.json").write_text(json.dumps(sound).replace(f'"{name}"', f'"{name}~"'))
        assert write_sheet(sheet(comparison, found, study), tmp_path / "b", ("png",)) == [tmp_path / "b.png"]
    (folders[0] / "latents.json").write_text('{"points": 3}')
    assert write_sheet(sheet(comparison, found, study), tmp_path / "b", ("png",)) == [tmp_path / "b.png"]
    for folder in folders:
        (folder / "latents.json").unlink()
    assert write_sheet(sheet(comparison, found, study), tmp_path / "c") == []
