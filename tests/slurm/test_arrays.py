"""From a plan to arrays: first stages first, chunks, times, and what the cluster allows."""

from functools import cache
from pathlib import Path

import pytest

from hldm.config.compose import compose
from hldm.config.schema import Paths, RunConfig
from hldm.config.slurm import Slurm
from hldm.errors import UserError
from hldm.run.identity import FIRST_STAGE_WEIGHTS, first_stage_folder
from hldm.slurm import cluster
from hldm.slurm.arrays import Work, arrange, in_words, missing_first_stages, shared, time_limit
from hldm.slurm.cluster import Cluster
from hldm.study.plan import Estimate, Point, make_plan
from tests.slurm.fake_slurm import FakeSlurm


@cache
def usual() -> RunConfig:
    return compose(["hardware=slurm_cpu", "hardware.slurm.array_parallelism=4", "paths.outputs=outputs"])


@pytest.fixture
def plan(tmp_path: Path, slurm: FakeSlurm) -> list[Point]:
    """Seven runs: three that share a first stage, and four with one of their own."""
    base = usual().model_copy(update={"paths": Paths(outputs=str(tmp_path / "outputs"))})
    diffusion = base.training.diffusion
    assert diffusion is not None
    configs = []
    for steps in (10, 20, 30):
        training = base.training.model_copy(update={"diffusion": diffusion.model_copy(update={"steps": steps})})
        configs.append(base.model_copy(update={"training": training}))
    configs += [base.model_copy(update={"seed": seed}) for seed in (1, 2, 3, 4)]
    return make_plan([((f"run={number}",), config) for number, config in enumerate(configs)])


def sizes(plan: list[Point], array_size: int = 1001) -> list[tuple[str, int, bool, int]]:
    arrays = arrange(plan, missing_first_stages(plan), [], Estimate(), Cluster(array_size))
    return [(array.part, len(array.works), array.waits, array.parallel) for array in arrays]


def test_shared_first_stages_come_first_and_only_their_runs_wait(plan: list[Point]) -> None:
    [(folder, runs)] = shared(missing_first_stages(plan)).items()
    assert runs == 3
    assert sizes(plan) == [("first_stage", 1, False, 4), ("run", 4, False, 4), ("run", 3, True, 4)]

    # a job trains it already: nobody else does, and they wait for that
    arrays = arrange(plan, missing_first_stages(plan), [folder], Estimate(), Cluster())
    assert [(array.part, len(array.works), array.waits) for array in arrays] == [("run", 4, False), ("run", 3, True)]

    folder.mkdir(parents=True)
    (folder / FIRST_STAGE_WEIGHTS).touch()
    assert sizes(plan) == [("run", 7, False, 4)]


def test_an_array_has_no_more_jobs_than_the_cluster_takes(plan: list[Point]) -> None:
    """MaxArraySize is above the largest index, and counting begins at 0."""
    assert [size for _, size, _, _ in sizes(plan, 3)] == [1, 3, 1, 3]
    assert [parallel for _, _, _, parallel in sizes(plan, 3)] == [4, 2, 2, 4]
    assert {size for _, size, _, _ in sizes(plan, 1)} == {1}


def test_what_a_job_does_counts_for_its_time(plan: list[Point]) -> None:
    estimate = Estimate()
    stage, alone, waiting = arrange(plan, missing_first_stages(plan), [], estimate, Cluster())
    minutes = estimate.stages(plan[0].config)
    assert stage.works[0].minutes == minutes["first_stage"]
    assert stage.works[0].directory == first_stage_folder(plan[0].config)
    assert waiting.works[0].minutes == pytest.approx(minutes["diffusion"] + minutes["evaluation"])
    assert alone.works[0].minutes == pytest.approx(estimate.minutes(plan[3].config))
    assert "3 runs, after the first stages" in in_words(waiting)


def works(minutes: float, least: float = 1.0) -> list[Work]:
    return [Work(Path("x"), usual(), minutes, least)]


@pytest.mark.parametrize(
    ("minutes", "timeout", "longest", "expected"),
    [
        (100, "auto", None, (165, 1)),  # 1.5 times as long, ten minutes and the time to save, rounded up
        (100, "auto", 60, (60, 2)),
        (1000, "auto", 60, (60, 18)),
        (100, 50, None, (50, 3)),
        (1, "auto", None, (15, 1)),
    ],
)
def test_the_time_of_a_job(minutes: float, timeout: str | int, longest: int | None, expected: tuple[int, int]) -> None:
    slurm = Slurm.model_validate({"timeout_min": timeout})
    assert time_limit("run", works(minutes), slurm, longest) == expected


def test_what_cannot_be_split_needs_its_time() -> None:
    with pytest.raises(UserError, match=r"partition short allows 20.*another partition"):
        time_limit("run", works(100, least=30), Slurm(partition="short"), 20)
    with pytest.raises(UserError, match="timeout_min=20 gives 20"):
        time_limit("run", works(100, least=30), Slurm(timeout_min=20), None)
    with pytest.raises(UserError, match=r"timeout_min=90 is more than the 60.*Type hardware.slurm.timeout_min=60"):
        time_limit("run", works(10), Slurm(timeout_min=90), 60)


def test_limits_of_a_cluster(slurm: FakeSlurm) -> None:
    slurm.write(array_size="500")
    assert Cluster.look(Slurm()) == Cluster(500, None, is_here=True)
    assert Cluster.look(Slurm(partition="main,short")).minutes == 20
    slurm.write(partitions="")  # a scontrol that says nothing limits nothing
    assert Cluster.look(Slurm(partition="any")).minutes is None


def test_limits_take_a_bounded_time(slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    (slurm.folder / "bin" / "scontrol").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr("hldm.run.jobs.PATIENCE", 0.2)
    assert Cluster.look(Slurm()) == Cluster(cluster.USUAL_ARRAY, None, is_here=True)


@pytest.mark.parametrize(
    ("text", "minutes"), [("1-02:03:04", 1563), ("02:00:00", 120), ("00:20:00", 20), ("UNLIMITED", None), ("", None)]
)
def test_times_of_slurm(text: str, minutes: int | None) -> None:
    assert cluster.minutes(text) == minutes
