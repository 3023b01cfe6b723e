"""The points of a grid are those that `python train.py -m` runs, and named sweeps are written as one types."""

from pathlib import Path

import pytest

from hldm.config.options import Options
from hldm.errors import UserError
from hldm.study.plan import make_plan
from hldm.study.points import combinations, points_of
from tests.conftest import Invoke


def test_what_is_typed_counts_instead_of_the_sweep() -> None:
    params = {"geometry": "euclidean,poincare", "curvature": 0.1, "seed": "0,1"}
    options = Options()
    assert combinations(params, ["curvature.value=1,2", "seed=5"], options) == [
        ["geometry=euclidean", "curvature.value=1", "seed=5"],
        ["geometry=euclidean", "curvature.value=2", "seed=5"],
        ["geometry=poincare", "curvature.value=1", "seed=5"],
        ["geometry=poincare", "curvature.value=2", "seed=5"],
    ]
    assert combinations(None, ["seed=3"], options) == [["seed=3"]]
    assert combinations({"curvature": "fixed,learnable"}, [], options) == [["curvature=fixed"], ["curvature=learnable"]]
    with pytest.raises(UserError, match="poincaree is not an option"):
        combinations({"geometry": "euclidean,poincaree"}, [], options)


def test_the_command_runs_these_points(invoke: Invoke) -> None:
    typed = ["geometry=poincare,euclidean", "curvature=0.1,1", "seed=0", "hardware.slots=2", "tracking=none"]
    status, _, _ = invoke("-m", *typed)
    assert status == 0
    plan = make_plan(points_of([*typed, f"paths.outputs={Path.cwd() / 'outputs'}"]))
    assert [point.original for point in plan] == [None, None, None, 3]
    assert {point.run.path for point in plan} == {
        file.parent for file in (Path.cwd() / "outputs").glob("*/*/status.json")
    }
    assert {point.state for point in plan} == {"finished"}
    assert plan[0].overrides[:2] == ("geometry=poincare", "curvature.value=0.1")


@pytest.mark.parametrize("sign", ["", "+"])
def test_a_named_sweep_and_a_preset_need_no_plus_sign(sign: str) -> None:
    points = points_of([f"{sign}sweep=latent_radius", "geometry=poincare", "seed=0", f"{sign}experiment=smoke"])
    assert [config.curvature.value for _, config in points] == [0.1, 0.3, 1.0, 3.0]
    assert {config.training.diffusion.steps for _, config in points} == {80}


@pytest.mark.parametrize("name", sorted(Options().groups["sweep"]))
def test_every_named_sweep_is_a_grid(name: str) -> None:
    plan = make_plan(points_of([f"sweep={name}", "seed=0"]))
    assert sum(point.original is None for point in plan) > 1
