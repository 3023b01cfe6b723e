"""The cells of a grid: one per run and seed, in the order of the points."""

from pathlib import Path

from hldm.study.cells import cells
from hldm.study.plan import make_plan
from hldm.study.points import points_of


def test_points_that_are_one_run_are_one_cell(tmp_path: Path) -> None:
    plan = make_plan(
        points_of(["geometry=euclidean,poincare", "curvature=0.1,1", "seed=0,1", f"paths.outputs={tmp_path}"])
    )
    known = {point.run.path: {"fid": float(i), "kid": None} for i, point in enumerate(plan) if point.config.seed == 0}
    found = cells(plan, lambda point: known.get(point.run.path))
    assert [(cell.settings["geometry"], cell.settings["curvature.value"]) for cell in found] == [
        ("euclidean", "0.1"),
        ("poincare", "0.1"),
        ("poincare", "1"),
    ]
    assert [cell.first for cell in found] == [None, found[0], found[0]]
    assert [cell.config.geometry.name for cell in found] == ["euclidean", "poincare", "poincare"]
    assert found[1].figures("fid", scale=10) == {0: 40.0}
    assert found[1].figures("kid") == found[1].figures("floor_fid") == {}
