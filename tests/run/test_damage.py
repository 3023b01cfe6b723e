"""Files of a run that are damaged, incomplete or from elsewhere: a sentence, and the other runs go on."""

import json
from pathlib import Path

import pytest

from hldm import console
from hldm.commands import evaluate, generate, runs
from hldm.config.compose import compose
from hldm.run.directory import MODEL, RunDirectory
from tests.conftest import Invoke

DAMAGE = [
    "", "{", "[]", "null", "3", '"x"', "{}", "\x00\x01", '{"state": 3}', '{"state": "finished"}', '{"metrics": null}',
    '{"metrics": [], "provenance": []}', '{"metrics": {"fid": "x"}, "provenance": {"samples": 3}}',
    '{"metrics": {"fid": null}, "provenance": {"samples": [], "extractors": 3}}',
    '{"state": "finished", "minutes": "x", "seconds": 3}', '{"state": "finished", "seconds": {"diffusion": "x"}}',
    '{"state": "running", "minutes": [], "pid": {}}', '{"state": "failed", "error": 3, "minutes": "long"}',
]  # fmt: skip


@pytest.mark.parametrize("file", ["status.json", "results.json", "config.yaml"])
def test_a_damaged_file_never_ends_in_a_traceback(file: str, invoke: Invoke, capfd: pytest.CaptureFixture[str]) -> None:
    invoke("seed=0", "tracking=none")
    [run] = Path("outputs/main").glob("*-s0-*")
    for content in DAMAGE:
        (run / file).write_text(content)
        status, _, err = invoke("seed=0", "tracking=none")
        assert status in (0, 2), content
        assert "Traceback" not in err, content
        assert not status or run.name in err.replace("\n", "")
        (run / file).write_text(content)
        for argv in ([f"run={run}"], ["run=outputs/main"]):
            assert console.run(lambda argv=argv: evaluate.main(argv)) == 2, content  # type: ignore[misc]  # bound now
            assert "Traceback" not in capfd.readouterr().err
        if file == "config.yaml":
            assert console.run(lambda: generate.main([f"run={run}"])) == 2, content


@pytest.mark.parametrize("file", ["status.json", "results.json", "config.yaml"])
def test_another_run_is_planned_beside_a_damaged_one(file: str, invoke: Invoke) -> None:
    invoke("seed=0", "tracking=none")
    [run] = Path("outputs/main").glob("*-s0-*")
    (run / file).write_text("{")
    assert invoke("seed=1", "tracking=none")[0] == 0


@pytest.mark.parametrize("file", ["status.json", "results.json"])
def test_retrying_sets_aside_what_cannot_be_read(file: str, invoke: Invoke) -> None:
    invoke("seed=0", "tracking=none")
    [run] = Path("outputs/main").glob("*-s0-*")
    (run / file).write_text("{")
    assert console.run(lambda: runs.main(["retry", str(run)])) == 0
    assert (run / f"{file}.damaged").read_text() == "{"
    assert invoke("-m", "seed=0,1", "tracking=none")[0] == 0
    assert RunDirectory(run).state == "finished"


@pytest.mark.parametrize("folder", ["a [1]", "x*y", "plain"])
def test_literal_paths_that_exist_are_no_patterns(folder: str, tmp_path: Path) -> None:
    for name in ("poincare-1", "poincare-2", "euclidean-1"):
        (tmp_path / folder / "main" / name).mkdir(parents=True)
        (tmp_path / folder / "main" / name / "config.yaml").write_text("")
    base = tmp_path / folder / "main"
    assert len(RunDirectory.find(str(base))) == 3
    assert len(RunDirectory.find(str(base / "poincare-1"))) == 1
    assert [run.path.name for run in RunDirectory.find(str(base / "poin*"))] == ["poincare-1", "poincare-2"]
    assert RunDirectory.find(str(base / "nothing*")) == []


def test_what_lacks_is_named(invoke: Invoke, capfd: pytest.CaptureFixture[str]) -> None:
    invoke("seed=0", "tracking=none")
    [run] = Path("outputs/main").glob("*-s0-*")
    (run / "results.json").write_text(json.dumps({"metrics": {}, "provenance": {"threads": 1}}))
    assert console.run(lambda: evaluate.main([f"run={run}"])) == 2
    err = " ".join(capfd.readouterr().err.split())
    for part in ("sampling_seeds", "per_sampling_seed", "Delete it"):
        assert part in err


@pytest.mark.parametrize(
    ("key", "value"),
    [("threads", "x"), ("threads", 0), ("threads", None), ("sampling_seeds", "x"), ("sampling_seeds", [0, "1"])],
)
def test_provenance_from_elsewhere_is_said(
    key: str, value: object, invoke: Invoke, capfd: pytest.CaptureFixture[str]
) -> None:
    invoke("seed=0", "tracking=none")
    [run] = Path("outputs/main").glob("*-s0-*")
    sound = {"sampling_seeds": [0], "threads": 1, "machine": "", "versions": {}, "weights": ""}
    results = {"metrics": {}, "per_sampling_seed": {}, "provenance": {**sound, key: value}}
    (run / "results.json").write_text(json.dumps(results))
    assert console.run(lambda: evaluate.main([f"run={run}"])) == 2
    err = " ".join(capfd.readouterr().err.split())
    for part in (f"has no sound provenance.{key}", "Delete it"):
        assert part in err


def test_who_adds_to_results_holds_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = RunDirectory.create(tmp_path / "run", compose([]))
    about = {"sampling_seeds": [0], "threads": 1, "machine": "", "versions": {}, "weights": ""}
    run.write_results({"metrics": {}, "per_sampling_seed": {}, "provenance": about})
    held = []
    monkeypatch.setattr(evaluate, "_reevaluate", lambda directory, *_: held.append(directory.holder() is not None))
    evaluate.main([f"run={run.path}", "seeds=0,1"])
    evaluate.main([f"run={run.path}"])  # reading disturbs nobody
    assert held == [True, False]
    with run.lock():
        assert console.run(lambda: evaluate.main([f"run={run.path}", "seeds=0,1"])) == 2
    assert "is being worked on by process" in " ".join(capfd.readouterr().err.split())
    assert held == [True, False]


@pytest.mark.parametrize("file", ["status.json", "results.json"])
def test_a_damaged_run_of_a_study_is_named_and_mended_and_the_others_go_on(file: str, invoke: Invoke) -> None:
    assert invoke("-m", "seed=0,1", "tracking=none")[0] == 0
    [run] = Path("outputs/main").glob("*-s0-*")
    (run / file).write_text("{")
    status, out, err = invoke("-m", "seed=0,1,2", "tracking=none")
    assert status == 0, err
    assert "a file is damaged: mended" in " ".join(out.split())
    assert f"{file} is damaged: it is {file}.damaged now" in " ".join(out.split())
    assert (run / f"{file}.damaged").read_text() == "{"
    assert [RunDirectory(path).state for path in Path("outputs/main").glob("*-s?-*")] == 3 * ["finished"]
    assert invoke("-m", "seed=0,1,2", "tracking=none")[0] == 0


def test_the_configuration_of_a_finished_run_is_written_anew(invoke: Invoke) -> None:
    invoke("seed=0", "tracking=none")
    [run] = Path("outputs/main").glob("*-s0-*")
    config = RunDirectory(run).config
    for damage in ("", "seed: [", None):
        if damage is None:
            (run / "config.yaml").unlink()
        else:
            (run / "config.yaml").write_text(damage)
        status, out, _ = invoke("seed=0", "tracking=none")
        assert status == 0
        assert "config.yaml was damaged, and has been written anew" in " ".join(out.split())
        assert RunDirectory(run).config.training == config.training
    assert "written anew" not in invoke("seed=0", "tracking=none")[1]


def test_a_finished_run_whose_weights_are_cut_off_is_not_finished(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    (tmp_path / "run" / MODEL).parent.mkdir(parents=True)
    (run.path / MODEL).write_bytes(b"weights")
    run.update_status(state="finished", weights_bytes=7)
    run.write_results({"metrics": {}})
    assert run.state == "finished"
    (run.path / MODEL).write_bytes(b"")
    assert run.state == "broken off"
    (run.path / MODEL).unlink()  # by somebody who needed the room
    assert run.state == "finished"
