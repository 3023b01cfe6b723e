"""Pages of docs/results/: only missing runs are started, and the tables say what the recorded figures say."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from hldm import console
from hldm.study.plan import make_plan
from hldm.study.points import points_of
from tests.conftest import Invoke

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
        "geometry": lambda cell: cell.config.geometry.name,
        "FID": module.spread("fid", 2),
        "less": module.less_first("fid", 2),
        "later": module.mean("recorded_later", 1),
    }
    table = module.Table(["geometry=euclidean,poincare seed=0,1"], columns)
    page = module.ResultsPage("toy", {"fids": table})
    page.page = tmp_path / "toy.md"
    page.page.write_text("before\n<!-- fids -->\nold\n<!-- end -->\nafter\n")
    settings = [f"paths.outputs={tmp_path / 'outputs'}", "tracking=none", "hardware.slots=2"]
    return page, lambda *more: console.run(lambda: page.main([*settings, *more]))


def starts(folder: Path) -> list[str]:
    return sorted(f"{file.parent.name[:-9]} {file.read_text()}" for file in folder.glob("outputs/toy/*/starts"))


def test_only_what_is_missing_runs_and_goes_on_after_a_failure(page, monkeypatch, tmp_path, capfd) -> None:
    page, command = page
    monkeypatch.setenv("FAKE", "fail poincare")
    assert command() == 2
    assert "2 of 4 runs of study toy did not finish" in " ".join(capfd.readouterr().err.split())
    rows = ["| euclidean | 1.25 (1.25, 1.25) | – | – | 2 |"]
    head = "| geometry | FID | less | later | seeds |\n|---|---|---|---|---|"
    assert page.page.read_text() == "\n".join(["before\n<!-- fids -->", head, *rows, "<!-- end -->\nafter\n"])

    monkeypatch.delenv("FAKE")
    assert command("--tables") == 0
    assert command() == 0
    assert "4 of 4 runs" in capfd.readouterr().out
    assert starts(tmp_path) == ["euclidean-s0 x", "euclidean-s1 x", "poincare-c1-s0 xx", "poincare-c1-s1 xx"]
    rows.append("| poincare | 1.25 (1.25, 1.25) | +0.00 ± 0.00 | – | 2 |")
    assert page.page.read_text() == "\n".join(["before\n<!-- fids -->", head, *rows, "<!-- end -->\nafter\n"])
    recorded = json.loads(page.page.with_suffix(".json").read_text())["figures"]
    assert recorded.keys() == {f"geometry={g} seed={s}" for g in ("euclidean", "poincare") for s in (0, 1)}
    assert {"fid", "label_accuracy", "torch", "date", "seconds"} <= recorded["geometry=poincare seed=1"].keys()

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
    assert "| euclidean | 1.25 (1.25) | – | – | 1 |\n" in page.page.read_text()


def test_figures_that_older_runs_lack_are_a_dash(page) -> None:
    page, command = page
    figures = {
        "geometry=euclidean seed=0": {"fid": 1.0},
        "geometry=euclidean seed=1": {"fid": 2.0},
        "geometry=poincare seed=0": {"fid": 2.0, "recorded_later": 5.0},
        "geometry=poincare seed=1": {"recorded_later": 6.0},
    }
    page.page.with_suffix(".json").write_text(json.dumps({"figures": figures}))
    assert command("--tables") == 0
    assert "| euclidean | 1.50 (1.00, 2.00) | – | – | 2 |\n" in page.page.read_text()
    assert "| poincare | 2.00 (2.00) | – | 5.5 | 2 |\n" in page.page.read_text()


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
    assert recorded.keys() <= keys, "figures of runs that the page does not have"
    # the keys are commands
    paths = {point.run.path.name for plan in plans.values() for point in plan}
    for key in list(recorded)[:: len(recorded) // 4]:
        [point] = make_plan(points_of(key.split()))
        assert point.run.path.name in paths


def test_one_list_of_cells_for_sweep_and_page(monkeypatch) -> None:
    load("results_page", monkeypatch)
    ablation = load("ablation", monkeypatch)
    [plan] = ablation.PAGE.plans([]).values()
    assert {point.config.study for point in plan} == {"ablation"}
    assert dict.fromkeys(part for p in plan for part in p.overrides if part.startswith("ablation=")) == dict.fromkeys(
        f"ablation={cell}" for cell in ablation.CELLS
    )
