"""`wait=true`: run directories are looked at, SLURM is asked now and then, and what no job will end is given up."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hldm.run.directory import RunDirectory
from hldm.slurm import watch
from hldm.study import ledger
from tests.slurm.fake_slurm import FakeSlurm

JOB = {"job": {"scheduler": "slurm", "id": "7_0", "name": "x"}}


def made(path: Path, state: str, **status: Any) -> RunDirectory:
    run = RunDirectory(path)
    path.mkdir()
    run.update_status(state=state, **JOB, **status)
    return run


def test_it_returns_when_all_has_ended(
    tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch, "LOOK", 0.02)
    slurm.write(queue="7_0|PENDING\n")
    waiting, cancelled = made(tmp_path / "a", "submitted"), made(tmp_path / "b", "cancelled")

    def finish() -> None:
        time.sleep(0.3)
        waiting.write_results({"metrics": {}})
        waiting.update_status(state="finished")

    thread = threading.Thread(target=finish)
    thread.start()
    watch.watch([waiting, cancelled], Console(width=100))
    assert waiting.state == "finished"
    thread.join()
    out = capsys.readouterr().out
    assert "1 pending, 1 cancelled" in out
    assert "1 finished, 1 cancelled" in out


def test_a_run_whose_job_is_gone_is_not_waited_for(
    tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK", 0.02)
    watch.watch([made(tmp_path / "a", "submitted")], Console())


def test_a_terminal_shows_what_is_at_work(tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(tmp_path / "a", "failed", progress={"stage": "diffusion", "step": 30, "steps": 900})
    console = Console(width=100, force_terminal=True)
    with console.capture() as captured:
        console.print(watch.table([ledger.look(run)], "1 failed"))
    shown = captured.get()
    for part in ("7_0", "failed", "diffusion 3%", "1 failed"):
        assert part in shown
