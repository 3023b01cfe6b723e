"""The pool of one machine, with workers that take a moment: see `WORKER` for what they can do."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hldm.config.compose import compose
from hldm.config.schema import RunConfig
from hldm.machine import Allotment
from hldm.paths import CHECKOUT as ROOT
from hldm.run import parent
from hldm.run.directory import RunDirectory
from hldm.run.identity import Identity
from hldm.study import execute as pool
from hldm.study import job
from hldm.study.execute import execute, mend
from hldm.study.plan import Point

WORKER = """
import json, os, signal, sys, time
path = sys.argv[1]
def status(**fields):
    with open(path + "/status.json") as file: known = json.load(file)
    with open(path + "/new", "w") as file: json.dump({**known, **fields}, file)
    os.replace(path + "/new", path + "/status.json")
with open(path + "/starts", "a") as file: file.write("x")
starts = len(open(path + "/starts").read())
what = open(path + "/what").read().split()
print("a line of", os.path.basename(path), flush=True)
def stop(*_):
    status(state="stopped")
    sys.exit(75)
signal.signal(signal.SIGINT, stop if "deaf" not in what else signal.SIG_IGN)
status(started="now")
open(path + "/ready", "w").close()
for word in what:
    if word == "once" and starts == 1 or word == "fails": status(state="failed", error="no luck"); sys.exit(1)
    if word == "dies": os.kill(os.getpid(), signal.SIGKILL)
    if word == "stops": stop()
    if word == "slow" and starts == 1:
        for step in range(200): time.sleep(.1)
status(state="finished", minutes=1.5)
open(path + "/results.json", "w").write('{"metrics": {}}')
"""
"""Does what the words in the file `what` say: once, fails, dies, stops, slow, deaf."""

Make = Callable[..., list[Point]]


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return compose([])


@pytest.fixture
def points(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """`points("fails", "", retry=1)`: a run for each word, with these settings of the hardware."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    monkeypatch.setattr(job, "WORKER", ("-S", "-E", str(script)))
    monkeypatch.setattr(pool, "LOOK_EVERY", 0.05)

    def make(*what: str, **hardware: Any) -> list[Point]:
        made = []
        for number, words in enumerate(what):
            settings = config.hardware.model_copy(update=hardware)
            paths = config.paths.model_copy(update={"outputs": str(tmp_path / "outputs")})
            own = config.model_copy(update={"hardware": settings, "paths": paths})
            run = RunDirectory(tmp_path / "outputs" / "main" / f"run{number}")
            run.path.mkdir(parents=True, exist_ok=True)
            (run.path / "what").write_text(words)
            made.append(Point((), own, Identity(run.path.name, "0"), run, run.state))
        return made

    return make


def said(runs: list[Point], slots: int = 2, threads: int = 1, **console: Any) -> tuple[dict[str, str], str]:
    """Why runs failed, and what was shown."""
    out = io.StringIO()
    failures = execute(runs, Allotment(slots, threads), Console(file=out, width=100, markup=False, **console))
    return {path.name: why for path, why in failures.items()}, out.getvalue()


def states(runs: list[Point]) -> list[str]:
    return [str(point.run.status["state"]) for point in runs]


def starts(runs: list[Point]) -> list[int]:
    files = [point.run.path / "starts" for point in runs]
    return [len(file.read_text()) if file.exists() else 0 for file in files]


def test_a_line_for_each_change_and_all_output_in_the_logs(points: Make) -> None:
    runs = points("", "", "dies")
    failures, text = said(runs)
    assert states(runs) == ["finished", "finished", "failed"]
    assert failures == {"run2": "ended by SIGKILL, which the system does where memory runs out"}
    assert text.count("finished in 1.5 minutes") == 2
    assert "run 3 of 3: run2" in text
    assert len(text.splitlines()) == 6
    assert all("a line of run" in (point.run.path / "log.txt").read_text() for point in runs)


def test_a_run_that_is_alone_is_heard(points: Make) -> None:
    runs = points("", "")
    _, text = said(runs, slots=1)
    assert [text.count(f"a line of run{number}") for number in (0, 1)] == [1, 1]
    assert text.index("a line of run0") < text.index("run0: finished") < text.index("a line of run1")
    assert "a line of run1" in (runs[1].run.path / "log.txt").read_text()
    _, text = said(points("stops"), slots=1)
    assert text == "run0: finished by another process\n"


def test_what_was_shown_of_a_log_is_not_shown_again(points: Make) -> None:
    runs = points("once", retry=1)
    _, text = said(runs, slots=1)
    assert text.count("a line of run0") == (runs[0].run.path / "log.txt").read_text().count("a line of run0") == 2


def test_a_terminal_shows_what_is_left(points: Make) -> None:
    runs = points("slow")
    stop = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
    stop.start()
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        execute(runs, Allotment(1, 1), Console(file=out, width=100, markup=False, force_terminal=True))
    assert "0 of 1 finished, about 1" in out.getvalue()
    assert "min left" in out.getvalue()


@pytest.mark.parametrize(("retry", "fails", "tried"), [(0, ["run0", "run1"], [1, 1, 1]), (2, ["run1"], [2, 3, 1])])
def test_a_failed_run_is_tried_again(points: Make, retry: int, fails: list[str], tried: list[int]) -> None:
    runs = points("once", "fails", "", retry=retry)
    failures, text = said(runs)
    assert list(failures) == fails
    assert starts(runs) == tried
    assert failures["run1"] == "no luck"
    assert ("(try 3 of 3)" in text) == (retry == 2)
    assert text.count("it is tried again") == sum(tried) - 3


def test_the_first_failure_stops_the_others_where_that_is_asked_for(points: Make) -> None:
    runs = points("slow", "fails", "", "", fail_fast=True)
    failures, text = said(runs)
    assert list(failures) == ["run1"]
    assert states(runs) == ["stopped", "failed", "new", "new"]
    assert "fail_fast=true: run1 failed, so 3 other runs are left for the next command" in text
    runs = points("slow", "", "", "", fail_fast=True)
    assert said(runs)[0] == {}
    assert states(runs) == ["finished"] * 4


def test_what_goes_wrong_at_a_start_is_that_runs_trouble(points: Make) -> None:
    runs = points("", "", "")
    (runs[0].run.path / "log.txt").mkdir()
    (runs[1].run.path / "status.json").write_text('{"state": ')
    failures, _ = said(runs)
    assert failures.keys() == {"run0", "run1"}
    assert "IsADirectoryError" in failures["run0"]
    assert "status.json cannot be read" in failures["run1"]
    assert states(runs[2:]) == ["finished"]


def test_an_earlier_reason_is_not_this_ones(points: Make) -> None:
    [run] = points("dies")
    run.run.update_status(state="failed", error="a learning rate")
    assert "SIGKILL" in said([run])[0]["run0"]


def test_a_run_that_somebody_stops_has_not_failed(points: Make) -> None:
    runs = points("stops", "")
    failures, text = said(runs)
    assert failures == {}
    assert "run0: stopped by somebody, with its state saved" in text


@pytest.fixture
def interrupt() -> Iterator[Callable[[list[Point], int], None]]:
    """Ctrl-C once all of these runs are ready, and `again` times more."""
    threads = []

    def send(runs: list[Point], again: int) -> None:
        def wait() -> None:
            while not all((point.run.path / "ready").exists() for point in runs):
                time.sleep(0.02)
            for _ in range(1 + again):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.3)

        threads.append(threading.Thread(target=wait))
        threads[-1].start()

    yield send
    for thread in threads:
        thread.join()


def test_the_first_ctrl_c_lets_runs_save(points: Make, interrupt: Callable[[list[Point], int], None]) -> None:
    runs = points("slow", "slow", "")
    interrupt(runs[:2], 0)
    with pytest.raises(KeyboardInterrupt):
        said(runs)
    assert states(runs) == ["stopped", "stopped", "new"]


def test_the_second_ctrl_c_kills(
    points: Make, interrupt: Callable[[list[Point], int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = points("slow deaf", "")
    interrupt(runs[:1], 1)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        execute(runs, Allotment(1, 1), Console(width=100, markup=False))
    assert time.monotonic() - start < 15
    out = capsys.readouterr().out
    assert "1 run saves and ends. Ctrl-C again kills." in out
    assert "1 of them killed" in out
    assert states(runs)[0] == "new"
    assert starts(runs) == [1, 0]


def test_a_run_of_another_process_of_this_machine_is_waited_for_in_its_slot(
    points: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an earlier command left it, or another one started it."""
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    runs = points("", "", "")
    for point, host in zip(runs, ("here", "here", "there"), strict=False):
        point.run.update_status(state="running", host=host, pid=1)
    held = {point.run.path for point in (runs[0], runs[2])}
    monkeypatch.setattr(RunDirectory, "holder", lambda self: "process 1 on here" if self.path in held else None)

    def end() -> None:
        time.sleep(1)
        assert starts(runs) == [0, 0, 0]  # one slot, and it is taken
        runs[0].run.write_results({"metrics": {}})
        runs[0].run.update_status(state="finished")
        held.clear()

    ending = threading.Thread(target=end)
    ending.start()
    plan = [Point((), p.config, p.identity, p.run, p.run.state) for p in runs]
    failures, text = said(plan, slots=1)
    ending.join()
    assert failures == {}
    assert starts(runs) == [0, 1, 0]
    assert "at work already: process 1 on here" in text
    assert "run0: finished by another process" in text
    assert "run2: at work elsewhere (process 1 on here), not waited for" in text


def test_a_run_that_is_cancelled_while_others_work_is_not_begun(points: Make) -> None:
    """Not the next time either, before a command asks for it again."""
    runs = points("", "dies", retry=1)
    for point in runs:
        point.run.mark_cancelled()
    failures, text = said(runs)
    assert failures == {}
    assert text.count("cancelled; the same command goes on") == 2
    assert starts(runs) == [0, 0]
    plan = [replace(point, state=point.run.state) for point in runs]
    assert [point.state for point in plan] == ["cancelled", "cancelled"]
    mend(plan)
    assert said(plan)[0] == {"run1": "ended by SIGKILL, which the system does where memory runs out"}
    assert starts(runs) == [1, 2]


def test_what_another_process_leaves_unfinished_is_done_here(points: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    runs = points("")
    runs[0].run.update_status(state="running", host="here", pid=1)
    until = time.monotonic() + 0.5
    monkeypatch.setattr(RunDirectory, "holder", lambda self: "process 1 on here" if time.monotonic() < until else None)
    plan = [Point((), p.config, p.identity, p.run, p.run.state) for p in runs]
    assert plan[0].state == "running"
    _, text = said(plan)
    assert "run0: broken off by another process" in text
    assert states(runs) == ["finished"]


def test_no_run_outlives_a_killed_command(points: Make, tmp_path: Path) -> None:
    """Its end of the pipe is closed by the system, and the run stops with its state saved."""
    [run] = points("slow")
    run.run.update_status(state="new")
    worker = tmp_path / "watching.py"
    worker.write_text("from hldm.run.parent import stop_without_parent as f\nf()\n" + WORKER)
    command = (
        "import subprocess, sys; from hldm.run.parent import Lifeline; line = Lifeline()\n"
        f"subprocess.run([sys.executable, {str(worker)!r}, {str(run.run.path)!r}], pass_fds=[line.run_end],"
        "env={**__import__('os').environ, **line.environment}, start_new_session=True)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", command], env=environment) as killed:
        while not (run.run.path / "ready").exists():
            time.sleep(0.02)
        killed.kill()
    deadline = time.monotonic() + 120
    while run.run.status["state"] != "stopped" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run.run.status["state"] == "stopped"


def test_a_run_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(number))
    line = parent.Lifeline()
    monkeypatch.setenv(parent.VARIABLE, str(os.dup(line.run_end)))
    parent.stop_without_parent(patience=0.05)
    assert parent.VARIABLE not in os.environ
    time.sleep(0.2)
    assert sent == []
    with line:
        pass
    deadline = time.monotonic() + 60
    while len(sent) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sent == [signal.SIGINT, signal.SIGKILL]


@pytest.mark.parametrize("text", ["", "999", "x"])
def test_a_process_that_was_started_without_a_pipe_goes_on(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(parent.VARIABLE, text)
    before = threading.active_count()
    parent.stop_without_parent()
    assert threading.active_count() == before


def test_a_run_keeps_the_number_of_threads_that_it_was_begun_with(points: Make) -> None:
    """Other numbers give other last bits. It takes as many of the cores, so others may have to wait."""
    runs = points("stops", "stops")
    said(runs, slots=1, threads=2)
    assert [point.run.config.hardware.threads for point in runs] == [2, 2]
    runs = points("", "", "")
    _, text = said(runs, slots=2, threads=1)
    assert [point.run.config.hardware.threads for point in runs] == [2, 2, 1]
    assert text.index("run0: finished") < text.index("run 2 of 3")
    assert states(runs) == ["finished"] * 3
    runs[0].run.update_status(state="failed")
    typed = points("", threads=1)  # who types a number means it
    said(typed)
    assert typed[0].run.config.hardware.threads == 1


def test_signals_that_are_ignored_stay_ignored(points: Make) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        runs = points("slow")
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGHUP)).start()
        threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt) as stopped:
            said(runs)
        assert stopped.value.args == (signal.SIGTERM,)
        assert time.monotonic() - start > 1
    finally:
        signal.signal(signal.SIGHUP, before)
    assert json.loads((runs[0].run.path / "status.json").read_text())["state"] in ("stopped", "new")
