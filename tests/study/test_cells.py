"""The cells of a comparison: one per model whatever its seed, and the one that each is compared with."""

import json
import math
import shutil
from array import array
from pathlib import Path
from typing import Any

import pytest

from hldm.run.directory import RunDirectory
from hldm.study.cells import Cell, Finished, baselines, cell_names, cells, telling_settings
from hldm.study.leave import write_files
from hldm.study.plan import Point, make_plan
from hldm.study.points import points_of
from hldm.study.rows import rows_of_runs
from hldm.study.typed import option_of, with_options
from hldm.study.whole import Study
from tests.study.made_runs import PROVENANCE, made, usual


def of_grid(typed: str, tmp_path: Path) -> list[Cell]:
    return cells(make_plan(points_of([*typed.split(), f"paths.outputs={tmp_path}"])), lambda point: None)


def test_points_that_are_one_run_are_one_cell(tmp_path: Path) -> None:
    plan = make_plan(
        points_of(["geometry=euclidean,poincare", "curvature=0.1,1", "seed=0,1", f"paths.outputs={tmp_path}"])
    )
    known = {point.run.path: Finished({"fid": float(i)}) for i, point in enumerate(plan) if point.config.seed == 0}
    found = cells(plan, lambda point: known.get(point.run.path))
    assert [(cell.settings["geometry"], cell.settings["curvature.value"]) for cell in found] == [
        ("euclidean", "0.1"),
        ("poincare", "0.1"),
        ("poincare", "1"),
    ]
    assert [cell.config.geometry.name for cell in found] == ["euclidean", "poincare", "poincare"]
    assert found[1].figures("fid", scale=10) == {0: 40.0}
    assert found[1].figures("kid") == found[1].figures("floor_fid") == {}
    assert found[1].unfinished == {1: "new"}


@pytest.mark.parametrize(
    ("typed", "names", "against"),
    [
        (
            "geometry=poincare,euclidean curvature=0.1,1 seed=0,1",
            ["poincare c=0.1", "poincare c=1", "euclidean"],
            [2, 2, None],
        ),
        # matched on the other settings
        (
            "diffusion=flow,ddpm geometry=euclidean,poincare curvature=1",
            ["euclidean diffusion=flow", "poincare c=1 diffusion=flow", "euclidean diffusion=ddpm",
             "poincare c=1 diffusion=ddpm"],
            [None, 0, None, 2],
        ),
        # flat latents that are conditioned on balls: the baseline at the same curvature
        (
            "geometry=euclidean,poincare curvature=0.1,1 conditioning.hyperbolic=true",
            ["euclidean c=0.1", "euclidean c=1", "poincare c=0.1", "poincare c=1"],
            [None, None, 0, 1],
        ),
        # no flat cell, or none with otherwise equal settings: what is nearest to the defaults, whatever the order
        ("geometry=poincare curvature=0.1,1,3", ["poincare c=0.1", "poincare c=1", "poincare c=3"], [None, 0, 0]),
        ("metrics.samples=100,200 seed=0,1", ["samples=100", "samples=200"], [None, 0]),
        ("sweep=ablation ablation=baseline,stem,latent seed=0,1",
         ["baseline", "stem", "latent"], [None, 0, 0]),
        ("sweep=ablation ablation=all,latent,baseline,conditioning", ["all", "latent", "baseline", "conditioning"],
         [2, 2, None, 2]),
        ("geometry=poincare,hybrid curvature=1,0", ["poincare c=1", "poincare c=0", "hybrid c=1", "hybrid c=0"],
         [3, 3, 3, None]),
        ("conditioning.hyperbolic=true,false", ["hyperbolic=true", "hyperbolic=false"], [1, None]),
        ("seed=0,1,2", ["euclidean"], [None]),
    ],
)  # fmt: skip
def test_every_cell_has_a_name_and_a_baseline(
    typed: str, names: list[str], against: list[int | None], tmp_path: Path
) -> None:
    found = of_grid(typed, tmp_path)
    assert cell_names(found) == names
    assert baselines(found) == [None if i is None else found[i] for i in against]


def test_nothing_has_no_cells() -> None:
    assert cells([], lambda point: None) == cell_names([]) == baselines([]) == []


@pytest.mark.parametrize(
    "typed",
    [
        "geometry=euclidean,poincare curvature=0.1,1 seed=0,1",
        "geometry=euclidean,poincare diffusion.sampler.steps=8,10 seed=0,1",
        "sweep=pvae_tree",
    ],
)
def test_run_directories_alone_give_the_cells_of_their_grid(typed: str, tmp_path: Path) -> None:
    plan = made(tmp_path, typed, lambda point: usual(point) if point.config.seed else None)
    expected = cells(plan, lambda point: Finished.of_snapshot(point.run.snapshot()))
    found = Study.of(tmp_path, rows_of_runs(RunDirectory.find(str(plan[0].config.study_folder)))[0]).cells
    assert sorted(cell_names(found)) == sorted(cell_names(expected))
    by_name = dict(zip(cell_names(expected), expected, strict=True))
    for name, cell, base in zip(cell_names(found), found, baselines(found), strict=True):
        same = by_name[name]
        assert cell.runs == same.runs
        assert cell.unfinished == same.unfinished
        there = baselines(expected)[expected.index(same)]
        assert (base and base.run_names) == (there and there.run_names)


def test_run_directories_alone_give_the_baselines_of_their_grid(tmp_path: Path) -> None:
    plan = made(tmp_path, "sweep=ablation ablation=stem,all,latent,baseline,attention", usual)
    of_plan = cells(plan, lambda point: Finished.of_snapshot(point.run.snapshot()))
    of_folder = Study.of(tmp_path, rows_of_runs(RunDirectory.find(str(plan[0].config.study_folder)))[0]).cells
    names, there = (
        {tuple(cell.run_names.values()): base and tuple(base.run_names.values())
         for cell, base in zip(found, baselines(found), strict=True)}
        for found in (of_plan, of_folder)
    )  # fmt: skip
    assert names == there
    assert len({*names.values()}) == 2
    assert len(names) == 5


def test_cells_of_run_directories_have_short_names(tmp_path: Path) -> None:
    """They are those of the sweep: diffusion=ddpm brings another sampler with its settings along, which say no more."""
    typed = "geometry=euclidean,poincare diffusion=flow,ddpm conditioning=class,text training.diffusion.steps=8,10"
    plan = made(tmp_path, typed, usual)
    rows, _ = rows_of_runs(RunDirectory.find(str(tmp_path / "main")))
    study = Study.of(tmp_path, rows)
    names = [cell.name for cell in study.comparison.cells]
    assert len(set(names)) == 16
    assert sorted(names) == sorted(cell_names(cells(plan, lambda point: None)))
    assert "poincare c=1 diffusion=ddpm conditioning=text steps=10" in names
    against = {cell.name: cell.baseline for cell in study.comparison.cells}
    assert against["poincare c=1 diffusion=flow conditioning=class steps=8"] == (
        "euclidean diffusion=flow conditioning=class steps=8"
    )


@pytest.mark.parametrize(
    ("options", "settings", "option"),
    [
        ({"class": {"x._target_": "C", "x.n": "1"}, "text": {"x._target_": "T"}}, {"x._target_": "T"}, "text"),
        # of one class the one that is nearer
        ({"a": {"x._target_": "C", "x.n": "1"}, "b": {"x._target_": "C", "x.n": "2"}},
         {"x._target_": "C", "x.n": "2"}, "b"),
        # an option without a class fits where no other does
        ({"none": {"x.process": "None"}, "flow": {"x.process._target_": "F"}}, {"x.process._target_": "F"}, "flow"),
        ({"none": {"x.process": "None"}, "flow": {"x.process._target_": "F"}}, {"x.process": "None"}, "none"),
        ({"class": {"x._target_": "C"}}, {"x._target_": "somebody.Else"}, None),
        ({}, {"x._target_": "C"}, None),
    ],
)  # fmt: skip
def test_the_option_that_settings_came_from(
    options: dict[str, dict[str, str]], settings: dict[str, str], option: str | None
) -> None:
    assert option_of(options, settings) == option


def test_a_class_without_an_option_has_its_own_name() -> None:
    own = [{"x._target_": "a.b.One"}, {"x._target_": "a.Two"}]
    assert telling_settings(with_options(own, own)) == [{"x": "One"}, {"x": "Two"}]


def test_geometries_of_one_name_are_told_apart(tmp_path: Path) -> None:
    names = cell_names(of_grid("geometry=poincare geometry.manifold.balls=1,4", tmp_path))
    assert names == ["poincare c=1 balls=1", "poincare c=1 balls=4"]


def test_of_two_runs_with_one_seed_a_finished_one_counts(tmp_path: Path) -> None:
    plan = made(
        tmp_path, "geometry=euclidean,poincare", lambda point: usual(point) if point.config.has_flat_latents else None
    )
    (copy := tmp_path / "main" / "a-copy").mkdir()
    (copy / "config.yaml").write_text((plan[0].run.path / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    study = Study.of(tmp_path, rows_of_runs(RunDirectory.find(str(tmp_path / "main")))[0])
    assert [cell.run_names for cell in study.cells] == [{0: plan[0].run.path.name}, {0: plan[1].run.path.name}]
    assert [(list(cell.runs), cell.unfinished) for cell in study.cells] == [([0], {}), ([], {0: "failed"})]
    assert len(study.runs) == 3
    assert "Not counted, as other runs have the same settings and seed: a-copy." in study.comparison.cautions


def test_a_copied_run_is_said_and_does_not_count(tmp_path: Path) -> None:
    plan = made(tmp_path, "geometry=euclidean,poincare seed=0,1", usual)
    names = [point.run.path.name for point in plan]
    alone = Study.of(tmp_path, rows_of_runs(RunDirectory.find(str(tmp_path / "main")))[0])
    for point in plan[:2]:
        shutil.copytree(point.run.path, point.run.path.with_name(f"{point.run.path.name}-copy"))
    study = Study.of(tmp_path, rows_of_runs(RunDirectory.find(str(tmp_path / "main")))[0])
    assert [cell.run_names for cell in study.cells] == [cell.run_names for cell in alone.cells]
    [caution] = [text for text in study.comparison.cautions if text not in alone.comparison.cautions]
    assert f"same settings and seed: {names[0]}-copy, {names[1]}-copy." in caution


def test_what_is_not_as_it_should_be_is_left_out() -> None:
    damaged = {
        "metrics": {"fid": "x", "kid": 1.0, "precision": None, "recall": True},
        "provenance": 3,
        "per_sampling_seed": {"0": {"fid": 1}, "1": 3},
        "per_image": {"elbo_flow": [1, 2.5], "other": [1, "x"], "more": 4},
        "curves": {"guidance": {"points": [{"value": 1, "fid": 2}]}, "steps": [], "solver": {"points": [{}]}},
    }
    found = Finished.of(damaged, seconds="x")
    assert found.metrics == {"kid": 1.0}
    assert found.provenance == found.seconds == {}
    assert found.per_sampling_seed == {"0": {"fid": 1}, "1": {}}
    assert found.per_image == {"elbo_flow": array("d", [1, 2.5]), "other": array("d"), "more": array("d")}
    assert found.curves.keys() == {"guidance"}


@pytest.mark.parametrize("number", [math.nan, math.inf, -1e308, 10**400], ids=["nan", "inf", "huge", "long"])
def test_numbers_that_nobody_can_compute_with_are_left_out(number: float, tmp_path: Path) -> None:
    """Of one run: everything else is compared, and no file has them."""
    point = {"value": 1.0, "fid": number}

    def results(of: Point) -> dict[str, Any]:
        whole = usual(of)
        if of.config.seed == 0:
            whole["metrics"] = {"kid": 0.5, "fid": number}
            whole["per_image"] = {"elbo_flow": [1, number]}
            whole["curves"] = {
                "guidance": {"split": "validation", "samples": 9, "points": [point], "best": 1.0},
                "steps": {"points": [{"value": number}]},
                "method": {"points": [{"value": "heun", "fid": 1.0}], "samples": number},
            }
            whole["provenance"] = {**PROVENANCE, "parameters": {"denoiser": number}}
        return whole

    damaged = Finished.of(results(made(tmp_path / "a", "seed=0", usual)[0]))
    assert damaged.metrics == {"kid": 0.5}
    assert damaged.per_image == {"elbo_flow": array("d")}
    assert damaged.curves.keys() == {"guidance"}

    plan = made(tmp_path / "b", "geometry=euclidean,poincare seed=0,1", usual)
    for of in plan:
        (of.run.path / "results.json").write_text(json.dumps(results(of)))
    study = Study.of(tmp_path, rows_of_runs(RunDirectory.find(str(tmp_path / "b" / "main")))[0])
    list(write_files(study, has_latex=True))
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} >= {"comparison.html", "comparison.json"}
