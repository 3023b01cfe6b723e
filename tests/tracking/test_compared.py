"""Runs on the server, then `hldm compare … wandb=true` on their study: key to dashboard, with the real wandb."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_workspace import panels_of_report, panels_of_workspace
from wandb_server import WandbServer

from hldm import console
from hldm.commands import compare
from hldm.config.schema import WandbTracker
from hldm.pipeline import run
from hldm.run.directory import RunDirectory
from hldm.study.plan import Point
from tests.pipeline.conftest import prepare
from tests.study.made_runs import dressed, made

pytestmark = pytest.mark.usefixtures("clean")


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those for a paper take most of the time of a comparison."""
    monkeypatch.setattr("hldm.study.compare._print_figures", lambda *_: None)
    monkeypatch.setattr("hldm.study.compare._print_pictures", lambda *_: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study whose runs say that they are tracked."""

    def results(point: Point) -> Mapping[str, Any] | None:
        return None if point.config.seed == 1 and not point.config.has_flat_latents else dressed(point)

    plan = made(tmp_path, "geometry=euclidean,poincare curvature=0.1,1 seed=0,1 study=balls", results)
    for point in plan:
        config = point.run.config.model_copy(update={"tracking": WandbTracker()})
        RunDirectory.create(point.run.path, config)
    return plan[0].config.study_folder


def call(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    status = console.run(lambda: compare.main([str(argument) for argument in argv]))
    out, err = capsys.readouterr()
    return status, out, " ".join(err.split())


def test_a_study_is_written_and_written_again_in_place(
    folder: Path, server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.projects.add("hldm")
    for _ in range(2):
        status, out, err = call(capsys, folder, "wandb=true")
        assert (status, err) == (0, "")
        report, workspace = out.splitlines()[-2:]
        assert report.startswith(f"Report on Weights & Biases: {server.url}/nobody/hldm/reports/Comparison-of-balls--")
        assert workspace.startswith(f"Workspace: {server.url}/nobody/hldm?nw=")
    report_view, workspace_view = server.views.values()
    panels = panels_of_report(report_view)
    assert panels.keys() == panels_of_workspace(workspace_view).keys()
    assert ["final/fid"] in [config["metrics"] for _, config in panels["Samples"]]
    assert [config["metrics"] for _, config in panels["Hierarchy beside chance"]] == [
        ["final/quartet_p"],
        ["final/tree_correlation", "final/tree_correlation_null"],
        ["final/delta_rel", "final/delta_rel_gaussian", "final/delta_rel_shuffled"],
    ]
    text = str(report_view.spec["blocks"])
    assert "FID ↓, geometry × curvature" in text
    assert "All runs have finished" in text
    assert "poincare c=1" in text
    assert {file.name for file in folder.iterdir() if file.is_file()} >= {"comparison.html", "wandb.json"}


NOT_ONLINE = {
    "no key": ({}, "there is no key"),
    "offline": ({"WANDB_API_KEY": 40 * "0", "WANDB_MODE": "offline"}, "mode is offline"),
}


@pytest.mark.parametrize(("environment", "words"), NOT_ONLINE.values(), ids=NOT_ONLINE.keys())
def test_what_cannot_be_written_is_refused_before_any_work(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    words: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    status, out, err = call(capsys, folder, "wandb=true")
    assert (status, out) == (2, "")
    assert words in err
    assert not (folder / "comparison.html").exists()
    assert call(capsys, folder, "wandb=false")[0] == 0


def test_runs_without_a_tracker_are_refused_before_any_work(
    tmp_path: Path, server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(tmp_path, "geometry=euclidean,poincare", dressed)[0].config.study_folder
    status, out, err = call(capsys, folder, "wandb=true")
    assert (status, out) == (2, "")
    assert "tracking=none" in err
    assert not (folder / "comparison.html").exists()


@pytest.mark.parametrize(
    ("value", "said"), [("yes", "neither true nor false"), ("1", "neither true nor false"), ("", "has no value")]
)
def test_other_values_are_refused(folder: Path, capsys: pytest.CaptureFixture[str], value: str, said: str) -> None:
    status, _, err = call(capsys, folder, f"wandb={value}")
    assert status == 2
    assert said in err


def test_a_server_that_refuses_costs_a_sentence_and_no_file(
    folder: Path, server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.refuse = True
    status, _, err = call(capsys, folder, "wandb=true")
    assert status == 2
    assert "did not take the dashboard of balls" in err
    assert (folder / "comparison.html").is_file()


def test_from_a_key_to_a_dashboard(tmp_path: Path, server: WandbServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs as they are, with everything that they log, and their study."""
    for geometry in ("euclidean", "poincare"):
        run(prepare(tmp_path, f"geometry={geometry}", "study=tiny", "tracking=wandb").path)
    trained = [one for one in server.runs.values() if one.job_type == "train"]
    first = {one.id: one for one in server.runs.values() if one.job_type == "first_stage"}
    assert [one.values["geometry"] for one in trained] == ["euclidean", "poincare"]
    assert [one.values["curvature"] for one in trained] == [0.0, 1.0]
    for one in trained:
        directory = RunDirectory(tmp_path / "tiny" / str(one.display_name))
        metrics = (directory.results or {})["metrics"]
        assert {name: one.summary[f"final/{name}"] for name in metrics} == pytest.approx(metrics)
        assert one.steps("first_stage") == one.steps("diffusion") == [1, 2, 3, 4, 5, 6]
        assert first[one.values["first_stage_run"]].display_name == one.values["first_stage"]
        assert first[one.values["first_stage_run"]].steps("first_stage") == [1, 2, 3, 4, 5, 6]
        assert one.summary["samples_table"]["nrows"] == 20
        assert json.loads(one.files["latents.json"]) == json.loads((directory.path / "latents.json").read_text())
        assert one.group == "tiny"
        assert one.exit_codes == [0]
    joined = {(next(iter(a.made_by)), *a.used_by) for a in server.artifacts.values() if a.type == "first_stage"}
    assert joined == {(one.values["first_stage_run"], one.id) for one in trained}

    capsys.readouterr()
    status, out, err = call(capsys, tmp_path / "tiny", "wandb=true")
    assert (status, err) == (0, "")
    assert "Report on Weights & Biases: " in out
    shown = {key for one in trained for key in (*one.summary, *(key for row in one.history for key in row))}
    for kind, config in (panel for panels in panels_of_report(next(iter(server.views.values()))).values()
                         for panel in panels):  # fmt: skip
        named = [*config.get("metrics", []), *config.get("mediaKeys", [])]
        named += [config[axis].removeprefix("summary:") for axis in ("xAxis", "yAxis")
                  if kind == "Scatter Plot" and config[axis].startswith("summary:")]  # fmt: skip
        assert set(named) <= shown, f"{config.get('chartTitle')} shows what no run has"
