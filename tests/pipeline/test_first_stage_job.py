"""A first stage that is trained as work of its own is the one that a run trains for itself."""

import pytest

from hldm.commands import worker
from hldm.errors import UserError
from hldm.pipeline import run_first_stage
from hldm.run import exits
from hldm.run.directory import RunDirectory
from hldm.run.identity import FIRST_STAGE_WEIGHTS, first_stage_folder
from tests.pipeline.conftest import prepare


def test_a_first_stage_of_its_own(tmp_path):
    alone = prepare(tmp_path / "alone")
    assert worker.main([str(alone.path)]) == exits.FINISHED
    theirs = first_stage_folder(alone.config)

    other = prepare(tmp_path / "job")
    stage = RunDirectory.create(first_stage_folder(other.config), other.config)
    assert worker.main([str(stage.path), "part=first_stage"]) == exits.FINISHED
    assert stage.state == "finished"
    assert stage.status["seconds"]["first_stage"] > 0
    for name in (FIRST_STAGE_WEIGHTS,):
        assert (stage.path / name).read_bytes() == (theirs / name).read_bytes()
    assert [
        line.partition('"steps_per_second"')[0] for line in (stage.path / "metrics.jsonl").read_text().splitlines()
    ] == [line.partition('"steps_per_second"')[0] for line in (theirs / "metrics.jsonl").read_text().splitlines()]
    assert worker.main([str(stage.path), "part=first_stage"]) == exits.FINISHED  # it is there: nothing is trained

    # a run takes it, and shows its curve
    assert worker.main([str(other.path)]) == exits.FINISHED
    assert other.results["metrics"] == alone.results["metrics"]
    assert (other.path / "metrics.jsonl").read_text().count("first_stage") == 6


def test_only_the_folder_of_that_first_stage_will_do(tmp_path):
    run = prepare(tmp_path)
    with pytest.raises(UserError, match="is not the folder of this first stage"):
        run_first_stage(run.path)
