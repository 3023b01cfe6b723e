"""Images per second and the share of a GPU's peak: in trackers and status.json, and not in metrics.jsonl."""

import pytest

from hldm.config.schema import NoTracker
from hldm.pipeline.log import RunLog, timeless
from hldm.pipeline.speed import Speed
from hldm.run.directory import RunDirectory
from hldm.tracking import NoTracker as Nowhere
from tests.pipeline.conftest import prepare


def test_the_share_of_the_peak_is_that_of_the_models_own_work():
    speed = Speed(batch_size=100, flops=10**12, gpu="h100", precision="bfloat16")
    assert speed.figures(2.0) == {"images_per_second": 200.0, "mfu": pytest.approx(200e12 / 989e12)}
    assert Speed(batch_size=100).figures(2.0) == {"images_per_second": 200.0}


def test_what_depends_on_the_machine_is_in_no_log_file(tmp_path):
    directory = prepare(tmp_path)
    log = RunLog(directory, Nowhere())
    figures = log.with_speed("diffusion", Speed(10, 10**9, "t4"), {"loss": 1.0, "steps_per_second": 3.0})
    assert figures["images_per_second"] == 30.0
    assert timeless(figures) == {"loss": 1.0}
    noted = RunDirectory(directory.path).status["speed"]["diffusion"]
    assert noted["gpu"] == "t4"
    assert noted["mfu"] == pytest.approx(30e9 / 8.1e12)
    assert isinstance(directory.config.tracking, NoTracker)
