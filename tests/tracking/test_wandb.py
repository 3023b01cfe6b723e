"""The real wandb, wandb-core included, against the server of `wandb_server`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from wandb_server import API_KEY, Run, WandbServer

from hldm.errors import UserError
from hldm.tracking import JsonLines, WandbTracker, check_tracking, run_labels
from hldm.tracking import wandb as module

pytestmark = pytest.mark.usefixtures("clean")

ROOT = Path(__file__).parents[2]
CONFIG = {
    "geometry": {"name": "poincare", "decoder_stem": "gyroplane"},
    "curvature": {"_target_": "hldm.geometry.FixedCurvature", "value": 0.1},
    "seed": 3,
    "training": {"first_stage": {"steps": 800}},
}
PROVENANCE = {"hldm": "0.1.0", "commit": "1a2b3c4", "dirty": False, "command": "python train.py seed=3"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "poincare-c0.1-s3"
    path.mkdir()
    return path


class Session:
    """One start of a run: numbers go to metrics.jsonl and to the tracker, as in the pipeline."""

    def __init__(self, directory: Path, project: str = "hldm", **options: Any) -> None:
        self.tracker = WandbTracker(project, **options)
        labels = run_labels("poincare", 0.1, 3)
        self.tracker.start(directory, directory.name, CONFIG, labels, PROVENANCE, "study", "train")
        self.lines = JsonLines(directory / "metrics.jsonl")

    def train(self, stage: str, first: int, last: int) -> "Session":
        self.lines.rewind(stage, first)
        for step in range(first + 1, last + 1):
            self.lines.log(step, {"loss": 1 / step}, stage)
            self.tracker.log(step, {"loss": 1 / step}, stage)
        return self


def picture(path: Path, shade: int = 0) -> Path:
    Image.new("L", (8, 8), shade).save(path)
    return path


def offline_records(segment: Path) -> list[dict[str, Any]]:
    """What an offline segment holds, read by wandb's own tool."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(segment)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def segments(directory: Path, kind: str = "offline-run-*") -> list[Path]:
    return sorted((directory / "wandb").glob(kind))


def wandb_sync(directory: Path) -> None:
    command = [sys.executable, "-m", "wandb", "sync", "--yes", *map(str, segments(directory))]
    subprocess.run(command, check=True, capture_output=True, cwd=directory)


def test_an_online_run_arrives_whole(directory: Path, server: WandbServer, capfd: pytest.CaptureFixture[str]) -> None:
    session = Session(directory).train("first_stage", 0, 3).train("diffusion", 0, 2)
    session.tracker.image("samples", picture(directory / "samples.png"))
    session.tracker.summary({"final/fid": 3.5, "best/loss": 0.1})
    session.tracker.finish(0)

    run = server.only_run
    assert run.steps("first_stage") == [1, 2, 3]
    assert run.steps("diffusion") == [1, 2]
    assert run.summary["final/fid"] == 3.5
    assert run.summary["best/loss"] == 0.1
    assert (run.group, run.job_type, run.display_name) == ("study", "train", directory.name)
    assert set(run.tags) == {"geometry=poincare", "curvature=0.1", "seed=3"}
    values = {name: entry["value"] for name, entry in run.config.items()}
    assert (values["geometry"], values["curvature"], values["seed"]) == ("poincare", 0.1, 3)
    assert values["geometry_options"] == CONFIG["geometry"]
    assert values["training"] == CONFIG["training"]
    axes = {metric.get("1", metric.get("2")) for metric in values["_wandb"]["m"]}
    assert {"first_stage/step", "diffusion/step"} <= axes
    assert values["provenance"] == PROVENANCE
    assert sum(name.startswith("media/images/") for name in run.files) == 1
    assert run.exit_codes == [0]
    assert run.id.startswith(directory.name)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [f"Weights & Biases: this run is at {server.url}/nobody/hldm/runs/{run.id}"]


def test_the_key_is_not_in_the_run_directory(directory: Path, server: WandbServer) -> None:
    Session(directory).train("first_stage", 0, 1).tracker.finish(0)
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if API_KEY.encode() in path.read_bytes()]
    assert not [path for path in files if path.suffix in (".py", ".patch")]


def test_a_failed_run_shows_as_failed(directory: Path, server: WandbServer) -> None:
    session = Session(directory)
    session.tracker.finish(3)
    session.tracker.finish(0)  # nothing more to close
    assert server.only_run.exit_codes == [3]


def test_a_resumed_run_has_every_step_once(directory: Path, server: WandbServer) -> None:
    Session(directory).train("first_stage", 0, 5).tracker.finish(1)
    Session(directory).train("first_stage", 2, 6).train("diffusion", 0, 3).tracker.finish(1)
    Session(directory).train("diffusion", 1, 4).tracker.finish(0)
    run = server.only_run
    assert run.steps("first_stage") == [1, 2, 3, 4, 5, 6]
    assert run.steps("diffusion") == [1, 2, 3, 4]
    assert run.exit_codes == [1, 1, 0]
    assert [record["step"] for record in JsonLines(directory / "metrics.jsonl").records()] == [
        1,
        2,
        3,
        4,
        5,
        6,
        1,
        2,
        3,
        4,
    ]


def killed_session(directory: Path, first: int, last: int) -> None:
    """A process that trains from `first` to `last` and is killed at once, before wandb has sent or written it all."""
    code = f"""
import sys, time
sys.path.insert(0, {str(ROOT / "tests/tracking")!r})
from pathlib import Path
from test_wandb import Session
Session(Path({str(directory)!r})).train("first_stage", {first}, {last})
print("trained", flush=True)
time.sleep(60)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"trained\n"
        process.send_signal(signal.SIGKILL)


def test_nothing_is_lost_or_doubled_by_kills_online(directory: Path, server: WandbServer) -> None:
    killed_session(directory, 0, 4)
    killed_session(directory, 2, 7)
    Session(directory).train("first_stage", 5, 9).tracker.finish(0)
    assert server.only_run.steps("first_stage") == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_nothing_is_lost_or_doubled_by_kills_offline(
    directory: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    killed_session(directory, 0, 4)
    killed_session(directory, 2, 7)
    Session(directory).train("first_stage", 5, 8).tracker.finish(1)
    Session(directory).train("first_stage", 8, 9).tracker.finish(0)
    assert len(segments(directory)) == 1
    assert server.runs == {}
    wandb_sync(directory)
    run = server.only_run
    assert run.steps("first_stage") == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert run.exit_codes == [0]


def test_a_key_that_comes_later_brings_the_offline_part_with_it(
    directory: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Session(directory, mode="offline").train("first_stage", 0, 3).tracker.finish(1)
    Session(directory).train("first_stage", 2, 5).tracker.finish(1)
    assert segments(directory) == []  # `wandb sync` would send it a second time
    Session(directory, mode="offline").train("first_stage", 5, 7).tracker.finish(0)
    wandb_sync(directory)
    assert server.only_run.steps("first_stage") == [1, 2, 3, 4, 5, 6, 7]


def test_a_run_that_was_not_tracked_before_is_tracked_whole(directory: Path, server: WandbServer) -> None:
    JsonLines(directory / "metrics.jsonl").log(1, {"loss": 1.0}, "first_stage")
    Session(directory).train("first_stage", 1, 2).tracker.finish(0)
    assert server.only_run.steps("first_stage") == [1, 2]


def test_without_a_key_the_run_is_offline_and_says_so(directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    session = Session(directory).train("first_stage", 0, 2)
    session.tracker.summary({"final/fid": 3.5})
    session.tracker.finish(0)
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    assert "there is no key" in line
    assert "wandb sync" in line
    (segment,) = segments(directory)
    text = json.dumps(offline_records(segment))
    assert "first_stage/loss" in text
    assert "final/fid" in text
    assert "geometry=poincare" in text


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_the_environment_decides_where_the_config_says_auto(
    directory: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    session = Session(directory).train("first_stage", 0, 1)
    session.tracker.image("samples", picture(directory / "samples.png"))
    session.tracker.summary({"final/fid": 3.5})
    session.tracker.finish(0)
    assert server.runs == {}
    assert len(segments(directory)) == (mode == "offline")
    assert (directory / "wandb").exists() == (mode == "offline")


@pytest.mark.parametrize("key", [API_KEY, "too short"])
def test_a_key_that_is_refused_does_not_stop_the_run(
    directory: Path,
    server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    key: str,
) -> None:
    server.refuse = True
    monkeypatch.setenv("WANDB_API_KEY", key)
    Session(directory).train("first_stage", 0, 1).tracker.finish(0)
    (line,) = capfd.readouterr().err.splitlines()
    assert "kept offline" in line
    assert key not in line
    assert len(segments(directory)) == 1


def test_a_server_that_cannot_be_reached_does_not_stop_the_run(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as unheard:  # takes connections and never answers
        unheard.bind(("127.0.0.1", 0))
        unheard.listen()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{unheard.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", API_KEY)
        monkeypatch.setattr(module, "_CONNECT_SECONDS", 2.0)
        begin = time.monotonic()
        Session(directory).train("first_stage", 0, 1).tracker.finish(0)
        assert time.monotonic() - begin < 15
    (line,) = capfd.readouterr().err.splitlines()
    assert "could not be reached" in line
    assert len(segments(directory)) == 1


def test_a_server_that_goes_away_does_not_stop_the_run(
    directory: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_UPLOAD_SECONDS", 2.0)
    session = Session(directory)
    server.shutdown()
    server.server_close()
    begin = time.monotonic()
    session.train("first_stage", 0, 3).tracker.finish(0)
    assert time.monotonic() - begin < 15
    assert "wandb sync" in capfd.readouterr().err.splitlines()[-1]


def test_trouble_in_the_middle_ends_the_tracking_but_not_the_run(
    directory: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    session = Session(directory).train("first_stage", 0, 2)

    def lost(*args: object) -> None:
        raise ConnectionResetError("Connection lost")

    monkeypatch.setattr(session.tracker._run, "log", lost)
    session.train("first_stage", 2, 4)
    session.tracker.image("samples", picture(directory / "samples.png"))
    session.tracker.summary({"final/fid": 3.5})
    session.tracker.finish(0)
    assert "Connection lost" in capfd.readouterr().err.splitlines()[-1]
    Session(directory).train("first_stage", 4, 5).tracker.finish(0)
    assert server.only_run.steps("first_stage") == [1, 2, 3, 4, 5]


REFUSED = {
    "an empty mode": ({"WANDB_MODE": ""}, "setting mode"),
    "another mode": ({"WANDB_MODE": "foo"}, "setting mode"),
    "an address without a scheme": ({"WANDB_BASE_URL": "localhost:8080"}, "setting base_url"),
    "a long tag": ({"WANDB_TAGS": 80 * "x"}, "80 characters"),
    "a word for a number": ({"WANDB_HTTP_TIMEOUT": "soon"}, "valid number"),
    "a service that is none": ({"WANDB_SERVICE": "garbage"}, "WANDB_SERVICE"),
}


@pytest.mark.parametrize(("environment", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_settings_that_wandb_refuses_cost_one_line(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    environment: dict[str, str],
    words: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    early = check_tracking("hldm")
    session = Session(directory).train("first_stage", 0, 2)
    session.tracker.image("samples", picture(directory / "samples.png"))
    session.tracker.summary({"final/fid": 3.5})
    session.tracker.finish(0)
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    for told in (line, early):
        assert told is not None
        assert words in told
        assert "metrics.jsonl only" in told
    assert len(session.lines.records()) == 2


def test_a_project_that_wandb_refuses_costs_one_line(directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    early = check_tracking("lab/hyperbolic")
    assert early is not None
    assert "lab/hyperbolic" in early
    Session(directory, project="lab/hyperbolic").train("first_stage", 0, 1).tracker.finish(0)
    (line,) = capfd.readouterr().err.splitlines()
    assert "lab/hyperbolic" in line
    assert "metrics.jsonl only" in line


def test_a_user_without_a_home_is_not_tracked(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def unknown(*_: object) -> None:
        raise KeyError("getpwuid(): uid not found: 54321")

    for name in ("HOME", "WANDB_CONFIG_DIR"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert "home" in (check_tracking("hldm") or "")
    Session(directory).train("first_stage", 0, 1).tracker.finish(0)
    (line,) = capfd.readouterr().err.splitlines()
    assert "home" in line


@pytest.mark.parametrize("error", [ImportError("no module named x"), RuntimeError("of whatever kind")])
def test_a_wandb_that_cannot_be_imported_costs_one_line(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "wandb":
                raise error

    monkeypatch.delitem(sys.modules, "wandb")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert str(error) in (check_tracking("hldm") or "")
    Session(directory).train("first_stage", 0, 1).tracker.finish(0)
    (line,) = capfd.readouterr().err.splitlines()
    assert str(error) in line


def test_a_run_directory_where_nothing_can_be_kept_costs_one_line(
    directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (directory / "wandb").write_text("in the way")
    Session(directory).train("first_stage", 0, 1).tracker.finish(0)
    (line,) = capfd.readouterr().err.splitlines()
    assert "metrics.jsonl only" in line


def test_a_closed_stderr_does_not_end_a_run(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "foo")
    with (directory / "log.txt").open("w") as closed:
        monkeypatch.setattr(sys, "stderr", closed)
    Session(directory).train("first_stage", 0, 1).tracker.finish(0)


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_run_keeps_its_id_in_an_environment_of_another_run(
    directory: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    for name, value in {"SWEEP_ID": "abc", "RUN_ID": "other", "LAUNCH": "true", "RESUME": "never"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("WANDB_RESUME_FROM", "other?_step=3")
    for first in (0, 1):
        Session(directory, mode=mode).train("first_stage", first, first + 1).tracker.finish(0)
    if mode == "offline":
        wandb_sync(directory)
    assert server.only_run.id == (directory / "wandb" / "id.txt").read_text().strip()
    assert server.only_run.steps("first_stage") == [1, 2]


def test_online_without_a_key_is_refused_early_and_offline_later(
    directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="wandb login"):
        check_tracking("hldm", mode="online")
    Session(directory, mode="online").train("first_stage", 0, 1).tracker.finish(0)
    (line,) = capfd.readouterr().err.splitlines()
    assert "kept offline" in line


def test_good_settings_pass_the_early_check(server: WandbServer, capfd: pytest.CaptureFixture[str]) -> None:
    assert [check_tracking("hldm", mode=mode) for mode in ("auto", "online", "offline")] == [None] * 3
    assert server.runs == {}
    assert capfd.readouterr() == ("", "")


def test_two_runs_of_one_name_stay_apart(tmp_path: Path, server: WandbServer) -> None:
    for study in ("a", "b"):
        directory = tmp_path / study / "same"
        directory.mkdir(parents=True)
        Session(directory).train("first_stage", 0, 2).tracker.finish(0)
    assert len(server.runs) == 2
    assert all(isinstance(run, Run) and run.steps("first_stage") == [1, 2] for run in server.runs.values())
