"""`hldm runs sync`: offline runs of a study arrive once, several at a time; after a fault, those that are missing."""

from pathlib import Path

import pytest
from test_wandb import Session
from wandb_server import WandbServer

from hldm import console
from hldm.commands import runs
from hldm.run.directory import RunDirectory
from hldm.tracking import sync

pytestmark = pytest.mark.usefixtures("clean")


def offline(path: Path, steps: int) -> Path:
    path.mkdir(parents=True)
    if path.parent.name != "first_stages":
        (path / "config.yaml").write_text("seed: 0\n")
        RunDirectory(path).update_status(state="stopped")
    Session(path, mode="offline").train("first_stage", 0, steps).tracker.finish(0)
    return path


def test_a_study_is_uploaded_once_and_goes_on_after_a_fault(
    tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        offline(tmp_path / "outputs" / "main" / f"run-{number}", number + 1)
    offline(tmp_path / "outputs" / "first_stages" / "stage", 2)
    capfd.readouterr()

    def call() -> tuple[int, str]:
        status = console.run(lambda: runs.main(["sync", "outputs/main", "at_once=3"]))
        return status, capfd.readouterr().out

    server.refuse = True
    status, out = call()
    assert status == 1
    assert out.count("NOT uploaded") == 3
    server.refuse = False
    status, out = call()
    assert status == 0, out
    assert sorted(out.splitlines()) == [f"{name}: uploaded" for name in ("run-0", "run-1", "stage")]
    arrived = {run.display_name: run.steps("first_stage") for run in server.runs.values()}
    assert arrived == {"run-0": [1], "run-1": [1, 2], "stage": [1, 2]}
    status, out = call()
    assert (status, out) == (0, "Nothing is left to upload.\n")


def test_without_a_key_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    run = offline(tmp_path / "outputs" / "main" / "run", 1)
    monkeypatch.setattr(sync, "_send", lambda *_: pytest.fail("tried"))
    assert console.run(lambda: runs.main(["sync", "outputs/main"])) == 2
    assert "wandb login" in capfd.readouterr().err
    assert len(sync.unsent(run)) == 1
