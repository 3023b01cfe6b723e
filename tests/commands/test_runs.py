"""`hldm runs`: a study of every state, real processes that are cancelled, and what may and may not be deleted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hldm import console
from hldm.commands import runs
from hldm.config.compose import compose
from hldm.paths import CHECKOUT as ROOT
from hldm.run import jobs
from hldm.run.directory import RunDirectory
from hldm.run.holder import Holder
from hldm.run.identity import first_stage_folder
from hldm.study import ledger, upkeep
from tests.speed import allowed

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def invoke(*argv: str) -> tuple[int, str, str]:
        status = console.run(lambda: runs.main(list(argv)))
        out, err = capfd.readouterr()
        return status, out, err

    return invoke


def made(name: str, state: str, study: str = "main", **status: Any) -> RunDirectory:
    """A run of which these files lie in outputs/<study>."""
    run = RunDirectory(Path("outputs").absolute() / study / name)
    run.path.mkdir(parents=True)
    (run.path / "config.yaml").write_text("seed: 0\n")
    run.update_status(state=state, **status)
    if state == "finished":
        run.write_results({"metrics": {}})
    return run


def slurm(job: str) -> dict[str, Any]:
    return {"scheduler": "slurm", "id": job, "name": "hldm"}


def hold(run: RunDirectory, **differs: Any) -> None:
    (run.path / ".lease").mkdir()
    (run.path / ".lease" / "1.json").write_text(replace(Holder.this_process(), **differs).text)


def test_every_state_is_told_apart(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[str]] = []
    known = {
        "7_0": "PENDING",
        "7_1": "NODE_FAIL",
        "7_2": "RUNNING",
        "7_3": jobs.GONE,
        "7_4": "PENDING",
        "8": "CANCELLED",
    }

    def states(ids: list[str]) -> dict[str, str]:
        asked.append(set(ids))
        return {job: known[job] for job in ids}

    monkeypatch.setattr(jobs, "states", states)
    at = {"stage": "diffusion", "step": 30, "steps": 120, "updated": "2026-11-26T12:00:00+00:00"}
    made("a-finished", "finished", minutes=12.34, host="node1", job=slurm("7_9"))
    hold(made("b-running", "running", progress=at), host="node3", pid=4711, machine="other")
    made("c-failed", "failed", error="FloatingPointError: the loss is not finite " + 60 * "!", minutes=1.0)
    made("d-new", "new")
    made("e-stopped", "stopped", progress=at)
    made("f-broken", "running", host="node2")
    made("g-waits", "submitted", job=slurm("7_0"))
    made("h-preempted", "submitted", job=slurm("7_4"), progress=at)
    made("i-node", "running", job=slurm("7_1"))
    made("j-forgotten", "submitted", job=slurm("7_3"))
    made("k-starts", "submitted", job=slurm("7_2"))
    made("l-cancelled", "cancelled")
    made("l-stopped", "stopped", job=slurm("8"))  # by scancel, before the job could say so
    made("m-cancelled", "submitted", job=slurm("8"))
    (made("n-damaged", "new").path / "status.json").write_text('{"state": 3}')
    status, out, err = call("outputs/main")
    assert (status, err) == (0, "")
    assert asked == [{"7_0", "7_1", "7_2", "7_3", "7_4", "8"}]  # one call, and not for what is finished
    lines = [line for line in out[: out.index("15 runs")].splitlines() if not line.startswith("  ")]
    rows = {line.split()[0]: line for line in lines[1:]}
    assert {name: next(s for s in ledger.STATES if f"  {s} " in f"{row} ") for name, row in rows.items()} == {
        "a-finished": "finished", "b-running": "running", "c-failed": "failed", "d-new": "new",
        "e-stopped": "stopped", "f-broken": "broken off", "g-waits": "pending", "h-preempted": "pending",
        "i-node": "lost", "j-forgotten": "lost", "k-starts": "running", "l-cancelled": "cancelled",
        "l-stopped": "cancelled",
        "m-cancelled": "cancelled", "n-damaged": "damaged",
    }  # fmt: skip
    assert "12.3  node1" in rows["a-finished"]
    assert "diffusion 25%" in rows["b-running"]
    assert "node3:4711" in rows["b-running"]
    assert "job 7_4" in rows["h-preempted"]
    assert "job 7_1: NODE_FAIL" in out
    assert "FloatingPointError: the loss" in out
    assert max(map(len, out.splitlines())) <= 80
    told = "15 runs: 1 finished, 2 running, 2 pending, 1 stopped, 1 failed, 3 cancelled, 2 lost, 1 broken off, 1 new"
    assert told in " ".join(out.split())

    _, out, _ = call("ls", "outputs/main", "state=lost,broken_off")
    assert [line.split()[0] for line in out.splitlines() if line[:1] in "fij"] == ["f-broken", "i-node", "j-forgotten"]
    monkeypatch.setattr(jobs, "states", lambda ids: dict.fromkeys(ids, jobs.UNKNOWN))
    _, out, _ = call("outputs/main", "state=pending")
    assert out.count("SLURM does not answer") == 6  # nobody knows what became of those that were submitted


@pytest.mark.parametrize(
    ("state", "in_slurm", "expected"),
    [
        ("finished", jobs.GONE, "finished"),
        ("failed", "RUNNING", "failed"),
        ("running", jobs.GONE, "running"),
        ("submitted", "PENDING", "pending"),
        ("submitted", "COMPLETING", "running"),
        ("submitted", "CANCELLED", "cancelled"),
        ("submitted", jobs.UNKNOWN, "pending"),
        ("submitted", jobs.GONE, "lost"),
        ("broken off", "PENDING", "pending"),  # its node failed, and SLURM queued it again
        ("broken off", "RUNNING", "running"),  # its process was killed, and its job decides what follows
        ("broken off", "NODE_FAIL", "lost"),
        ("broken off", "CANCELLED", "cancelled"),
        ("stopped", "COMPLETING", "running"),
        ("stopped", "COMPLETED", "stopped"),
        ("stopped", jobs.UNKNOWN, "stopped"),
    ],
)
def test_files_count_before_slurm(state: str, in_slurm: str, expected: str, tmp_path: Path) -> None:
    entry = ledger.Entry(RunDirectory(tmp_path), state, {}, job="7_0")
    assert ledger.with_job(entry, in_slurm).state == expected


def test_a_finished_run_has_its_results_and_weights(call: Call) -> None:
    for name, weights in (("a", b"12345678"), ("b", b"123"), ("c", None)):
        run = made(name, "finished", weights_bytes=8)
        if weights is not None:
            (run.path / "checkpoints").mkdir()
            (run.path / "checkpoints" / "model.safetensors").write_bytes(weights)
    (made("d", "finished").path / "results.json").unlink()
    (made("e", "finished").path / "results.json").write_text("{}\n")
    runs = RunDirectory.find("outputs/main")
    states = [entry.state for entry in ledger.read(runs)]
    assert states == ["finished", "broken off", "finished", "broken off", "broken off"]  # c: removed for room
    assert states == [run.state for run in runs]


def test_names_that_are_too_long_keep_their_ends(call: Call) -> None:
    made(f"poincare-{'x' * 80}-1a2b3c4d", "new")
    _, out, _ = call("outputs/main")
    assert max(map(len, out.splitlines())) <= 80
    assert "…-1a2b3c4d" in out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["outputs/nothing"], "names no runs"),
        (["outputs/main", "state=runing"], "Did you mean running?"),
        (["show", "outputs/main", "yes=true"], "not understood"),
        (["outputs/main", "-f"], "hldm runs logs"),
        (["clean", "outputs/main", "yes=maybe"], "neither true nor false"),
        (["sync", "outputs/main", "at_once=0"], "1 or more"),
        ([], "runs=… is missing"),
        (["remove", "outputs/main"], "is ls, show, logs, cancel, retry, clean, sync"),
        (["outputs/main", "state="], "state= has no value"),
        (["logs", "outputs/main"], "None of these runs has written a log"),
    ],
)
def test_what_is_wrong_is_said(argv: list[str], words: str, call: Call) -> None:
    made("a", "new")
    status, out, err = call(*argv)
    assert (status, out) == (2, "")
    assert words in " ".join(err.split())


def test_show_tells_all(call: Call) -> None:
    run = made("a", "failed", error="no luck", seconds={"first_stage": 60.4}, command="python train.py seed=0")
    (run.path / "log.txt").write_text("a line\n")
    status, out, _ = call("show", "outputs/main/a")
    assert status == 0
    for part in ("failed: it ended with an error", "no luck", "first stage 60 s", "python train.py seed=0", "log.txt"):
        assert part in out


def test_a_state_that_no_version_writes_is_damage(call: Call) -> None:
    made("a", "sleeping")
    status, out, _ = call("show", "outputs/main")
    assert status == 0
    assert "state     damaged" in out


def test_what_was_submitted_and_names_no_job_is_lost(call: Call) -> None:
    made("a", "submitted", job={"scheduler": "slurm", "id": None})
    for argv in (("outputs/main",), ("show", "outputs/main"), ("retry", "outputs/main")):
        status, out, _ = call(*argv)
        assert status == 0
        assert "names no job" in out or argv[0] == "retry"
    assert RunDirectory(Path("outputs/main/a")).state == "new"


def test_a_run_that_a_link_names_again_is_listed_once(call: Call) -> None:
    run = made("b", "new")
    Path("outputs/main/a").symlink_to(run.path)
    Path("outputs/links").mkdir()
    Path("outputs/links/c").symlink_to(run.path)
    assert "1 run: 1 new" in call("outputs/main")[1]
    assert call("outputs/main")[1].splitlines()[1].startswith("b ")
    assert call("outputs/links")[1].splitlines()[1].startswith("c ")


def test_what_is_called_like_a_log_and_is_none(call: Call) -> None:
    (made("a", "new").path / "log.txt").mkdir()
    assert "None of these runs has written a log" in " ".join(call("logs", "outputs/main")[2].split())


def test_logs_of_run_and_job(call: Call) -> None:
    one, other = made("a", "failed", job=slurm("7_1")), made("b", "failed")
    (one.path / "log.txt").write_text("first of a\n")
    (Path("outputs/main/.jobs/1")).mkdir(parents=True)
    Path("outputs/main/.jobs/1/7_1_0_log.out").write_text("its job\n")
    Path("outputs/main/.jobs/1/7_2_0_log.out").write_text("another job\n")
    assert call("logs", "outputs/main/b")[0] == 2
    (other.path / "log.txt").write_text("of b\n")
    _, out, _ = call("logs", "outputs/main")
    assert [line for line in out.splitlines() if not line.startswith("---")] == ["first of a", "its job", "of b"]
    assert out.count("---") == 3
    _, out, _ = call("logs", "outputs/main/b")
    assert out == "of b\n"


def test_logs_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = made("a", "running").path / "log.txt"
    argv = [sys.executable, "-m", "hldm", "runs", "logs", "outputs/main/a", "-f"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in ("one\n", "two\n"):
            with log.open("a") as file:
                file.write(line)
            assert process.stdout.readline() == line
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


WORKER = """
import signal, sys, time
from pathlib import Path
from hldm.errors import Stopped
from hldm.run.directory import RunDirectory
from tests.speed import allowed
def stop(number, frame):
    raise Stopped("SIGTERM")
signal.signal(signal.SIGTERM, stop)
try:
    with RunDirectory(Path(sys.argv[1])).work():
        print("here", flush=True)
        time.sleep(100)
except Stopped:
    sys.exit(75)
"""


@contextmanager
def worker(run: RunDirectory) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", WORKER, str(run.path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        yield process
        process.kill()


def test_cancel_ends_what_works_here_and_says_what_it_cannot_reach(call: Call) -> None:
    hold(made("b", "running"), host="node3", pid=4711, machine="other")
    made("c", "failed")
    with worker(made("a", "new")) as process:
        status, out, _ = call("cancel", "outputs/main")
        assert process.wait(20) == 75
    assert status == 0
    assert out.splitlines() == [
        "a: cancelled",
        "b: process 4711 on node3 cannot be reached from here. Repeat the command there.",
    ]
    assert [RunDirectory(Path("outputs/main") / name).state for name in "abc"] == ["cancelled", "running", "failed"]
    assert "Nothing works" in call("cancel", "outputs/main/a")[1]


def test_a_process_that_cannot_be_signalled_keeps_no_other_from_it(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    errors: dict[int, OSError] = {1001: ProcessLookupError(), 1002: PermissionError()}
    here, asked = Holder.this_process(), []

    def kill(pid: int, sent: int) -> None:
        asked.append(pid)
        if pid in errors:
            raise errors[pid]

    monkeypatch.setattr(upkeep, "PATIENCE", 0.0)
    monkeypatch.setattr(Holder, "is_gone", False)
    monkeypatch.setattr(upkeep.os, "kill", kill)
    for name, pid in (("a", 1001), ("b", 1002), ("c", 1003)):
        hold(made(name, "running"), host=here.host, machine=here.machine, pid=pid, job=None)
    _, out, _ = call("cancel", "outputs/main")
    assert asked == [1001, 1002, 1003]
    assert "b: process 1002" in out
    assert "cannot be reached from here" in out.splitlines()[1]
    assert [RunDirectory(Path("outputs/main") / name).is_to_be_cancelled for name in "abc"] == [True, False, True]


def test_cancel_asks_slurm_once_for_all_jobs(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jobs, "states", lambda ids: dict(zip(sorted(ids), ["PENDING", "RUNNING"], strict=True)))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scancel").write_text(f"#!/bin/sh\necho $* >> {tmp_path}/cancelled\n")
    (tmp_path / "bin" / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    made("a", "submitted", job=slurm("7_0"))
    hold(made("b", "running", job=slurm("7_1")), host="node3", machine="other", job="7_1")
    monkeypatch.setattr(upkeep, "PATIENCE", 0.3)
    _, out, _ = call("cancel", "outputs/main")
    assert (tmp_path / "cancelled").read_text() == "7_0 7_1\n"
    assert out.splitlines() == ["a: cancelled", "b: job 7_1 was asked to end"]
    late = RunDirectory(Path("outputs/main/b").absolute())
    assert late.state == "running"  # it saves its state, or its node does not hear
    shutil.rmtree(late.path / ".lease")
    assert late.state == "cancelled"  # killed before it could say so
    late.update_status(state="stopped")
    assert late.state == "cancelled"
    monkeypatch.setattr(jobs, "states", lambda ids: dict.fromkeys(ids, jobs.GONE))
    assert "1 cancelled" in call("outputs/main/b")[1]
    call("retry", "outputs/main/b")
    assert late.state == "new"


def test_what_cannot_be_cancelled_is_not_marked(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "states", lambda ids: dict.fromkeys(ids, "PENDING"))
    monkeypatch.setenv("PATH", "/nowhere")
    run = made("a", "submitted", job=slurm("7_0"))
    assert "Repeat the command later" in call("cancel", "outputs/main")[1]
    assert run.state == "submitted"


def test_a_run_that_finishes_is_not_cancelled(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    with run.work():
        run.mark_cancelled()
        run.write_results({"metrics": {}})
    assert run.state == "finished"
    assert not run.is_to_be_cancelled


def test_retry_marks_what_did_not_finish_and_says_the_command(call: Call) -> None:
    failed = made("a", "failed", error="no luck", command="python train.py -m seed=0,1")
    made("b", "cancelled", command="python train.py -m seed=0,1")
    begun = made("c", "running")
    (begun.path / "checkpoints").mkdir()
    (begun.path / "checkpoints" / "diffusion.resume.pt").write_text("")
    made("d", "finished")
    status, out, _ = call("retry", "outputs/main")
    assert status == 0
    assert out.splitlines() == [
        "a: starts anew",
        "b: starts anew",
        "c: goes on from its last checkpoint",
        "What starts them:",
        "  python train.py -m seed=0,1",
        "  python -m hldm worker outputs/main/c",
    ]
    said = {"state": "new", "error": None, "job": None, "last_job": None, "command": "python train.py -m seed=0,1"}
    assert failed.status == said
    assert begun.state == "stopped"
    assert "Nothing failed" in call("retry", "outputs/main/d")[1]


@pytest.mark.parametrize("file", ["status.json", "results.json"])
def test_retry_sets_aside_what_cannot_be_read(file: str, call: Call) -> None:
    run = made("a", "finished")
    (run.path / file).write_text("{")
    assert call("retry", "outputs/main")[1].startswith(f"a: starts anew; {file} set aside\n")
    assert (run.path / f"{file}.damaged").read_text() == "{"
    assert run.state == "new"


def real(seed: int, state: str, study: str = "main", *overrides: str) -> RunDirectory:
    """A run with a whole configuration, and with its first stage."""
    config = compose([f"seed={seed}", f"study={study}", f"paths.outputs={Path('outputs').absolute()}", *overrides])
    run = RunDirectory.create(config.study_folder / f"run-{seed}", config)
    run.update_status(state=state)
    if state == "finished":
        run.write_results({"metrics": {}})
    if not overrides:
        first_stage_folder(config).mkdir(parents=True, exist_ok=True)
        (first_stage_folder(config) / "autoencoder.safetensors").write_bytes(bytes(3000))
    return run


def test_cancel_ends_first_stages_that_no_other_run_waits_for(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(jobs, "states", lambda ids: dict.fromkeys(ids, "PENDING"))
    monkeypatch.setattr(jobs, "ask", lambda *words: asked.append(words) or "")
    slurm = {"scheduler": "slurm", "id": "9"}
    for i, (seed, study) in enumerate(((0, "main"), (1, "main"), (0, "other"))):
        run = real(seed, "submitted", study)
        run.update_status(job={**slurm, "id": f"8_{i}"})
        RunDirectory(first_stage_folder(run.config)).update_status(state="submitted", job={**slurm, "id": f"7_{seed}"})
    _, out, _ = call("cancel", "outputs/main")
    assert asked == [("scancel", "8_0", "8_1"), ("scancel", "7_1")]  # the other study waits for seed 0's
    assert "for which no other run waits: job 7_1 was asked to end" in out


def test_clean_shows_first_and_keeps_what_others_use(call: Call) -> None:
    failed, cancelled = real(0, "failed"), real(1, "cancelled")
    finished, elsewhere = real(2, "finished"), real(0, "finished", "other")  # which has the first stage of the failed
    (cancelled.path / "checkpoints").mkdir()
    (cancelled.path / "checkpoints" / "model.safetensors").write_bytes(bytes(5_000_000))
    (finished.path / "checkpoints").mkdir()
    for name in (".status.json.12.tmp", "checkpoints/.model.12.tmp", "checkpoints/diffusion.resume.pt"):
        (finished.path / name).write_text("x")
    at_work = real(3, "running")
    hold(at_work)
    (at_work.path / ".status.json.13.tmp").write_text("x")
    stages = [first_stage_folder(run.config) for run in (failed, cancelled, finished, at_work)]
    before = sorted(Path("outputs").rglob("*"))

    status, out, _ = call("clean", "outputs/main")
    assert status == 0
    assert "5.0 MB" in out
    assert "can be deleted. The same command with yes=true does it." in out
    assert sorted(Path("outputs").rglob("*")) == before

    status, out, _ = call("clean", "outputs/main", "yes=true")
    assert status == 0
    assert not failed.path.exists()
    assert not cancelled.path.exists()
    assert [stage.is_dir() for stage in stages] == [True, False, True, True]
    assert elsewhere.state == "finished"
    assert sorted(path.name for path in finished.path.rglob("*")) == [
        "checkpoints", "config.yaml", "results.json", "status.json",
    ]  # fmt: skip
    assert (at_work.path / ".status.json.13.tmp").exists()
    assert not list(Path("outputs").rglob(".deleted*"))
    assert "There is nothing to delete" in call("clean", "outputs/main")[1]


def test_clean_keeps_a_first_stage_that_another_run_was_given(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    given = real(0, "failed")
    config = compose(["seed=1", f"paths.outputs={Path('outputs').absolute()}"])
    other = RunDirectory.create(config.study_folder / "other", config)
    text = (other.path / "config.yaml").read_text().replace("first_stage: null", f"first_stage: {given.path}")
    (other.path / "config.yaml").write_text(text)
    _, out, _ = call("clean", "outputs/main", "yes=true")
    assert "another run has a first stage of this name" in out
    assert given.path.is_dir()


def test_after_outputs_are_copied_first_stages_in_use_are_those_beside_the_runs(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = first_stage_folder(real(0, "failed").config)
    real(0, "finished", "other")
    given = real(1, "failed")
    real(2, "finished", "other", f"first_stage={given.path}")
    for name, first_stage in (("a", stage), ("b", given.path)):
        (Path("outputs") / "latents" / name).mkdir(parents=True)
        (Path("outputs") / "latents" / name / "first_stage").write_text(str(first_stage))
    RunDirectory(stage).update_status(state="failed")
    shutil.copytree("outputs", "copy")

    monkeypatch.chdir("copy/main")
    call("retry", "run-0")
    assert RunDirectory(Path("../first_stages") / stage.name).state == "new"
    assert RunDirectory(stage).state == "failed"
    _, out, _ = call("clean", ".", "yes=true")
    assert (Path("../first_stages") / stage.name).is_dir()
    assert sorted(folder.name for folder in Path("../latents").iterdir()) == ["a", "b"]
    assert "run-1 is failed and kept" in out


def test_clean_keeps_first_stages_where_a_run_cannot_be_read(call: Call) -> None:
    stage = first_stage_folder(real(0, "failed").config)
    made("damaged", "new", study="other")
    _, out, _ = call("clean", "outputs/main", "yes=true")
    assert "look unused and are kept" in out
    assert stage.is_dir()


def test_clean_keeps_what_somebody_works_on_or_has_finished_meanwhile(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, quick = real(0, "failed"), real(1, "failed")
    read = ledger.read

    def late(found: list[RunDirectory]) -> list[ledger.Entry]:
        entries = read(found)
        hold(busy, host="node3", machine="other")
        quick.write_results({"metrics": {}})
        quick.update_status(state="finished")
        return entries

    monkeypatch.setattr(ledger, "read", late)
    status, out, _ = call("clean", "outputs/main", "yes=true")
    assert status == 1
    assert "run-1 is finished by now, and kept" in out
    assert "run-0 is kept" in out
    assert quick.path.is_dir()
    assert busy.path.is_dir()


def test_two_thousand_runs_are_listed_in_two_seconds(call: Call) -> None:
    for number in range(2000):
        state = ("finished", "failed", "running", "stopped")[number % 4]
        folder = Path(f"outputs/main/poincare-c0.1-s{number}-{number:08x}")
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("seed: 0\n")
        (folder / "results.json").write_text('{"metrics": {}}')
        said = {"state": state, "minutes": 12.3, "host": "node1", "error": "no luck", "pid": 12}
        (folder / "status.json").write_text(json.dumps(said))
    begin = time.process_time()
    status, out, _ = call("outputs/main")
    assert time.process_time() - begin < allowed(2)
    assert status == 0
    assert "2000 runs: 500 finished, 500 stopped, 500 failed, 500 broken off" in out
