"""The report and the workspace that the server gets, panel by panel."""

import re
from dataclasses import replace
from importlib.machinery import ModuleSpec
from typing import Any

import pytest
from wandb_server import API_KEY, View, WandbServer

from hldm.errors import UserError
from hldm.tracking import workspace
from hldm.tracking.board import Board, Grid, Measure
from hldm.tracking.workspace import check_dashboard, publish

pytestmark = pytest.mark.usefixtures("clean")

BOARD = Board(
    study="curvatures",
    samples=[
        Measure("fid", "FID ↓"),
        Measure("kid", "KID ↓"),
        Measure("precision", "precision ↑"),
        Measure("recall", "recall ↑"),
        Measure("precision_unlabelled", "precision (unlabelled) ↑"),
        Measure("recall_unlabelled", "recall (unlabelled) ↑"),
    ],
    others=[Measure("elbo", "bound with own prior, nats ↑")],
    hierarchy=[Measure("tree_correlation", "distances as in the tree ↑", ("tree_correlation_null",))],
    curves={"guidance": [Measure("kid", "KID ↓"), Measure("fid", "FID ↓")], "method": [Measure("kid", "KID ↓")]},
    named=frozenset({"method"}),
    pictures=["samples", "reconstructions", "latents", "neighbours"],
    tables=[Grid("Means", [["cell", "FID ↓"], ["poincare c=1", "3.2 ± 0.4"], ["a|b\nc", "1"]])],
    sentences=["poincare c=1 against euclidean: FID is lower."],
)
TRAINED = [
    {"key": {"section": "run", "name": "group"}, "op": "=", "value": "curvatures", "disabled": False},
    {"key": {"section": "run", "name": "jobType"}, "op": "=", "value": "train", "disabled": False, "connector": "AND"},
]
BY_CELL = ["geometry.value", "curvature.value"]

Panels = dict[str, list[tuple[str, dict[str, Any]]]]
"""Section → kind and configuration of its panels."""


@pytest.fixture
def published(server: WandbServer) -> tuple[View, View]:
    server.projects.add("hldm")
    publish(BOARD, "hldm")
    report, view = server.views.values()
    return report, view


def panels_of_report(view: View) -> Panels:
    found: Panels = {}
    heading = ""
    for block in view.spec["blocks"]:
        if block["type"] == "heading":
            heading = block["children"][0]["text"]
        if block["type"] == "panel-grid":
            panels = block["metadata"]["panelBankSectionConfig"]["panels"]
            found[heading] = [(panel["viewType"], panel["config"]) for panel in panels]
    return found


def panels_of_workspace(view: View) -> Panels:
    bank = view.spec["section"]["panelBankConfig"]["sections"]
    return {one["name"]: [(panel["viewType"], panel["config"]) for panel in one["panels"]] for one in bank}


def grids(view: View) -> dict[str, dict[str, Any]]:
    """Section of a report → the runs of its panels, and whether their table is hidden."""
    found, heading = {}, ""
    for block in view.spec["blocks"]:
        if block["type"] == "heading":
            heading = block["children"][0]["text"]
        if block["type"] == "panel-grid":
            [runs] = block["metadata"]["runSets"]
            found[heading] = runs | {"hidden": block["metadata"]["hideRunSets"]}
    return found


def some(config: dict[str, Any], *keys: str) -> tuple[Any, ...]:
    return tuple(config.get(key) for key in keys)


def check_panels(panels: Panels) -> None:
    """Every panel of `BOARD`, in its section and in order."""
    assert list(panels) == [
        "Samples", "Against curvature", "Settings of the sampler", "Precision against recall",
        "Hierarchy beside chance", "First stage and likelihood", "Training", "Pictures", "Seeds", "Runs",
    ]  # fmt: skip
    bars = panels["Samples"] + panels["Hierarchy beside chance"] + panels["First stage and likelihood"]
    assert {kind for kind, _ in bars} == {"Bar Chart"}
    assert [some(config, "chartTitle", "metrics") for _, config in bars] == [
        ("FID ↓", ["final/fid"]),
        ("KID ↓", ["final/kid"]),
        ("precision ↑", ["final/precision"]),
        ("recall ↑", ["final/recall"]),
        ("precision (unlabelled) ↑", ["final/precision_unlabelled"]),
        ("recall (unlabelled) ↑", ["final/recall_unlabelled"]),
        ("distances as in the tree ↑", ["final/tree_correlation", "final/tree_correlation_null"]),
        ("bound with own prior, nats ↑", ["final/elbo"]),
    ]
    assert {some(config, "groupAgg", "groupArea") for _, config in bars} == {("mean", "stderr")}

    against = panels["Against curvature"]
    assert {kind for kind, _ in against} == {"Scatter Plot"}
    assert {config["xAxis"] for _, config in against} == {"config:curvature.value"}
    assert [config["yAxis"] for _, config in against[:2]] == ["summary:final/fid", "summary:final/kid"]

    curves = panels["Settings of the sampler"]
    assert {kind for kind, _ in curves} == {"Run History Line Plot"}
    assert [some(config, "xAxis", "metrics", "groupAgg", "groupArea") for _, config in curves] == [
        ("guidance_curve/value", ["guidance_curve/kid"], "mean", "stderr"),
        ("guidance_curve/value", ["guidance_curve/fid"], "mean", "stderr"),
        ("method_curve/step", ["method_curve/kid"], "mean", "stderr"),  # its values are names
    ]

    assert [(kind, *some(config, "chartTitle", "xAxis", "yAxis")) for kind, config in
            panels["Precision against recall"]] == [
        ("Scatter Plot", "Precision against recall", "summary:final/recall", "summary:final/precision"),
        ("Scatter Plot", "Precision against recall (unlabelled)", "summary:final/recall_unlabelled",
         "summary:final/precision_unlabelled"),
    ]  # fmt: skip
    assert [(kind, *some(config, "xAxis", "metrics")) for kind, config in panels["Training"]] == [
        ("Run History Line Plot", "first_stage/step", ["first_stage/loss"]),
        ("Run History Line Plot", "diffusion/step", ["diffusion/loss"]),
    ]
    assert [(kind, config["mediaKeys"]) for kind, config in panels["Pictures"]] == [
        ("Media Browser", [name])
        for name in ("samples", "reconstructions", "latents", "neighbours", "samples_table")
    ]  # fmt: skip
    assert [some(config, "xAxis", "yAxis") for _, config in panels["Seeds"]] == [
        ("config:seed.value", "summary:final/fid"),
        ("config:seed.value", "summary:final/kid"),
    ]
    (parallel, columns), (comparer, settings) = panels["Runs"]
    assert (parallel, comparer, settings["diffOnly"]) == ("Parallel Coordinates Plot", "Run Comparer", "split")
    assert [column["accessor"] for column in columns["columns"]] == [
        "config:geometry.value", "config:curvature.value", "config:seed.value", "summary:final/fid",
        "summary:final/kid",
    ]  # fmt: skip


def test_the_report_has_every_panel(published: tuple[View, View]) -> None:
    report, _ = published
    assert (report.type, report.display_name, report.project) == ("runs", "Comparison of curvatures", "nobody/hldm")
    check_panels(panels_of_report(report))


def test_the_workspace_has_the_same_panels_over_the_same_runs(published: tuple[View, View]) -> None:
    _, view = published
    assert (view.type, view.display_name, view.project) == ("project-view", "Comparison of curvatures", "nobody/hldm")
    check_panels(panels_of_workspace(view))
    [runs] = view.spec["section"]["runSets"]
    assert runs["filters"]["filters"] == TRAINED
    assert [key["name"] for key in runs["grouping"]] == BY_CELL
    assert runs["runFeed"]["columnPinned"]["config:seed.value"]
    assert view.spec["section"]["settings"]["useRunsTableGroupingInPanels"]
    assert not view.spec["section"]["settings"]["shouldAutoGeneratePanels"]


def test_runs_of_the_report_are_grouped_by_geometry_curvature_and_seed(published: tuple[View, View]) -> None:
    found = grids(published[0])
    for heading, runs in found.items():
        assert runs["filters"]["filters"] == TRAINED
        by_run = heading in ("Pictures", "Seeds", "Runs")
        assert [key["name"] for key in runs["grouping"]] == [*BY_CELL, *(["seed.value"] if by_run else [])]
        assert {key["section"] for key in runs["grouping"]} == {"config"}
    assert [heading for heading, runs in found.items() if not runs["hidden"]] == ["Runs"]
    assert found["Runs"]["runFeed"]["columnOrder"][:6] == [
        "config:geometry.value", "config:curvature.value", "config:seed.value", "run:state",
        "config:first_stage.value", "summary:final/fid",
    ]  # fmt: skip


def test_panels_of_the_report_stand_beside_each_other(published: tuple[View, View]) -> None:
    for block in published[0].spec["blocks"]:
        if block["type"] == "panel-grid":
            layouts = [panel["layout"] for panel in block["metadata"]["panelBankSectionConfig"]["panels"]]
            assert all(one["x"] + one["w"] <= 24 for one in layouts)
            assert len({(one["x"], one["y"]) for one in layouts}) == len(layouts)


def test_words_and_tables_of_the_comparison_are_in_the_report(published: tuple[View, View]) -> None:
    text = str(published[0].spec["blocks"])
    assert "poincare c=1 against euclidean: FID is lower." in text
    assert r"| cell | FID ↓ |\n| :-- | --: |\n| poincare c=1 | 3.2 ± 0.4 |\n| a\\|b c | 1 |" in text


def test_sections_without_figures_are_left_out(server: WandbServer) -> None:
    server.projects.add("hldm")
    publish(Board("vae", others=BOARD.others, pictures=["reconstructions"], has_diffusion=False), "hldm")
    report, view = server.views.values()
    panels = panels_of_report(report)
    assert panels.keys() == panels_of_workspace(view).keys()
    assert list(panels) == ["First stage and likelihood", "Training", "Pictures", "Runs"]
    assert [config["mediaKeys"] for _, config in panels["Pictures"]] == [["reconstructions"]]
    assert len(panels["Training"]) == 1


def test_a_second_call_writes_the_same_views_again(server: WandbServer) -> None:
    server.projects.add("hldm")
    first = publish(BOARD, "hldm")
    second = publish(replace(BOARD, sentences=["Another."]), "hldm", ids=first.ids)
    assert second == first
    assert len(server.views) == 2
    assert "Another." in str(server.views[first.ids["report"]].spec)


@pytest.mark.parametrize("deleted", [("report",), ("workspace",), ("report", "workspace")])
def test_views_that_were_deleted_are_written_anew(server: WandbServer, deleted: tuple[str, ...]) -> None:
    server.projects.add("hldm")
    first = publish(BOARD, "hldm")
    for name in deleted:
        del server.views[first.ids[name]]
    server.views |= {"another": View("another", "", "runs", "", "", {})}  # so that no new one has an old id
    second = publish(BOARD, "hldm", ids=first.ids)
    assert len(server.views) == 3
    assert {name for name in ("report", "workspace") if second.ids[name] != first.ids[name]} == set(deleted)
    assert (second.ids["view"] == first.ids["view"]) == ("workspace" not in deleted)


@pytest.mark.parametrize("broken", ["ask", "write"])
def test_trouble_with_the_server_leaves_no_second_report(server: WandbServer, broken: str) -> None:
    server.projects.add("hldm")
    first = publish(BOARD, "hldm")
    server.broken = broken
    with pytest.raises(UserError, match=r"did not take the dashboard of curvatures.*internal server error"):
        publish(BOARD, "hldm", ids=first.ids)
    server.broken = ""
    assert publish(BOARD, "hldm", ids=first.ids) == first
    assert len(server.views) == 2


def test_a_report_whose_workspace_was_not_taken_is_the_one_that_is_written_again(server: WandbServer) -> None:
    server.projects.add("hldm")
    kept: dict[str, str] = {}
    server.broken = "write project-view"
    with pytest.raises(UserError, match="internal server error"):
        publish(BOARD, "hldm", keep=kept.update)
    server.broken = ""
    links = publish(BOARD, "hldm", ids=kept)
    assert links.ids["report"] == kept["report"]
    assert len(server.views) == 2


@pytest.mark.parametrize("ids", [{}, {"report": ""}, {"workspace": "", "view": "x"}])
def test_without_ids_nothing_is_asked(server: WandbServer, ids: dict[str, str]) -> None:
    server.projects.add("hldm")
    server.broken = "ask"
    publish(BOARD, "hldm", ids=ids)
    assert len(server.views) == 2


def test_the_addresses_are_where_the_views_are(server: WandbServer, capfd: pytest.CaptureFixture[str]) -> None:
    server.projects.add("own")
    links = publish(BOARD, "own", "lab")
    assert re.fullmatch(rf"{server.url}/lab/own/reports/Comparison-of-curvatures--view-0", links.report)
    assert re.fullmatch(rf"{server.url}/lab/own\?nw=\w+", links.workspace)
    assert {view.project for view in server.views.values()} == {"lab/own"}
    out, err = capfd.readouterr()
    assert out + err == ""  # who calls says where it is


def test_a_project_that_is_not_there_is_one_sentence(server: WandbServer) -> None:
    with pytest.raises(UserError, match=r"has no project nobody/hldm: .*wandb sync"):
        publish(BOARD, "hldm")
    assert server.views == {}


def test_what_the_server_refuses_is_one_sentence(server: WandbServer) -> None:
    server.refuse = True
    with pytest.raises(UserError, match="did not take the dashboard of curvatures") as error:
        publish(BOARD, "hldm")
    assert API_KEY not in str(error.value)


def test_without_a_key_it_is_refused_before_any_work() -> None:
    with pytest.raises(UserError, match=r"there is no key .*WANDB_API_KEY"):
        check_dashboard()


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_offline_it_is_refused_before_any_work(server: WandbServer, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(UserError, match=f"mode is {mode}"):
        check_dashboard()


def test_settings_that_wandb_refuses_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "foo")
    with pytest.raises(UserError, match="setting mode"):
        check_dashboard()


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(workspace, "find_spec", missing)
    with pytest.raises(UserError, match="pip install wandb-workspaces"):
        check_dashboard()


def test_with_a_key_it_may_be_written(server: WandbServer) -> None:
    check_dashboard()
    assert server.views == {}
