"""A run that another process has finished meanwhile is finished: looked at again under the lease, and left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hldm.config.compose import compose
from hldm.errors import BusyError
from hldm.paths import CHECKOUT
from hldm.pipeline import train as module
from hldm.run import lease
from hldm.run.directory import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", compose([]))


def finish(run: RunDirectory) -> None:
    with run.work():
        run.write_results({"metrics": {"fid": 1.0}})


def files(run: RunDirectory) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in run.path.iterdir() if path.is_file()}


def test_a_finished_run_is_not_touched(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(run)
    before = files(run)
    monkeypatch.setattr(module, "_run", lambda directory: pytest.fail("worked on again"))
    run.path.chmod(0o500)  # reading needs no write
    assert module.run(run.path) == {"metrics": {"fid": 1.0}}
    run.path.chmod(0o700)
    assert files(run) == before
    assert not list((run.path / ".lease").glob("*.json"))


def test_what_was_finished_between_two_looks_is_finished(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 40: two equal sweeps; the run went back to running, and was evaluated again."""
    lock = RunDirectory.lock

    def late(self: RunDirectory) -> object:
        if not run.finished:  # another process is faster
            finish(RunDirectory(run.path))
        return lock(self)

    def finish(other: RunDirectory) -> None:
        with lock(other):
            other.write_results({"metrics": {"fid": 1.0}})
            other.update_status(state="finished", minutes=3.0)

    monkeypatch.setattr(RunDirectory, "lock", late)
    monkeypatch.setattr(module, "_run", lambda directory: pytest.fail("worked on again"))
    assert module.run(run.path) == {"metrics": {"fid": 1.0}}
    assert run.status == {"state": "finished", "minutes": 3.0}


def test_one_object_holds_a_run_once(run: RunDirectory) -> None:
    with run.lock(), run.work():
        assert run.state == "running"
    assert run.holder() is None


FROZEN = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from hldm import console
from hldm.commands import worker
from hldm.run import lease
from hldm.run.directory import RunDirectory
lease.HEARTBEAT, lease.SILENCE, lease.LOOK = .1, 1., .05

def run(path):
    with RunDirectory(path).work():
        print("here", flush=True)
        while True:
            time.sleep(.05)
            RunDirectory(path).update_status(progress={"stage": "diffusion", "step": 3, "steps": 6})

sys.modules["hldm.pipeline"] = SimpleNamespace(run=run, run_first_stage=None)
sys.exit(console.run(lambda: worker.main(sys.argv[1:])))
"""


def test_a_frozen_worker_that_was_taken_over_ends_with_76_and_changes_nothing(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"HEARTBEAT": 0.1, "SILENCE": 1.0, "LOOK": 0.05}.items():
        monkeypatch.setattr(lease, name, seconds)
    pipe = subprocess.PIPE
    argv = [sys.executable, "-c", FROZEN, str(run.path)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(argv, env=environment, stdout=pipe, stderr=pipe, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "here\n"
        try:
            worker.send_signal(signal.SIGSTOP)
            with pytest.raises(BusyError), run.lock():
                pytest.fail("it was there a moment ago")
            time.sleep(0.3)
            with run.work():
                before = (run.path / "status.json").read_bytes()
                worker.send_signal(signal.SIGCONT)
                _, err = worker.communicate(timeout=200)
                assert worker.returncode == 76, err
                assert f"is worked on by process {os.getpid()}" in " ".join(err.split())
                assert "Traceback" not in err
                assert (run.path / "status.json").read_bytes() == before
                assert run.state == "running"
        finally:
            worker.kill()
