"""A run that another process has finished meanwhile is finished: looked at again under the lease, and left alone."""

from pathlib import Path

import pytest

from hldm.config.compose import compose
from hldm.pipeline import train as module
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
