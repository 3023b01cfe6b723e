"""A first stage as a run of its own, and what else stands beside the numbers of a run."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_wandb import PROVENANCE, ROOT, Session, segments, wandb_sync
from wandb_server import Artifact, Run, WandbServer

from hldm.tracking import FirstStageRun, JsonLines, WandbTracker, lineage, run_labels

pytestmark = pytest.mark.usefixtures("clean")

NAME = "poincare-c0.1-s3-abcdef01"
DIGEST = "d" * 64


Show = Callable[[str], None]


@pytest.fixture
def stage(tmp_path: Path) -> FirstStageRun:
    """A first stage that was trained for three steps."""
    folder = tmp_path / "first_stages" / NAME
    folder.mkdir(parents=True)
    for step in (1, 2, 3):
        JsonLines(folder / "metrics.jsonl").log(step, {"loss": 1 / step}, "first_stage")
    labels = run_labels("poincare", 0.1, 3)
    return FirstStageRun(folder, DIGEST, {"autoencoder": {"width": 8}}, labels, PROVENANCE, "study")


def run_on(stage: FirstStageRun, directory: Path, **options: Any) -> Session:
    """A run that takes the first stage and trains on."""
    directory.mkdir(exist_ok=True)
    session = Session(directory, **options)
    session.tracker.first_stage(stage)
    return session.train("diffusion", 0, 2)


@pytest.fixture
def show(stage: FirstStageRun, tmp_path: Path, server: WandbServer) -> Show:
    """`show("one")`: a run of that name on the first stage, to its end."""
    return lambda name: run_on(stage, tmp_path / name).tracker.finish(0)


def of_type(server: WandbServer, kind: str) -> list[Run]:
    return [run for run in server.runs.values() if run.job_type == kind]


def only_artifact(server: WandbServer) -> Artifact:
    [artifact] = server.artifacts.values()
    return artifact


def test_a_first_stage_is_a_run_that_two_runs_stand_on(
    show: Show, server: WandbServer, capfd: pytest.CaptureFixture[str]
) -> None:
    show("one")
    show("two")
    [first] = of_type(server, "first_stage")
    children = of_type(server, "train")
    assert (first.display_name, first.group, first.exit_codes) == (NAME, "study", [0])
    assert first.id.startswith(NAME)
    assert first.steps("first_stage") == [1, 2, 3]
    assert (first.values["geometry"], first.values["curvature"], first.values["seed"]) == ("poincare", 0.1, 3)
    assert first.values["autoencoder"] == {"width": 8}
    assert [child.display_name for child in children] == ["one", "two"]
    for child in children:
        assert child.values["first_stage"] == NAME
        assert child.values["first_stage_run"] == first.id
        assert child.steps("diffusion") == [1, 2]
        assert child.exit_codes == [0]
    artifact = only_artifact(server)
    assert (artifact.name, artifact.type, artifact.state) == (f"first-stage-{NAME}", "first_stage", "COMMITTED")
    assert artifact.made_by == {first.id}
    assert artifact.used_by == {child.id for child in children}
    assert json.loads(artifact.files["first_stage.json"]) == {"first_stage": NAME, "sha256": DIGEST}
    err = capfd.readouterr().err.splitlines()
    assert [line for line in err if "the first stage is at" in line] == [err[1]]
    assert err[1].endswith(f"/runs/{first.id}")


def test_offline_both_are_kept_and_their_config_joins_them(
    stage: FirstStageRun, tmp_path: Path, server: WandbServer, capfd: pytest.CaptureFixture[str]
) -> None:
    run_on(stage, tmp_path / "one", mode="offline").tracker.finish(0)
    assert server.runs == {}
    assert "does not show" not in (err := capfd.readouterr().err)
    assert f"first_stages/{NAME}/wandb/offline-run-*" in err
    assert len(segments(stage.directory)) == 1
    for folder in (stage.directory, tmp_path / "one"):
        wandb_sync(folder)
    [first], [child] = of_type(server, "first_stage"), of_type(server, "train")
    assert first.steps("first_stage") == [1, 2, 3]
    assert (child.values["first_stage"], child.values["first_stage_run"]) == (NAME, first.id)
    assert only_artifact(server).made_by == {first.id}


def test_a_first_stage_that_cannot_be_shown_leaves_the_run_alone(
    show: Show, server: WandbServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    init = WandbTracker._init

    def refuse(self: WandbTracker, *arguments: Any) -> None:
        if self._is_beside:
            raise ConnectionResetError("Connection lost")
        init(self, *arguments)

    monkeypatch.setattr(WandbTracker, "_init", refuse)
    show("one")
    child = server.only_run
    assert child.steps("diffusion") == [1, 2]
    assert child.exit_codes == [0]
    assert (child.values["first_stage"], child.values["first_stage_run"]) == (NAME, None)
    assert "Connection lost" in capfd.readouterr().err

    monkeypatch.setattr(WandbTracker, "_init", init)
    show("two")  # which shows what is missing
    [first] = of_type(server, "first_stage")
    assert of_type(server, "train")[1].values["first_stage_run"] == first.id


def test_a_server_that_never_answers_about_lineage_is_left_to_itself(
    stage: FirstStageRun, tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "_LOOK_SECONDS", 0.1)
    (tmp_path / "one").mkdir()
    session = Session(tmp_path / "one")
    monkeypatch.setattr(session.tracker._run, "use_artifact", lambda _: time.sleep(30))
    begin = time.monotonic()
    session.tracker.first_stage(stage)
    assert time.monotonic() - begin < 10
    session.train("diffusion", 0, 2).tracker.finish(0)
    assert of_type(server, "train")[0].steps("diffusion") == [1, 2]


def test_trouble_with_lineage_costs_one_line_and_no_numbers(
    show: Show, server: WandbServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("no artifacts here")

    monkeypatch.setattr(lineage, "_artifact", refuse)
    show("one")
    assert of_type(server, "train")[0].steps("diffusion") == [1, 2]
    lines = [line for line in capfd.readouterr().err.splitlines() if "no artifacts here" in line]
    assert len(lines) == 2  # of the first stage, and of the run


def test_a_run_that_is_not_tracked_shows_no_first_stage(
    show: Show, stage: FirstStageRun, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    show("one")
    assert server.runs == {}
    assert not (stage.directory / "wandb").exists()


def test_samples_are_a_table_of_pictures(tmp_path: Path, server: WandbServer) -> None:
    (tmp_path / "one").mkdir()
    session = Session(tmp_path / "one")
    rows = [[3, "seven", np.zeros((8, 8), np.uint8)], [3, "blue", np.full((8, 8, 3), 9, np.uint8)]]
    session.tracker.table("samples_table", ["seed", "label", "sample"], rows)
    session.tracker.finish(0)
    run = server.only_run
    artifact = only_artifact(server)
    assert artifact.type == "run_table"
    table = json.loads(artifact.files["samples_table.table.json"])
    assert table["columns"] == ["seed", "label", "sample"]
    assert [row[:2] for row in table["data"]] == [[3, "seven"], [3, "blue"]]
    assert {row[2]["_type"] for row in table["data"]} == {"image-file"}
    assert any(name.startswith("media/table/") for name in run.files)
    assert sum(name.startswith("media/images/") for name in artifact.files) == 2
    assert run.summary["samples_table"]["nrows"] == 2


@pytest.mark.parametrize("mode", ["auto", "offline"])
def test_a_file_is_kept_beside_the_run(tmp_path: Path, server: WandbServer, mode: str) -> None:
    (tmp_path / "one").mkdir()
    session = Session(tmp_path / "one", mode=mode)
    (tmp_path / "one" / "latents.json").write_text('{"points": [[0.5, 0.25]]}', encoding="utf-8")
    session.tracker.file(tmp_path / "one" / "latents.json")
    session.tracker.finish(0)
    if mode == "offline":
        assert server.runs == {}
        wandb_sync(tmp_path / "one")
    assert json.loads(server.only_run.files["latents.json"]) == {"points": [[0.5, 0.25]]}
    assert server.only_run.exit_codes == [0]


def test_a_table_that_is_refused_leaves_the_numbers(
    tmp_path: Path, server: WandbServer, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one").mkdir()
    session = Session(tmp_path / "one")
    session.tracker.table("samples_table", ["seed"], [[1, 2]])
    session.train("diffusion", 0, 1).tracker.finish(0)
    assert "does not show samples_table" in capfd.readouterr().err
    assert server.only_run.steps("diffusion") == [1]


def test_the_commit_is_where_the_dashboard_looks_for_it(tmp_path: Path, server: WandbServer) -> None:
    (tmp_path / "one").mkdir()
    Session(tmp_path / "one").tracker.finish(0)
    assert server.only_run.commit == PROVENANCE["commit"]


def test_a_run_that_is_stopped_shows_as_preempted(tmp_path: Path, server: WandbServer) -> None:
    """A process that gets SIGTERM, and SIGINT from the one that started it right after."""
    directory = tmp_path / "one"
    directory.mkdir()
    code = f"""
import sys, time
sys.path.insert(0, {str(ROOT / "tests/tracking")!r})
from pathlib import Path
from test_wandb import Session
from hldm.errors import Stopped
from hldm.run import stop
with stop.listening():
    session = Session(Path({str(directory)!r})).train("diffusion", 0, 3)
    print("trained", flush=True)
    try:
        while True:
            time.sleep(0.02)
            stop.check()
    except Stopped:
        print("stopping", flush=True)
        time.sleep(1)  # the process that started it asks it to stop as well
        session.tracker.preempted()
    finally:
        session.tracker.finish(1)
        print("closed", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "trained\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "stopping\n"
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0]
    assert (process.returncode, output) == (0, "closed\n")
    run = server.only_run
    assert run.was_preempted
    assert run.exit_codes == [1]
    assert run.steps("diffusion") == [1, 2, 3]
