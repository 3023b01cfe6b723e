"""How far a run is, and how long it still takes."""

from pathlib import Path

import pytest

from hldm.config.compose import compose
from hldm.run.directory import RunDirectory
from hldm.study import progress
from hldm.study.plan import Estimate
from hldm.study.progress import Pace, Progress, in_words, progress_of


def test_what_a_run_says_of_itself(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert progress_of(run) is None
    run.update_status(state="running", progress={"stage": "diffusion", "step": 22, "steps": 50, "updated": "now"})
    assert progress_of(run) == Progress("diffusion", 22, 50)
    run.update_status(progress={"stage": "evaluation"})
    assert str(progress_of(run)) == "evaluation"
    run.update_status(progress={"stage": "diffusion", "step": 10**400, "steps": 1})
    assert progress_of(run) == Progress("diffusion", 0, 1)
    for other in ({"stage": 3}, "diffusion", None):
        run.update_status(progress=other)
        assert progress_of(run) is None
    (tmp_path / "status.json").write_text("{")
    assert progress_of(run) is None


def test_what_is_left_by_the_pace_of_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock)
    config = compose([])
    minutes = Estimate().stages(config)
    pace = Pace(Estimate(), config)
    assert pace.minutes == pytest.approx(sum(minutes.values()))
    assert pace.see(Progress("diffusion", 100, 1000))  # resumed there
    assert pace.minutes == pytest.approx(0.9 * minutes["diffusion"] + minutes["evaluation"])
    clock = 60.0
    assert not pace.see(Progress("diffusion", 200, 1000))
    assert pace.minutes == pytest.approx(8 + minutes["evaluation"])
    assert pace.see(Progress("evaluation"))
    clock += 30
    assert pace.minutes == pytest.approx(max(0, minutes["evaluation"] - 0.5))


def test_words() -> None:
    assert [in_words(minutes) for minutes in (0, 0.5, 3.2, 99, 150)] == ["0 s", "30 s", "3 min", "99 min", "2.5 h"]
    assert str(Progress("first_stage", 3, 9)) == "first stage 3 of 9"
    assert (Progress("evaluation").share, Progress("diffusion", 3, 12).share) == (0, 0.25)
