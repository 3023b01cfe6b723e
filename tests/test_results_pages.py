"""Pages of docs/results/: only missing runs are started, and the tables say what the recorded figures say."""

import importlib.util
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hldm import console
from hldm.run.directory import RunDirectory
from hldm.study.cells import Finished, cells
from hldm.study.plan import make_plan
from hldm.study.points import points_of
from tests.conftest import Invoke
from tests.study.made_runs import PROVENANCE, usual

SWEEPS = Path(__file__).parents[1] / "sweeps"
PAGES = ("ablation", "diffusion", "pvae")


def load(name: str, monkeypatch):
    monkeypatch.syspath_prepend(str(SWEEPS))
    spec = importlib.util.spec_from_file_location(name, SWEEPS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def page(invoke: Invoke, monkeypatch, tmp_path):
    """A page with a grid of two geometries and two seeds, beside a fake pipeline; and its command."""
    module = load("results_page", monkeypatch)
    columns = {
        "geometry": lambda row: row.config.geometry.name,
        "FID": module.spread("fid", 2),
        "compared": module.compared("fid"),
        "later": module.mean("recorded_later", 1),
    }
    grids = ["geometry=euclidean,poincare seed=0,1"]
    table = module.Table(grids, columns)
    shown = {"fids": table, "words": module.Verdict(grids), "curve": module.CurveTable(grids, "guidance", ["fid"])}
    page = module.ResultsPage("toy", shown)
    page.page = tmp_path / "toy.md"
    page.page.write_text("before\n<!-- fids -->\nold\n<!-- end -->\nafter\n")
    settings = [f"paths.outputs={tmp_path / 'outputs'}", "tracking=none", "hardware.slots=2"]
    return page, lambda *more: console.run(lambda: page.main([*settings, *more]))


def starts(folder: Path) -> list[str]:
    return sorted(f"{file.parent.name[:-9]} {file.read_text()}" for file in folder.glob("outputs/results/*/starts"))


def test_only_what_is_missing_runs_and_goes_on_after_a_failure(page, monkeypatch, tmp_path, capfd) -> None:
    page, command = page
    monkeypatch.setenv("FAKE", "fail poincare")
    assert command() == 2
    assert "2 of 4 runs of study results did not finish" in " ".join(capfd.readouterr().err.split())
    rows = ["| euclidean | 1.25 (1.25, 1.25) | 1.250 | – | 2 |"]
    head = "| geometry | FID | compared | later | seeds |\n|---|---|---|---|---|"
    assert page.page.read_text() == "\n".join(["before\n<!-- fids -->", head, *rows, "<!-- end -->\nafter\n"])

    monkeypatch.delenv("FAKE")
    assert command("--tables") == 0
    assert command() == 0
    assert "4 of 4 runs" in capfd.readouterr().out
    assert starts(tmp_path) == ["euclidean-s0 x", "euclidean-s1 x", "poincare-c1-s0 xx", "poincare-c1-s1 xx"]
    rows.append("| poincare | 1.25 (1.25, 1.25) | 1.250, the same | – | 2 |")
    assert page.page.read_text() == "\n".join(["before\n<!-- fids -->", head, *rows, "<!-- end -->\nafter\n"])
    recorded = json.loads(page.page.with_suffix(".json").read_text())["figures"]
    assert recorded.keys() == {f"geometry={g} seed={s}" for g in ("euclidean", "poincare") for s in (0, 1)}
    record = recorded["geometry=poincare seed=1"]
    assert record.keys() == {"run", "metrics", "provenance", "date", "seconds"}
    assert record["metrics"]["label_accuracy"] == 0.967
    assert record["provenance"]["samples"] == 5000
    assert len(page.page.with_suffix(".json").read_text().splitlines()) == 7  # a line for every run

    assert command(f"paths.outputs={tmp_path / 'elsewhere'}") == 0  # what is recorded needs no run directory
    assert not (tmp_path / "elsewhere").exists()


def test_what_finished_before_it_was_stopped_is_on_the_page(page, monkeypatch) -> None:
    page, command = page
    whole = sys.modules["results_page"].sweep

    def stopped(points):
        whole(points[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["results_page"], "sweep", stopped)
    assert command() == console.INTERRUPTED
    assert "| euclidean | 1.25 (1.25) | 1.250 | – | 1 |\n" in page.page.read_text()


def fill(page, command, figures: Mapping[str, Any]) -> str:
    text = "".join(f"<!-- {name} -->\n<!-- end -->\n" for name in page.tables)
    for key, record in figures.items():
        [point] = make_plan(points_of(key.split()))
        record.setdefault("run", point.run.path.name)
    page.page.write_text(text)
    page.page.with_suffix(".json").write_text(json.dumps({"figures": figures}))
    assert command("--tables") == 0
    return page.page.read_text()


def of(geometry: str, fid: list[float], **provenance: Any) -> dict[str, Any]:
    """A record for each seed, as this version makes them."""
    points = [{"value": 1.0, "fid": 0.5}, {"value": 2.0, "fid": 0.25, "label_accuracy": 0.9}]
    curves = {"guidance": {"split": "validation", "samples": 500, "points": points, "best": 2.0}}
    made = {"provenance": {**PROVENANCE, **provenance}, "curves": curves}
    return {f"geometry={geometry} seed={i}": {"metrics": {"fid": value}, **made} for i, value in enumerate(fid)}


def test_figures_that_older_runs_lack_are_a_dash(page) -> None:
    page, command = page
    figures = of("euclidean", [1.0, 2.0]) | of("poincare", [2.0, 7.0])
    figures["geometry=poincare seed=0"]["metrics"]["recorded_later"] = 5.0
    figures["geometry=poincare seed=1"]["metrics"] = {"recorded_later": 6.0}
    text = fill(page, command, figures)
    assert "| euclidean | 1.50 (1.00, 2.00) | 1.5 ± 6.4 | – | 2 |\n" in text
    assert "| poincare | 2.00 (2.00) | 2.000 | 5.5 | 2 |\n" in text


def test_differences_are_those_of_the_comparison_that_ends_a_grid(page) -> None:
    page, command = page
    text = fill(page, command, of("euclidean", [1.0, 2.0]) | of("poincare", [1.5, 2.501]))
    assert "| 1.50 (1.00, 2.00) | 1.5 ± 6.4 |" in text
    assert "| 2.00 (1.50, 2.50) | 2.0005, +0.5005 ± 0.0064\\* |" in text
    assert "**poincare c=1 against euclidean over 2 seeds:**\n\n- FID: +0.5005 ± 0.0064, worse (p < .001 by" in text
    assert "| guidance | euclidean: FID | poincare c=1: FID |\n|---|---|---|\n" in text
    assert "| 2.0 | 0.250 | 0.250, +0.000 |\n" in text
    assert "poincare c=1: n = 500 on validation; chosen by the leading extractor: 2.0 (seed 0), 2.0 (seed 1)." in text


def test_figures_of_an_earlier_protocol_are_not_mixed_with_new_ones(page) -> None:
    page, command = page
    text = fill(page, command, of("euclidean", [1.0, 2.0], rule=None) | of("poincare", [1.5, 2.501]))
    assert "| 2.00 (1.50, 2.50) | 2.000, not compared |" in text
    assert "- poincare c=1 is not compared with euclidean in FID: results of the baseline do not say rule" in text
    assert "against" not in text


def test_figures_of_a_point_under_other_defaults_are_not_its_figures(page) -> None:
    page, command = page
    figures = of("euclidean", [1.0, 2.0])
    figures["geometry=euclidean seed=1"]["run"] = "euclidean-s1-01234567"
    assert "| euclidean | 1.00 (1.00) | 1.000 | – | 1 |\n" in fill(page, command, figures)


def test_a_table_of_nothing_says_so(page) -> None:
    page, command = page
    assert fill(page, command, {}).count("The runs that say it are still to be made.") == 3


def test_values_of_single_images_are_kept_to_four_digits(page, monkeypatch, tmp_path) -> None:
    page, command = page
    plan = next(iter(page.plans([f"paths.outputs={tmp_path / 'outputs'}", "tracking=none"]).values()))
    for point in plan:
        run = RunDirectory.create(point.run.path, point.config)
        run.write_results(
            {"metrics": {"elbo_flow": -1.5}, "per_image": {"elbo_flow": [-1.0, -2.0000001]}, "curves": {}}
        )
        run.update_status(state="finished")
    assert command("--tables") == 0
    kept = page.recorded["geometry=poincare seed=1"]
    assert kept["per_image"] == {"elbo_flow": [-1.0, -2.0]}
    assert "curves" not in kept


def test_settings_that_change_results_are_refused(page, capfd) -> None:
    _, command = page
    assert command("training.diffusion.steps=3") == 2
    assert "training.diffusion.steps=3 is not a setting of this command" in capfd.readouterr().err
    assert command("--table") == 2


@pytest.mark.parametrize("name", PAGES)
def test_the_published_page_is_that_of_the_recorded_figures(name, monkeypatch, tmp_path) -> None:
    load("results_page", monkeypatch)
    results = load(name, monkeypatch).PAGE
    before = [results.page.read_text(), results.page.with_suffix(".json").read_text()]
    for text, suffix in zip(before, (".md", ".json"), strict=True):
        (tmp_path / name).with_suffix(suffix).write_text(text)
    results.page = (tmp_path / name).with_suffix(".md")
    results.main(["--tables", f"paths.outputs={tmp_path}", "tracking=none"])
    assert [results.page.read_text(), results.page.with_suffix(".json").read_text()] == before

    plans = results.plans([])
    keys = {sys.modules["results_page"].key(point) for plan in plans.values() for point in plan}
    recorded = results.recorded
    paths = {point.run.path.name for plan in plans.values() for point in plan}
    assert recorded.keys() <= keys, "figures of runs that the page does not have"
    assert {record["run"] for record in recorded.values()} <= paths, "figures of a point under other defaults"
    # the keys are commands
    for key in sorted(keys)[:: len(keys) // 4]:
        [point] = make_plan(points_of(key.split()))
        assert point.run.path.name in paths


def test_the_page_shows_cells_of_the_sweep_and_shares_runs_with_the_other(monkeypatch) -> None:
    load("results_page", monkeypatch)
    ablation, diffusion = load("ablation", monkeypatch), load("diffusion", monkeypatch)
    plan = ablation.PAGE.plans([])["samples"]
    found = {cell.settings["ablation"]: sorted(cell.runs) for cell in cells(plan, lambda point: Finished({}))}
    latents, layers = ablation.LATENTS.split(","), ablation.LAYERS.split(",")
    assert found == {cell: list(range(5 if cell in latents else 3)) for cell in [*latents, *layers]}
    assert found.keys() < set(ablation.CELLS)
    shared = {point.run.path for point in plan} & {p.run.path for p in diffusion.PAGE.plans([])["before"]}
    assert len(shared) == 10
    assert len({point.run.path for point in plan}) == 30


@pytest.mark.parametrize("name", ["ablation", "diffusion"])
def test_every_table_of_a_page_shows_its_runs(name, monkeypatch, tmp_path) -> None:
    """With results made up for all runs: each table has a row for each cell, and no column that no run fills."""
    load("results_page", monkeypatch)
    results = load(name, monkeypatch).PAGE
    marks = "".join(f"<!-- {table} -->\n<!-- end -->\n" for table in results.tables)
    results.page = tmp_path / f"{name}.md"
    results.page.write_text(marks)
    monkeypatch.setattr(results, "draw", None)
    where = [f"paths.outputs={tmp_path / 'outputs'}", "tracking=none"]
    for point in {p.run.path: p for plan in results.plans(where).values() for p in plan}.values():
        run = RunDirectory.create(point.run.path, point.config)
        content = usual(point)
        more = {"best_guidance": 1.5, "reconstruction_fid_drawn": 0.19, "elbo_flow_rate": 100.0, "sqrt_c_rms": 0.4}
        content["metrics"] |= more | {"sqrt_c_rms_drawn": 0.9}
        for at in content["curves"]["guidance"]["points"]:
            at["fid_unlabelled"] = 10 * at["fid"]
        run.write_results({**content, "provenance": {**PROVENANCE, "network_evaluations": 8}})
        run.update_status(state="finished", seconds={"first_stage": 90, "diffusion": 200, "evaluation": 100})
    results.main(["--tables", *where])
    sections = dict(re.findall(r"<!-- (.+?) -->\n(.*?)<!-- end -->", results.page.read_text(), re.DOTALL))
    assert sections.keys() == results.tables.keys()
    for table, text in sections.items():
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        assert "not compared" not in text, table
        assert "still to be made" not in text, table
        if not table.startswith("verdict"):
            assert len(rows) > 3, table
            assert all("–" not in line for line in rows), table
    counted = [sections["verdict"].count(f" over {seeds} seeds:**") for seeds in (5, 3)]
    assert counted == ([2, 0] if name == "diffusion" else [2, 5])
    assert "shown" in sections["verdict"]
    if name == "diffusion":
        assert "| 1.5 | " in sections["guidance"]
        assert sections["guidance"].splitlines()[0].count("poincare c=1: ") == 3
        assert "(real 99.1)" in sections["samples"]
