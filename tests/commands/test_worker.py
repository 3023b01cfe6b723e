"""How a worker ends is its exit status, and `train.py` alone stops as a worker does."""

import errno
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from hldm import console
from hldm.commands import runs, worker
from hldm.config.compose import compose
from hldm.errors import UserError
from hldm.run import exits, stop
from hldm.run.directory import RunDirectory
from tests.conftest import Invoke

SIGNALS = [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP]


def asked_to_stop(number: signal.Signals) -> Callable[[Path], None]:
    """A pipeline that gets a signal while it works, and looks later."""

    def run(path: Path) -> None:
        with RunDirectory(path).work():
            signal.raise_signal(number)
            stop.check()

    return run


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Callable[[Path], None]], int]:
    """`end(pipeline)` → exit status of a worker on `tmp_path / "run"`."""
    directory = RunDirectory.create(tmp_path / "run", compose([]))

    def call(pipeline: Callable[[Path], None]) -> int:
        monkeypatch.setitem(sys.modules, "hldm.pipeline", SimpleNamespace(run=pipeline, run_first_stage=None))
        before = signal.getsignal(signal.SIGINT)
        try:
            return console.run(lambda: worker.main([str(directory.path)]))
        finally:
            signal.signal(signal.SIGINT, before)

    return call


@pytest.mark.parametrize("number", SIGNALS)
def test_a_worker_that_is_asked_to_stop_says_start_it_again(
    number: signal.Signals,
    end: Callable[..., int],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert end(asked_to_stop(number)) == exits.STOPPED == 75
    assert RunDirectory(tmp_path / "run").state == "stopped"
    assert "The same command goes on from here." in capfd.readouterr().err
    assert end(lambda path: None) == exits.FINISHED == 0


def test_a_worker_that_fails(end: Callable[..., int], capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        raise UserError("The loss is nan.")

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "x/status.json")

    assert end(fail) == exits.FAILED == 1
    assert "The loss is nan." in capfd.readouterr().err
    assert "The loss is nan." in (tmp_path / "run" / "log.txt").read_text()
    assert end(full) == exits.FAILED
    assert "x/status.json cannot be written or read: the disk is full" in capfd.readouterr().err


def test_a_worker_whose_run_is_worked_on(
    end: Callable[..., int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def work(path: Path) -> None:
        with RunDirectory(path).work():
            pass

    with RunDirectory(tmp_path / "run").lock():
        assert end(work) == exits.BUSY == 76
    assert "is being worked on by" in " ".join(capfd.readouterr().err.split())


def test_what_one_run_alone_prints_is_in_its_log(invoke: Invoke, capfd: pytest.CaptureFixture[str]) -> None:
    status, out, _ = invoke("seed=0", "tracking=none")
    assert status == 0
    [run] = Path("outputs/main").glob("*-s0-*")
    assert out.count(f"a line from {run.name}") == 1
    assert runs.main(["logs", str(run)]) is None
    head, line = capfd.readouterr().out.splitlines()
    assert head.startswith("--- ")
    assert line == f"a line from {run.name}"


@pytest.mark.parametrize("number", SIGNALS)
def test_one_run_alone_stops_too(number: signal.Signals, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a job of a scheduler and outside."""
    monkeypatch.setattr(sys.modules["hldm.pipeline"], "run", asked_to_stop(number))
    before = signal.getsignal(number)
    if before is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, and stays so")
    status, _, err = invoke("seed=0", "tracking=none")
    assert status == exits.STOPPED
    assert "Stopped, and what was done is saved. The same command goes on from here." in " ".join(err.split())
    assert signal.getsignal(number) is before
    [run] = Path("outputs/main").glob("*-s0-*")
    assert RunDirectory(run).state == "stopped"
    status, out, _ = invoke("seed=0", "tracking=none", "hardware.threads=1")
    assert "resume" in out
