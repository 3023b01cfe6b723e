"""Runs that share a first stage and start at the same moment: whoever trains it may be killed or frozen meanwhile."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hldm.errors import Stopped
from hldm.paths import CHECKOUT as ROOT
from hldm.pipeline import first_stage, run
from hldm.pipeline.first_stage import waiting_lock
from hldm.run import lease, stop
from tests.pipeline.conftest import curve, prepare, weights

TRAINER = """
import sys, time
from hldm import console
from hldm.commands import worker
from hldm.run import lease
from hldm.training.stages import FirstStage
lease.HEARTBEAT, lease.SILENCE, lease.LOOK = .1, 1., .05
loss = FirstStage.loss

def slow(self, step):
    if step == 3:
        print("here", flush=True)
        time.sleep(1)
    return loss(self, step)

FirstStage.loss = slow
sys.exit(console.run(lambda: worker.main(sys.argv[1:])))
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run that nothing disturbed."""
    directory = prepare(tmp_path_factory.mktemp("alone"), "geometry=poincare")
    run(directory.path)
    return directory


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_who_waits_for_a_first_stage_goes_on_from_what_its_trainer_left(alone, tmp_path, monkeypatch, capfd, how):
    monkeypatch.setattr(lease, "SILENCE", 1.0)
    monkeypatch.setattr(lease, "LOOK", 0.05)
    first = prepare(tmp_path, "geometry=poincare", "diffusion=ddpm", "diffusion.sampler.steps=3")
    second = prepare(tmp_path, "geometry=poincare")
    argv = [sys.executable, "-c", TRAINER, str(first.path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        assert "here\n" in trainer.stdout
        trainer.send_signal(how)
        try:
            run(second.path)
            out = capfd.readouterr().out
            assert f"process {trainer.pid} on" in out or how == signal.SIGKILL
            trainer.send_signal(signal.SIGCONT)
            assert trainer.wait(60) == (-signal.SIGKILL if how == signal.SIGKILL else 75)
        finally:
            trainer.kill()
    assert first.state == ("broken off" if how == signal.SIGKILL else "stopped")
    assert weights(second) == weights(alone)
    assert curve(second) == curve(alone)


def held_elsewhere(folder: Path) -> None:
    (folder / ".lease").mkdir(parents=True)
    (folder / ".lease" / "1.json").write_text("")


def test_nobody_keeps_a_job_waiting_for_long(tmp_path, monkeypatch, capfd):
    held_elsewhere(tmp_path / "stage")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setattr(first_stage, "WAIT_IN_A_JOB", 0.3)
    monkeypatch.setattr(lease, "LOOK", 0.05)
    with pytest.raises(Stopped), waiting_lock(tmp_path / "stage"):
        pytest.fail("it is held")
    out = capfd.readouterr().out
    assert out.count("waiting for it (stage)") == 1
    assert "goes on when it is started again" in out


def test_who_waits_can_be_asked_to_stop_and_says_now_and_then_that_it_waits(tmp_path, monkeypatch, capfd):
    held_elsewhere(tmp_path / "stage")
    monkeypatch.setattr(first_stage, "SAY_EVERY", 0.2)
    monkeypatch.setattr(lease, "LOOK", 0.05)

    def ask():
        time.sleep(0.6)
        os.kill(os.getpid(), signal.SIGTERM)

    with stop.listening():
        threading.Thread(target=ask).start()
        with pytest.raises(Stopped), waiting_lock(tmp_path / "stage"):
            pytest.fail("it is held")
    assert capfd.readouterr().out.count("waiting for it (stage)") >= 2
