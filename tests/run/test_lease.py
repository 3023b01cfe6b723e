"""Leases: real processes that hold, are stopped, are killed, and race; other machines, and clocks that are apart."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hldm import files
from hldm.files import write_text_atomically
from hldm.paths import CHECKOUT as ROOT
from hldm.run import lease
from hldm.run.holder import Holder, began
from hldm.run.lease import HeldError, Lease, LostError

QUICK = {"HEARTBEAT": 0.1, "SILENCE": 1.0, "LOOK": 0.05, "ASK_AFTER": 0.2}

PRELUDE = f"""
import os, signal, sys, time
from pathlib import Path
from hldm.files import write_text_atomically
from hldm.run import lease
for name, value in {QUICK}.items():
    setattr(lease, name, value)
folder = Path(sys.argv[1])
"""

HOLD = """
with lease.held(folder, print):
    print("here", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in QUICK.items():
        monkeypatch.setattr(lease, name, value)
    return tmp_path / "run"


def start(folder: Path, code: str, **environment: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, stdin=pipe, stdout=pipe, stderr=pipe, text=True,
    )  # fmt: skip


@contextmanager
def another(folder: Path, code: str = HOLD, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder until its input is closed."""
    with start(folder, code, **environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        try:
            yield process
        finally:
            process.kill()


def hold(folder: Path, wait: bool = False) -> "contextmanager[Lease]":  # type: ignore[type-arg]  # as held returns it
    return lease.held(folder, lambda text: None, (lambda holder, waited: None) if wait else None)  # type: ignore


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / ".lease"))


def elsewhere(folder: Path, ahead: float = 0.0, job: str | None = None) -> Path:
    """A lease that a process on another machine holds, whose clock is so many seconds ahead."""
    (folder / ".lease").mkdir(parents=True)
    mine = Holder.this_process()
    file = folder / ".lease" / "4.json"
    file.write_text(replace(mine, token="theirs", host="node7", machine="other", pid=12, job=job).text)
    beat(file, ahead)
    return file


def beat(file: Path, ahead: float) -> None:
    os.utime(file, (time.time() + ahead,) * 2)


def test_one_process_holds_a_folder_until_it_gives_it_back(folder: Path) -> None:
    assert lease.holder(folder) is None
    with another(folder) as process:
        found = lease.holder(folder)
        assert found is not None
        assert str(found) == f"process {process.pid} on {os.uname().nodename}"
        with pytest.raises(HeldError, match=rf"process {process.pid} on .*since 20\d\d-"), hold(folder):
            pytest.fail("two hold it")
        process.communicate(timeout=60)
    assert names(folder) == ["1.free"]
    with hold(folder):
        assert names(folder) == ["2.json"]
        with pytest.raises(HeldError), hold(folder):  # also within one process
            pytest.fail("two hold it")
    assert names(folder) == ["2.free"]
    assert not files.fences


def test_a_holder_that_was_killed_is_followed_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SILENCE", 60.0)
    with another(folder) as process:
        process.kill()
        process.wait()
        assert lease.holder(folder) is None
        begin = time.monotonic()
        with hold(folder):
            assert time.monotonic() - begin < 10
            assert names(folder) == ["2.json"]


def test_a_killed_holder_nobody_has_waited_for_is_gone(folder: Path) -> None:
    with another(folder) as process:
        process.kill()
        while began(process.pid) is not None:
            time.sleep(0.01)
        assert lease.holder(folder) is None


def test_a_number_that_was_given_out_again_is_another_process(folder: Path) -> None:
    mine = Holder.this_process()
    assert not mine.is_gone
    assert replace(mine, began="17").is_gone
    assert not replace(mine, began="17", machine="another container of this name").is_gone


WAKE = (
    HOLD
    + """
    try:
        write_text_atomically(folder / "status.json", "mine")
    except lease.LostError as error:
        print(error, flush=True)
        sys.exit(76)
"""
)


def test_a_stopped_holder_is_taken_over_and_notices_when_it_wakes(folder: Path) -> None:
    with another(folder, WAKE) as process:
        process.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        with hold(folder, wait=True):
            assert QUICK["SILENCE"] <= time.monotonic() - begin < 4 * QUICK["SILENCE"]
            write_text_atomically(folder / "status.json", "theirs")
            process.send_signal(signal.SIGCONT)
            out, err = process.communicate(timeout=60)
            assert process.returncode == 76, err
            assert f"is worked on by process {os.getpid()} on" in out
            assert (folder / "status.json").read_text() == "theirs"
            assert names(folder) == ["2.json"]


def test_a_stopped_holder_that_nobody_followed_goes_on(folder: Path) -> None:
    with another(folder, WAKE) as process:
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5 * QUICK["SILENCE"])
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert (folder / "status.json").read_text() == "mine"


@pytest.mark.parametrize("ahead", [0.0, -86400.0, 86400.0])
def test_clocks_that_are_apart_take_nothing_from_the_living(
    folder: Path, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SILENCE", 2.0)
    file = elsewhere(folder, ahead)
    code = """
file, ahead = folder / ".lease" / "4.json", float(os.environ["AHEAD"])
print("here", flush=True)
while True:
    os.utime(file, (time.time() + ahead,) * 2)
    time.sleep(.1)
"""
    with another(folder, code, AHEAD=str(ahead)):
        with pytest.raises(HeldError, match="process 12 on node7"), hold(folder):
            pytest.fail("it lives")
        watched, last = lease._Watch(), time.monotonic() + 3.0
        while time.monotonic() < last:
            entry = lease._newest(folder)
            assert entry.holder is not None
            assert not watched.says_dead(entry, entry.holder)
            time.sleep(lease.LOOK)
    assert file.is_file()


@pytest.mark.parametrize("ahead", [-86400.0, 86400.0, 0.0])
def test_a_dead_holder_elsewhere_blocks_nobody_for_longer_than_the_stated_time(folder: Path, ahead: float) -> None:
    elsewhere(folder, ahead)
    begin = time.monotonic()
    if not ahead:  # seen lately: whoever does not wait is refused until it looks silent
        assert lease.holder(folder) is not None
        with pytest.raises(HeldError), hold(folder):
            pytest.fail("it was there a moment ago")
        time.sleep(2 * QUICK["HEARTBEAT"])
    else:
        assert lease.holder(folder) is None
    with hold(folder):
        assert QUICK["SILENCE"] <= time.monotonic() - begin < 2 * QUICK["SILENCE"] + 1
        assert names(folder) == ["5.json"]


def test_time_in_which_the_watcher_itself_was_stopped_says_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(folder)
    entry = lease._newest(folder)
    assert entry.holder is not None
    watch, clock = lease._Watch(), time.monotonic()
    for hours in range(10):
        monkeypatch.setattr(time, "monotonic", lambda hours=hours: clock + 3600 * hours)
        assert not watch.says_dead(entry, entry.holder)


RACE = """
go = Path(sys.argv[1]).parent / "go"
print("here", flush=True)
while not go.exists():
    time.sleep(.001)
for _ in range(int(os.environ["TIMES"])):
    with lease.held(folder, print, lambda holder, waited: None):
        inside = os.open(folder / "inside", os.O_CREAT | os.O_EXCL)  # raises where two are here
        count = int((folder / "count").read_text())
        time.sleep(.002)
        write_text_atomically(folder / "count", str(count + 1))
        os.unlink(folder / "inside")
        os.close(inside)
"""


@pytest.mark.parametrize("how", ["free", "dead", "without links"])
def test_of_many_that_race_one_at_a_time_is_inside(folder: Path, how: str) -> None:
    folder.mkdir()
    (folder / "count").write_text("0")
    code = "lease.SILENCE = 30\nlease.LOOK = .003\n" + RACE
    if how == "without links":
        code = "def no(*_): raise PermissionError(1, 'Operation not permitted')\nos.link = no\n" + code
    if how == "dead":
        elsewhere(folder).write_text(replace(Holder.this_process(), began="17").text)
    racers, times = 6, 5
    started = [start(folder, code, TIMES=str(times)) for _ in range(racers)]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
    (folder.parent / "go").touch()
    for process in started:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert (folder / "count").read_text() == str(racers * times)
    assert not list((folder / ".lease").glob("*.tmp"))
    assert len(names(folder)) == 1


def test_one_who_read_the_folder_long_ago_takes_nothing(folder: Path) -> None:
    with hold(folder), pytest.raises(HeldError), hold(folder):
        pass
    with hold(folder):
        assert names(folder) == ["2.json"]
        assert lease._take(folder, 1) is None
        assert lease._take(folder, 2) is None
        assert names(folder) == ["2.json"]
    assert lease._take(folder, 2) is None
    assert names(folder) == ["2.free"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"token": 3}', "\x00"])
def test_what_is_no_lease_is_somebody_unknown(content: str) -> None:
    assert str(Holder.read(content)) == "process ? on another machine"


@pytest.mark.parametrize("content", ["", '{"token": 3}'])
def test_a_lease_that_cannot_be_read_is_held_until_it_is_silent(folder: Path, content: str) -> None:
    elsewhere(folder).write_text(content)
    assert str(lease.holder(folder)) == "process ? on another machine"
    with pytest.raises(HeldError), hold(folder):
        pytest.fail("it may be one that is just written")
    with hold(folder, wait=True):
        assert names(folder) == ["5.json"]


def fake_squeue(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "squeue").write_text(f"#!/bin/sh\necho asked >> {folder}/asked\n{script}\n")
    (folder / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.mark.parametrize(
    ("script", "is_gone"),
    [
        ("echo '45_1|RUNNING'; echo '45_2|CANCELLED'", True),
        ("echo '45_2|PENDING'", True),  # requeued: its earlier start has ended
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", True),
        ("echo '45_1|CANCELLED'; echo '45_2|RUNNING'", False),
        ("echo '45_2|COMPLETING'", False),
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", False),
        ("sleep 5", False),
    ],
)
def test_the_scheduler_is_asked_about_a_silent_job(
    folder: Path, tmp_path: Path, script: str, is_gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hldm.run.jobs.PATIENCE", 0.5)
    monkeypatch.setattr(lease, "SILENCE", 60.0 if is_gone else 2.0)
    fake_squeue(tmp_path / "bin", script, monkeypatch)
    elsewhere(folder, job="45_2")
    begin = time.monotonic()
    with hold(folder, wait=True):
        waited = time.monotonic() - begin
    assert waited < 20
    assert is_gone or waited > 2.0


def test_a_later_start_of_the_same_job_follows_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(folder, job="45_2")
    for name, value in {"ARRAY_JOB_ID": "45", "ARRAY_TASK_ID": "2", "JOB_ID": "47", "RESTART_COUNT": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    with pytest.raises(HeldError, match="job 45_2"), hold(folder):
        pytest.fail("the same start of the job, on another node")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with hold(folder):
        found = lease.holder(folder)
    assert found is not None
    assert (found.job, found.restart) == ("45_2", 1)


def test_looking_disturbs_nobody_and_writes_nothing(folder: Path) -> None:
    """Fault 42: a look took the lock, and 166 of 3,000 starts were refused."""
    folder.mkdir()
    assert lease.holder(folder) is None
    assert not list(folder.iterdir())
    code = "print('here', flush=True)\nwhile True: lease.holder(folder)"
    with another(folder, code):
        for _ in range(200):
            with hold(folder):
                assert lease.holder(folder) is not None
    before = sorted(folder.rglob("*"))
    folder.chmod(0o500)
    (folder / ".lease").chmod(0o500)
    assert lease.holder(folder) is None
    folder.chmod(0o700)
    (folder / ".lease").chmod(0o700)
    assert sorted(folder.rglob("*")) == before


def test_a_fence_stands_around_its_folder_only(folder: Path, tmp_path: Path) -> None:
    with hold(folder):
        write_text_atomically(folder / "deep" / "a", "1")
        (folder / ".lease" / "1.json").unlink()
        write_text_atomically(tmp_path / "b", "1")
        for path in ("deep/a", "a"):
            with pytest.raises(LostError):
                write_text_atomically(folder / path, "2")
    assert (folder / "deep" / "a").read_text() == "1"
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["a"]


def test_a_child_that_ends_gives_nothing_back(folder: Path) -> None:
    code = """
with lease.held(folder, print):
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    print("here", flush=True)
    sys.stdin.read()
"""
    with another(folder, code) as process, pytest.raises(HeldError, match=str(process.pid)), hold(folder):
        pytest.fail("it is held")


def test_locks_of_earlier_versions_do_no_harm(folder: Path) -> None:
    folder.mkdir()
    with (folder / ".lock").open("w") as old:
        fcntl.flock(old, fcntl.LOCK_EX)
        with hold(folder):
            assert names(folder) == ["1.json"]


def test_what_a_lease_says(folder: Path) -> None:
    with hold(folder):
        content = json.loads((folder / ".lease" / "1.json").read_text())
    assert content["pid"] == os.getpid()
    assert content["began"] == began(os.getpid())
    assert content["taken"].startswith("20")
