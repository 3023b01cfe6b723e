"""The files of a run: whole or not there, and true also after a crash."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hldm.config.compose import compose
from hldm.errors import UserError
from hldm.files import write_text_atomically
from hldm.paths import CHECKOUT as ROOT
from hldm.run.directory import MODEL, RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


def test_the_configuration_comes_back_as_it_was(run: RunDirectory) -> None:
    config = compose(["geometry=hybrid", "curvature=1e-4", "training.diffusion.learning_rate=1e-5"])
    assert RunDirectory.create(run.path, config).config == config


@pytest.mark.parametrize("content", ["a: [", "", "- 1", "\x00"])
def test_a_damaged_configuration_is_said(content: str, run: RunDirectory) -> None:
    run.path.mkdir()
    (run.path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"config\.yaml"):
        _ = run.config


def test_a_missing_run_is_said(run: RunDirectory) -> None:
    with pytest.raises(UserError, match="is not a run"):
        _ = run.config


@pytest.mark.parametrize("name", ["status.json", "results.json"])
@pytest.mark.parametrize("content", ["", '{"state": ', "[1]", "\x80"])
def test_damaged_json_is_said(name: str, content: str, run: RunDirectory) -> None:
    run.path.mkdir()
    (run.path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match="Delete it"):
        _ = run.status if name == "status.json" else run.results


@pytest.mark.parametrize(
    "damage",
    [
        '"seconds": 3', '"seconds": true', '"seconds": {"diffusion": NaN}', '"minutes": 1e308', f'"minutes": {10**400}',
        '"code": "x"', '"speed": [1]',
    ],
)  # fmt: skip
def test_a_status_of_other_kinds_is_damage(damage: str, run: RunDirectory) -> None:
    run.path.mkdir()
    (run.path / "status.json").write_text(f'{{"state": "finished", {damage}}}')
    with pytest.raises(UserError, match="does not hold what it should"):
        _ = run.status


def test_weights_are_looked_at_without_torch(run: RunDirectory) -> None:
    with pytest.raises(UserError, match="Train the run first"):
        run.check_weights()
    run.update_status(state="finished")
    run.write_results({"metrics": {"fid": 1.0}})
    with pytest.raises(UserError, match=r"There are no weights .* Move .* away"):  # a command says it is finished
        run.check_weights()
    weights = run.path / MODEL
    weights.parent.mkdir()
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    whole = len(header).to_bytes(8, "little") + header + bytes(8)
    for content in (b"", b"\xff" * 100, whole[:-1]):
        weights.write_bytes(content)
        with pytest.raises(UserError, match=r"damaged .* Move"):
            run.check_weights()
    weights.write_bytes(whole)
    run.check_weights()


def test_states(run: RunDirectory) -> None:
    assert run.state == "new"
    assert run.results is None
    assert run.holder() is None
    with run.work():
        assert run.state == "running"
        status = run.status
        assert (status["pid"], status["host"]) == (os.getpid(), socket.gethostname())
        assert str(run.holder()) == f"process {os.getpid()} on {socket.gethostname()}"
        run.write_results({"metrics": {"fid": 1.0}})
    assert run.state == "finished"
    assert run.results == {"metrics": {"fid": 1.0}}
    assert run.status["started"] <= run.status["ended"]
    assert run.status["minutes"] >= 0

    (run.path / "results.json").unlink()
    assert run.state == "broken off"


def test_a_failure_is_noted_and_passed_on(run: RunDirectory) -> None:
    with pytest.raises(RuntimeError, match="no luck"), run.work():
        raise RuntimeError("no luck")
    assert run.state == "failed"
    assert run.status["error"] == "RuntimeError: no luck"


def test_an_interrupted_run_is_broken_off_and_its_minutes_add_up(run: RunDirectory) -> None:
    with pytest.raises(KeyboardInterrupt), run.work():
        raise KeyboardInterrupt
    assert run.state == "broken off"
    run.update_status(minutes=5.0, seconds={"first_stage": 1.0})
    with run.work():
        assert run.status["seconds"] == {"first_stage": 1.0}
    assert run.status["minutes"] >= 5.0


def test_a_killed_process_lets_go(run: RunDirectory) -> None:
    code = (
        "import os, sys, signal; from pathlib import Path; from hldm.run.directory import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).work(): print('here', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(run.path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        assert run.state == "running"
        with pytest.raises(UserError, match=f"process {process.pid} on"), run.work():
            pytest.fail("two processes work on one run")
        assert run.status["pid"] == process.pid
        process.kill()
        process.wait()
    assert run.state == "broken off"
    with run.work():
        assert run.status["pid"] == os.getpid()


def test_a_write_that_fails_leaves_the_old_file(run: RunDirectory) -> None:
    run.path.mkdir()
    run.write_results({"metrics": {}})
    with pytest.raises(ValueError, match="JSON"):
        run.write_results({"metrics": {"fid": float("nan")}})
    assert json.loads((run.path / "results.json").read_text()) == {"metrics": {}}
    write_text_atomically(run.path / "a", "b")
    assert sorted(path.name for path in run.path.iterdir()) == ["a", "results.json"]


def test_runs_are_found_by_path_study_and_pattern_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.setattr("hldm.run.directory.root", lambda: tmp_path)
    for name in ("b", "a"):
        RunDirectory.create(tmp_path / "outputs" / "main" / name, compose([]))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for text, names in [
        ("outputs/main/a", ["a"]),
        ("outputs/main", ["a", "b"]),
        ("outputs/*/b", ["b"]),
        (str(tmp_path / "outputs" / "main"), ["a", "b"]),
        ("outputs/absent", []),
    ]:
        assert [run.path.name for run in RunDirectory.find(text)] == names
