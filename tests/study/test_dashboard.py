"""What the dashboard on Weights & Biases is told of a comparison."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hldm.config.compose import compose
from hldm.config.schema import NoTracker, Tracking, WandbTracker
from hldm.errors import UserError
from hldm.study import dashboard
from hldm.study.cells import Cell, Finished
from hldm.study.comparison import compare
from hldm.study.dashboard import board, check, write_dashboard
from hldm.study.fairness import checklist
from hldm.study.rows import rows_of_plan
from hldm.study.verdict import verdict
from hldm.study.whole import Study
from hldm.tracking.board import Board, Measure
from hldm.tracking.workspace import Links
from tests.study.made_runs import made, usual

GRID = "geometry=euclidean,poincare curvature=0.1,1 seed=0,1,2 study=balls"


def with_tree(point: Any) -> dict[str, Any]:
    """Results as usual, of data with a tree and with a curve over the solvers."""
    results = usual(point)
    tree = {"tree_correlation": 0.6, "tree_correlation_null": 0.1, "quartet_p": 0.01, "radius_median": 1.0}
    solvers = [{"value": name, "kid": 0.02} for name in ("euler", "heun")]
    method = {"split": "validation", "samples": 1000, "points": solvers, "best": "heun"}
    return {**results, "metrics": results["metrics"] | tree, "curves": {**results["curves"], "method": method}}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    plan = made(tmp_path, GRID, with_tree)
    study = Study.of(tmp_path / "balls", rows_of_plan(plan))
    return with_cells(study, [with_tracker(cell, WandbTracker(project="own")) for cell in study.cells])


def with_cells(study: Study, found: Sequence[Cell]) -> Study:
    return replace(study, cells=found, comparison=compare(found), checks=checklist(found))


def with_tracker(cell: Cell, tracker: Tracking) -> Cell:
    return replace(cell, config=cell.config.model_copy(update={"tracking": tracker}))


def test_figures_of_the_comparison_are_its_measures(study: Study) -> None:
    shown = board(study)
    assert [one.name for one in shown.samples[:3]] == ["fid_unguided", "fid_best", "fid"]
    assert Measure("kid", "KID ↓") in shown.samples
    assert Measure("precision", "precision ↑") in shown.samples
    assert Measure("elbo_kl", "rate (KL), nats") in shown.others
    assert not {one.name for one in shown.samples} & {one.name for one in shown.others}
    assert (shown.study, shown.has_diffusion) == ("balls", True)


def test_figures_of_a_hierarchy_stand_beside_the_controls_that_runs_have(study: Study) -> None:
    by_name = {one.name: one.controls for one in board(study).hierarchy}
    assert by_name == {"quartet_p": (), "tree_correlation": ("tree_correlation_null",)}


def test_curves_know_which_values_are_names(study: Study) -> None:
    shown = board(study)
    assert {setting: [one.name for one in along] for setting, along in shown.curves.items()} == {
        "guidance": ["fid", "label_accuracy"],
        "method": ["kid"],
    }
    assert shown.named == {"method"}
    assert shown.curves["guidance"][0] == Measure("fid", "FID ↓")


def test_pictures_are_those_that_finished_runs_have(study: Study) -> None:
    assert board(study).pictures == []
    for name in ("latents", "samples", "others"):
        (study.runs[1].point.run.path / f"{name}.png").touch()
    assert board(study).pictures == ["samples", "latents"]


def test_tables_are_those_of_the_terminal(study: Study) -> None:
    matrix, *others, table, _ = board(study).tables
    assert matrix.title == "FID ↓, geometry × curvature"
    assert matrix.rows[0] == ["", "flat", "c = 0.1", "c = 1"]
    assert [row[0] for row in matrix.rows[1:]] == ["euclidean", "poincare"]
    assert [[bool(cell) for cell in row[1:]] for row in matrix.rows[1:]] == [[True, False, False], [False, True, True]]
    assert "±" in matrix.rows[1][1]
    assert [one.title for one in others] == ["KID ↓, geometry × curvature"]
    assert table.rows[0][:3] == ["cell", "seeds", "FID, no guidance ↓"]
    assert [row[:2] for row in table.rows[1:]] == [["euclidean", "3"], ["poincare c=0.1", "3"], ["poincare c=1", "3"]]
    assert all(len(row) == len(table.rows[0]) for row in table.rows)


def test_cells_that_differ_in_more_have_no_matrix(study: Study) -> None:
    twice = with_cells(study, [*study.cells, replace(study.cells[0])])
    titles = [one.title for one in board(twice).tables]
    assert titles == ["Means over seeds ± 95 % interval", "How fair the comparison is"]


def test_how_fair_it_is_stands_in_it(study: Study) -> None:
    table = board(study).tables[-1]
    assert table.rows[0] == ["it should be", "is it", "facts"]
    assert [row[0] for row in table.rows[1:]] == [check.what for check in study.checks]
    assert {row[1] for row in table.rows[1:]} <= {"yes", "no", "not known"}
    assert table.rows[1] == ["All runs have finished", "yes", "9 finished"]


def test_verdict_and_exclusions_are_its_sentences(study: Study) -> None:
    flat, ball, other = study.cells
    odd = replace(ball.runs[2], provenance={**ball.runs[2].provenance, "samples": 100})
    changed = with_cells(study, [flat, replace(ball, runs={**ball.runs, 2: odd}), other])
    [first, second, *rest] = board(changed).sentences
    assert first == " ".join(verdict(changed.comparison, "poincare c=0.1"))
    assert second == " ".join(verdict(changed.comparison, "poincare c=1"))
    assert changed.comparison.exclusions
    assert rest[: len(changed.comparison.exclusions)] == changed.comparison.exclusions


def test_cells_without_results_give_a_board_too(study: Study) -> None:
    config = compose(["geometry=poincare"])
    nothing = replace(study, rows=[])
    shown = board(with_cells(nothing, [Cell({"geometry": "poincare"}, config, {}, {0: "running"})]))
    assert (shown.study, shown.samples, shown.hierarchy, shown.curves) == ("main", [], [], {})
    first_only = Cell({}, compose(["+experiment=pvae_mnist", "geometry=poincare"]), {0: Finished({"nll": 1.0})})
    assert not board(with_cells(nothing, [first_only])).has_diffusion


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What `publish` was called with; it answers with ids that count."""
    calls: list[tuple[Any, ...]] = []

    def record(shown: Board, project: str, entity: str | None, ids: Mapping[str, str], keep: Any) -> Links:
        calls.append((shown.study, project, entity, dict(ids)))
        keep({"report": str(len(calls))})
        return Links("https://report", "https://workspace", {})

    monkeypatch.setattr(dashboard, "publish", record)
    monkeypatch.setattr(dashboard, "check_dashboard", lambda: None)
    return calls


def written(study: Study) -> Links:
    """As the command does it."""
    tracker = check([cell.config for cell in study.cells])
    return write_dashboard(board(study), tracker, study.folder)


def test_a_study_keeps_its_report(study: Study, asked: list[tuple[Any, ...]]) -> None:
    assert written(study).report == "https://report"
    written(study)
    assert asked == [("balls", "own", None, {}), ("balls", "own", None, {"report": "1"})]
    assert json.loads((study.folder / "wandb.json").read_text()) == {"report": "2"}


@pytest.mark.parametrize("text", ["", "{", "[1]", "3"])
def test_a_damaged_file_of_ids_is_written_anew(study: Study, asked: list[tuple[Any, ...]], text: str) -> None:
    (study.folder / "wandb.json").write_text(text)
    written(study)
    assert asked[0][3] == {}
    assert json.loads((study.folder / "wandb.json").read_text()) == {"report": "1"}


def test_runs_that_are_not_tracked_are_refused(study: Study, asked: list[tuple[Any, ...]]) -> None:
    configs = [cell.config.model_copy(update={"tracking": NoTracker()}) for cell in study.cells]
    with pytest.raises(UserError, match=r"tracking=none\. .* tracking=wandb and another study="):
        check(configs)
    assert check([*configs, study.cells[0].config]).project == "own"


def test_runs_of_two_projects_are_refused(study: Study, asked: list[tuple[Any, ...]]) -> None:
    other = study.cells[0].config.model_copy(update={"tracking": WandbTracker(project="other", entity="lab")})
    with pytest.raises(UserError, match="in 2: lab/other, the own entity/own"):
        check([study.cells[0].config, other])


def test_runs_of_two_studies_are_refused(study: Study, asked: list[tuple[Any, ...]]) -> None:
    other = study.cells[0].config.model_copy(update={"study": "another"})
    with pytest.raises(UserError, match="of 2: another, balls"):
        check([study.cells[0].config, other])


def test_without_a_key_nothing_is_sent(
    study: Study, asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise UserError("no key")

    monkeypatch.setattr(dashboard, "check_dashboard", refuse)
    with pytest.raises(UserError, match="no key"):
        written(study)
    assert asked == []
