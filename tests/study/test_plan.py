"""How long it takes, and which points are the same run."""

from pathlib import Path

import pytest

from hldm.config.compose import compose
from hldm.run.directory import RunDirectory
from hldm.study.plan import FIXED, NOMINAL, Estimate, make_plan, makespan, units


def test_makespan() -> None:
    assert makespan([8.0, 8.0, 8.0], 1) == 24.0
    assert makespan([8.0, 8.0, 8.0], 2) == 16.0
    assert makespan([4.0, 8.0, 4.0], 2) == 8.0


def test_units_count_steps_and_network_evaluations() -> None:
    overrides = ["training.first_stage.steps=10", "training.diffusion.steps=20", "training.diffusion.batch_size=64"]
    samples = ["metrics.samples=100", "metrics.sampling_seeds=[0,1]", "metrics.guidance_scales=[]"]
    work = units(compose([*overrides, *samples, "diffusion=ddpm"]))
    assert work == {"first_stage": 10, "diffusion": 10, "evaluation": 100 * 2 * 50}

    settings = ["diffusion.sampler.steps=5", "metrics.samples=100", "metrics.sampling_seeds=[0]", samples[-1]]
    for method, evaluations in (("euler", 5), ("midpoint", 10), ("rk4", 20), ("adaptive", 20)):
        work = units(compose([*settings, f"diffusion.sampler.method={method}"]))
        assert work["evaluation"] == 100 * evaluations
    # three points of 10 samples, then 100 without guidance, 100 at the best of each extractor, 100 at the run's own
    curve = ["metrics.guidance_scales=[1,2,3]", "metrics.validation_samples=10"]
    work = units(compose([*settings[:-1], *curve]))
    assert work["evaluation"] == (3 * 10 + 50 + 2 * 100 + 100) * 10


def test_an_estimate_scales_what_was_measured(tmp_path: Path) -> None:
    config = compose(["training.first_stage.steps=100"])
    nominal = Estimate.from_finished_runs(tmp_path)
    assert "nominal" in nominal.basis([config])
    run = RunDirectory.create(tmp_path / "main" / "a", config)
    work = units(config)
    run.update_status(state="finished", seconds={s: 3 * (FIXED[s] + NOMINAL[s] * work[s]) for s in NOMINAL})
    (tmp_path / "main" / "damaged").mkdir()
    (tmp_path / "main" / "damaged" / "status.json").write_text("{")
    measured = Estimate.from_finished_runs(tmp_path)
    assert "1 finished run" in measured.basis([config])
    assert measured.minutes(config) == pytest.approx(3 * nominal.minutes(config))


def test_points_that_are_the_same_run_are_found(tmp_path: Path) -> None:
    grid = [(g, c) for g in ("poincare", "euclidean") for c in (0.1, 1.0)]
    points = [
        ((f"geometry={g}", f"curvature={c}"), compose([f"geometry={g}", f"curvature={c}", f"paths.outputs={tmp_path}"]))
        for g, c in grid
    ]
    plan = make_plan(points)
    assert [point.original for point in plan] == [None, None, None, 3]
    assert [point.is_to_run for point in plan] == [True, True, True, False]
    assert plan[0].run.path == tmp_path / "main" / plan[0].identity.name
