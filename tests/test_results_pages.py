"""Pages of docs/results/: only missing runs are started, and the tables say what the recorded figures say."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hldm.config.compose import compose
from hldm.run.directory import RunDirectory
from hldm.run.identity import run_identity

SWEEPS = Path(__file__).parents[1] / "sweeps"


def load(name: str, monkeypatch):
    monkeypatch.syspath_prepend(str(SWEEPS))
    spec = importlib.util.spec_from_file_location(name, SWEEPS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def finish(directory: RunDirectory, fid: float) -> None:
    with directory.work():
        provenance = {"machine": "x", "threads": 2, "versions": {"torch": "2"}, "network_evaluations": 8}
        directory.write_results({"metrics": {"fid": fid, "unkept": 1.0}, "provenance": provenance})


@pytest.fixture
def page(tmp_path, monkeypatch):
    results_page = load("results_page", monkeypatch)
    file = tmp_path / "page.md"
    file.write_text("before\n<!-- fids -->\nold\n<!-- end -->\nafter\n")
    runs = [[f"seed={seed}", "geometry=poincare"] for seed in range(3)]

    def table(figures):
        yield from results_page.header("run", "FID")
        yield from (f"| {run} | {figure['fid']} |" for run, figure in figures.items())

    page = results_page.ResultsPage(file, runs, ("fid",), {"fids": table})
    started = []

    def train(command, check):
        arguments = command[2:]
        started.append(arguments)
        config = compose(arguments)
        path = Path(config["paths"]["outputs"]) / config["study"] / run_identity(config).name
        if "seed=2" in arguments:
            return SimpleNamespace(returncode=3)
        finish(RunDirectory.create(path, config), float(len(started)))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(results_page.subprocess, "run", train)
    return page, started, [f"paths.outputs={tmp_path}", "hardware=cpu"]


def test_only_what_is_missing_runs_and_a_failure_ends_it(page) -> None:
    page, started, settings = page
    assert page.main(settings) == 3
    assert [arguments[0] for arguments in started] == ["seed=0", "seed=1", "seed=2"]
    text = page.page.read_text()
    assert text.startswith("before\n<!-- fids -->\n| run | FID |\n|---|---|\n")
    assert "| seed=0 geometry=poincare | 1.0 |\n| seed=1 geometry=poincare | 2.0 |\n<!-- end -->\nafter" in text
    assert "old" not in text
    figures = json.loads(page.page.with_suffix(".json").read_text())["seed=1 geometry=poincare"]
    assert figures.keys() == {"fid", "network_evaluations", "machine", "threads", "torch", "date", "seconds"}

    assert page.main([*settings, "--tables"]) == 0
    assert len(started) == 3
    assert page.main([*settings, "paths.outputs=/elsewhere"]) == 3  # figures that were kept need no run directory
    assert [arguments[0] for arguments in started[3:]] == ["seed=2"]


@pytest.mark.parametrize("name", ["pvae", "diffusion", "ablation"])
def test_the_published_tables_are_those_of_the_recorded_figures(name, monkeypatch, tmp_path) -> None:
    load("results_page", monkeypatch)
    module = load(name, monkeypatch)
    tables = {
        "pvae": ("mnist_table", "tree_table"),
        "diffusion": ("quality_table", "first_stage_table"),
        "ablation": ("ablation_table",),
    }[name]
    text = module.PAGE.read_text()
    recorded = module.PAGE.with_suffix(".json")
    figures = json.loads(recorded.read_text()) if recorded.exists() else {}
    known = {" ".join(run) for run in module.all_runs()}
    assert figures.keys() <= known, "figures of runs that the page does not have"
    for table in tables if figures else ():
        assert "\n".join(getattr(module, table)(figures)) in text


def test_differences_are_paired_by_seed(monkeypatch) -> None:
    """By hand: differences 1, 2 and 3 have mean 2 and standard error 1/√3, and t(0.975; 2) is 4.303."""
    difference = load("results_page", monkeypatch).difference
    assert difference({0: 11.0, 1: 4.0, 2: 33.0, 3: 7.0}, {2: 30.0, 0: 10.0, 1: 2.0}) == "+2.00 ± 2.48"
    assert difference({0: 1.0}, {0: 2.0}) == "–"
