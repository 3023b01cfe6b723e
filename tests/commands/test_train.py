"""What the command line does with what a user types. With a fake pipeline: each case takes under a second."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hldm import commands
from hldm.config.options import Options
from hldm.errors import UserError
from hldm.paths import CHECKOUT as ROOT
from hldm.run.directory import RunDirectory
from tests.conftest import FAKE, Invoke


def runs() -> list[Path]:
    return sorted(path.parent for path in Path("outputs").glob("*/*/status.json"))


def test_one_run_is_made_once(invoke: Invoke) -> None:
    argv = ["geometry=hybrid", "curvature=learnable", "dataset=mnist", "hardware=cpu", "seed=3"]
    status, out, err = invoke(*argv)
    assert (status, err) == (0, "")
    [run] = runs()
    assert run.parts[:2] == ("outputs", "main")
    assert run.name.startswith("hybrid-learnable-s3-")
    assert "learned 0.83" in out
    assert "96.7%" in out
    assert str(run / "samples.png") in out
    assert (run / "environment").read_text() == "2 4000"
    hardware = RunDirectory(run).config.hardware
    assert (hardware.device, hardware.threads, hardware.slots, hardware.compile) == ("cpu", 2, "auto", False)

    status, out, _ = invoke(*argv)
    assert status == 0
    assert "finished already" in out
    assert "96.7%" in out
    assert (run / "starts").read_text() == "x"


def test_any_number_is_a_curvature(invoke: Invoke) -> None:
    assert invoke("geometry=poincare", "curvature=0.37")[0] == 0
    [run] = runs()
    assert run.name.startswith("poincare-c0.37-s0-")
    assert RunDirectory(run).config.curvature.value == 0.37


def test_a_grid_with_an_alias(invoke: Invoke) -> None:
    argv = ("-m", "geometry=poincare,euclidean", "curvature=0.1,1.0")
    status, out, err = invoke(*argv)
    assert (status, err) == (0, "")
    assert [run.name.rpartition("-")[0] for run in runs()] == ["euclidean-s0", "poincare-c0.1-s0", "poincare-c1-s0"]
    assert "same run as 3" in out
    assert "euclidean (= 3)" in out
    assert "3 runs to do" in out
    assert "mnist test images (10000)" in out
    assert "digits (abcdef01)" in out
    assert "0.5" in out
    assert str(Path("outputs/main/comparison.png").absolute()) in out.replace("\n", "")
    assert max(map(len, out.splitlines())) <= 100 or str(Path.cwd()) in out
    assert "a line from poincare-c0.1" in out  # with one slot a run shows its progress

    status, out, _ = invoke(*argv)
    assert status == 0
    assert "to do" not in out
    assert all((run / "starts").read_text() == "x" for run in runs())


@pytest.mark.parametrize("multirun", [[], ["-m"]])
def test_a_plan_makes_no_folder(multirun: list[str], invoke: Invoke, tmp_path: Path) -> None:
    status, out, err = invoke(*multirun, "plan=true", outputs="a/new/one")
    assert (status, err) == (0, "")
    assert "nothing was started" in out
    assert list(tmp_path.iterdir()) == []


def test_a_range_includes_its_end(invoke: Invoke) -> None:
    status, out, _ = invoke("-m", "geometry=poincare", "curvature=range(0.1,1.0,0.3)", "hardware.slots=2")
    assert status == 0
    assert [run.name.split("-")[1] for run in runs()] == ["c0.1", "c0.4", "c0.7", "c1"]
    assert "2 at a time" in out
    assert "a line from" not in out
    assert all("a line from" in (run / "log.txt").read_text() for run in runs())
    assert all((run / "environment").read_text() == "1 4000" for run in runs())


def test_a_setting_that_only_the_swept_options_have(invoke: Invoke) -> None:
    sizes = ["denoiser.width=128", "denoiser.blocks=1"]
    status, _, err = invoke("-m", "latent=global", "denoiser=mlp,cross_attention", *sizes, "tracking=none")
    assert (status, err) == (0, "")
    denoisers = [RunDirectory(run).config.denoiser for run in runs()]
    assert {type(denoiser).__name__ for denoiser in denoisers} == {"MLPDenoiser", "CrossAttention"}
    assert [(d.width, d.blocks) for d in denoisers] == [(128, 1)] * 2  # type: ignore[attr-defined]  # both have them
    status, _, err = invoke("-m", "latent=global", "denoiser=mlp,cross_attention", "denoiser.heads=2")
    assert status == 2
    assert "denoiser.heads is a setting of denoiser=cross_attention only" in " ".join(err.split())


def test_a_denoisers_curvature_is_said_in_the_same_ways(invoke: Invoke) -> None:
    stem = "denoiser.stem=gyroplane"
    for said, kind, value in (
        (["denoiser.curvature=0.3"], "FixedCurvature", 0.3),
        (["denoiser.curvature=learnable"], "LearnableCurvature", 1.0),
        (["denoiser.curvature=learnable", "denoiser.curvature.value=0.5"], "LearnableCurvature", 0.5),
    ):
        status, _, err = invoke(stem, *said, "tracking=none", "study=one")
        assert (status, err) == (0, "")
        [run] = [RunDirectory(path) for path in runs()]
        curvature = run.config.denoiser.curvature  # type: ignore[attr-defined]  # the U-Net's
        assert (type(curvature).__name__, curvature.value) == (kind, value)
        shutil.rmtree("outputs")
    status, _, err = invoke("-m", stem, "denoiser.curvature=0.1,0.3", "tracking=none")
    assert (status, err) == (0, "")
    assert len(runs()) == 2


def test_all_that_is_wrong_is_said_at_once(invoke: Invoke) -> None:
    """Arguments, values, rules between settings and missing files, over all points of a grid."""
    for argv, parts in (
        (["geometry=flat", "curvature=0.1,learnable"], ["geometry=flat", "mixes"]),
        (["seed=-1", "metrics.samples=1"], ["seed=-1", "metrics.samples=1"]),
        (["denoiser.head_channels=7", "metrics.samples=3", "dataset.folder=gone"], ["head_channels=7", "samples=3"]),
        (["-m", "seed=-1,0,-2", "metrics.samples=3"], ["seed=-1", "seed=-2", "metrics.samples=3", "3 settings"]),
        (
            ["-m", "first_stage=gone", "dataset.folder=nowhere", "seed=0,1"],
            ["gone is neither", "nowhere does not exist"],
        ),
    ):
        status, out, err = invoke(*argv)
        assert (status, out) == (2, "")
        for part in parts:
            assert " ".join(err.split()).count(part) == 1, part


def test_points_are_named_as_they_are_typed(invoke: Invoke) -> None:
    stem = "denoiser.stem=gyroplane"
    status, out, _ = invoke("-m", stem, "denoiser.curvature=0.1,0.3", "training.diffusion.steps=5,6", "tracking=none")
    assert status == 0
    assert "denoiser.curvature=0.1 training.diffusion.steps=5" in " ".join(out.split())
    table = out[out.index("label acc") :]
    assert "steps=5" in table
    assert "diffusion.steps=5" not in table
    assert table.count("denoiser.curvature=") == 4
    status, out, _ = invoke("-m", "geometry=poincare", "curvature=learnable", "curvature.value=0.5,1.0", "study=two")
    assert status == 0
    assert "curvature.value=0.5" in out
    assert "curvature.value=1.0" in out


def test_a_sweep_of_ones_own_over_an_option_of_ones_own(invoke: Invoke, tmp_path: Path) -> None:
    for name, text in (
        ("geometry/mine.yaml", "# Mine.\ndefaults: [poincare, _self_]\nname: mine\n"),
        ("sweep/own.yaml", "# @package _global_\n# Mine.\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n"
         "      geometry: mine,euclidean\n      curvature: 0.1,1.0\n"),
    ):  # fmt: skip
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_text(text)
    status, _, err = invoke("sweep=own", "--config-dir", "own", "tracking=none")
    assert (status, err) == (0, "")
    assert [run.name.rpartition("-")[0] for run in runs()] == ["euclidean-s0", "mine-c0.1-s0", "mine-c1-s0"]


def test_presets_with_and_without_a_plus_sign_are_the_same(invoke: Invoke) -> None:
    for sign in ("", "+"):
        status, _, err = invoke(f"{sign}experiment=smoke", "tracking=none")
        assert (status, err) == (0, "")
    assert len(runs()) == 1


@pytest.mark.parametrize(("wrong", "story"), [("kill euclidean", "SIGKILL"), ("fail euclidean", "no luck")])
def test_a_run_that_fails_leaves_the_others_alone(
    wrong: str, story: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ("-m", "geometry=euclidean,poincare")
    monkeypatch.setenv("FAKE", wrong)
    status, out, err = invoke(*argv)
    assert status != 0
    assert story in " ".join(err.split())
    assert "1 of 2 runs" in err
    assert "failed" in out
    assert "96.7%" in out
    assert [RunDirectory(run).status["state"] for run in runs()] == ["failed", "finished"]

    assert invoke(*argv, "retry=1")[0] != 0  # short for hardware.retry
    assert [(run / "starts").read_text() for run in runs()] == ["xxx", "x"]

    monkeypatch.delenv("FAKE")
    status, out, err = invoke(*argv)
    assert (status, err) == (0, "")
    assert "failed before" in out
    assert [(run / "starts").read_text() for run in runs()] == ["xxxx", "x"]


def test_a_named_sweep_needs_no_flag(invoke: Invoke) -> None:
    status, out, err = invoke("sweep=geometry_curvature", "geometry=euclidean", "seed=0,1", "tracking=none")
    assert (status, err) == (0, "")
    assert [run.parts[1] for run in runs()] == ["geometry_curvature"] * 2
    assert "2 runs to do" in out


def test_the_ablation_is_a_list_of_cells_with_seeds(invoke: Invoke) -> None:
    """Controls that are another cell bit for bit are not run twice, and every cell has its name in the table."""
    status, out, err = invoke("sweep=ablation", "seed=0", "tracking=none")
    assert (status, err) == (0, "")
    assert "11 runs to do" in out
    assert {run.parts[1] for run in runs()} == {"ablation"}
    assert len(runs()) == 11
    rows = [line.split() for line in out[out.rindex(" curvature ") :].splitlines()]
    cells = [word for row in rows if row and row[0].isdigit() for word in row if word in Options().groups["ablation"]]
    assert sorted(cells) == sorted(Options().groups["ablation"])
    assert out.count("same run as") == 2
    assert "same run as 1" in out
    assert "same run as 8" in out
    status, out, _ = invoke("-m", "ablation=attention,all", "seed=0,1", "tracking=none")
    assert status == 0
    assert "4 runs to do" in out


def test_settings_other_than_geometry_and_curvature_are_shown(invoke: Invoke) -> None:
    status, out, _ = invoke("-m", "metrics.samples=100,200", "tracking=none")
    assert status == 0
    assert "samples=100" in out  # in the plan
    assert "samples" in out[out.index("label acc") - 60 :]  # in the comparison
    assert len(runs()) == 2
    assert max(len(line) for line in out.splitlines()[-8:-1] if os.sep not in line) <= 100


def test_a_run_that_another_process_works_on(invoke: Invoke) -> None:
    invoke("seed=5")
    [run] = runs()
    (run / "results.json").unlink()
    with RunDirectory(run).lock():
        RunDirectory(run).update_status(state="running", host="elsewhere")  # not waited for
        status, out, err = invoke("seed=5")
        assert status == 2
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        assert holder in " ".join(err.split())
        # one of another machine: those of this one are waited for
        RunDirectory(run).update_status(host="elsewhere")
        status, out, err = invoke("-m", "seed=5,6")
        assert status == 2
        assert holder in " ".join(out.split())
        assert "running" in err
    assert RunDirectory(run).state == "broken off"
    assert invoke("seed=5")[0] == 0


def test_a_damaged_status_is_said(invoke: Invoke) -> None:
    invoke("seed=5")
    [run] = runs()
    (run / "status.json").write_text('{"state": "fin')
    status, out, _ = invoke("seed=5")
    assert status == 0
    assert "status.json is damaged" in " ".join(out.split())
    assert RunDirectory(run).state == "finished"


def test_the_estimate_rests_on_what_was_measured(invoke: Invoke) -> None:
    _, out, _ = invoke("seed=1")
    assert "nominal" in out
    _, out, _ = invoke("seed=2")
    assert "1 finished run here" in " ".join(out.split())
    assert "about 4 minutes" in out


def test_cfg_job(invoke: Invoke) -> None:
    status, out, err = invoke("geometry=hybrid", "curvature=0.37", "--cfg", "job", "--resolve")
    assert (status, err) == (0, "")
    assert "value: 0.37" in out
    assert "flat_channels: 2" in out
    assert not runs()


def test_help_names_groups_options_and_examples(invoke: Invoke) -> None:
    for flag in ("--help", "-h"):
        status, out, err = invoke(flag, outputs="")
        assert (status, err) == (0, "")
        for part in ("geometry=hybrid", "curvature=learnable", "experiment=smoke", "hardware=gpu", "curvature=0.37"):
            assert part in out
        assert out.count("\n  python train.py") == 4
        assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("topic", "expected", "not_there"),
    [
        ("geometry", ["* geometry=euclidean", "geometry.flat_channels"], "Usage"),
        ("training.diffusion", ["training.diffusion.steps", "learning_rate"], "training.first_stage"),
        ("training.diffusion.learning_rate", ["a number > 0"], "training.diffusion.steps"),
        ("experiment=smoke", ["experiment=smoke"], "pvae"),
        ("seed", ["seed = 0", "seed of everything random [a whole number from 0 to 4294967295]"], "Usage"),
        ("paths", ["paths.outputs", "[a folder]"], "a section"),
        ("paths.outputs", ["paths.outputs", "[a folder]"], "a section"),
    ],
)
def test_help_about_one_thing(
    topic: str, expected: list[str], not_there: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = invoke("--help", topic, outputs="")
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert not_there not in out
    for part in expected:
        assert part in out


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("foo", "no group foo"),
        ("lr", "learning_rate"),
        ("geometri", "--help geometry"),
        ("training.nothing", "--help training"),
        ("paths.nothing", "--help paths"),
    ],
)
def test_help_about_nothing(topic: str, expected: str, invoke: Invoke) -> None:
    status, _, err = invoke("--help", topic, outputs="")
    assert status == 2
    assert expected in " ".join(err.split())


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_about_the_worker(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["worker", flag]) == 0
    assert capsys.readouterr().out.startswith("Usage: hldm worker DIRECTORY")
    with pytest.raises(UserError, match="Usage: hldm worker"):
        commands.main(["worker"])


def test_help_fits_eighty_columns(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = invoke("--help", outputs="")
    assert max(map(len, out.splitlines())) <= 80
    for part in ("* geometry=euclidean", "learning_rate", "batch_size", "steps"):
        assert part in out


def command(*argv: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *argv]


@pytest.mark.parametrize("argv", [["--help"], ["--cfg", "job"]])
def test_quick_answers_are_quick_from_anywhere(argv: list[str], tmp_path: Path) -> None:
    """In seconds of a core, as other tests run beside this one; a clock shows only that nothing is waited for."""

    def seconds() -> tuple[float, float]:
        before = os.times()
        done = subprocess.run(command(*argv), cwd=tmp_path, capture_output=True, text=True, check=True)
        after = os.times()
        assert "geometry" in done.stdout
        assert done.stderr == ""
        worked = after.children_user + after.children_system - before.children_user - before.children_system
        return worked, after.elapsed - before.elapsed - worked

    worked, waited = map(min, zip(*(seconds() for _ in range(3)), strict=True))
    assert 0 < worked <= 1.5
    assert waited <= 10
    assert list(tmp_path.iterdir()) == []


def test_the_script_ends_with_the_status(tmp_path: Path) -> None:
    done = subprocess.run(command("geometry=poincarre"), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Did you mean" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_torch_in_the_process_that_starts_runs(tmp_path: Path) -> None:
    code = (
        "import sys; from hldm import console; from hldm.commands import train; import hldm.study.job as e;"
        "e.WORKER = ('-P', sys.argv.pop(1));"
        "status = console.run(lambda: train.main(sys.argv[1:])); sys.exit(status or ('torch' in sys.modules))"
    )
    argv = [sys.executable, "-c", code, str(FAKE), "-m", "seed=0", f"paths.outputs={tmp_path}"]
    subprocess.run(argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("number", "job"), [(signal.SIGINT, {}), (signal.SIGTERM, {}), (signal.SIGTERM, {"SLURM_JOB_ID": "7"})]
)
def test_an_interrupted_grid_stops_its_runs_and_goes_on_later(
    number: signal.Signals, job: dict[str, str], tmp_path: Path
) -> None:
    """Within a job SIGTERM takes the machine back: the runs get it as well, and say that they were preempted."""
    code = (
        "import sys; from hldm import console; from hldm.commands import train; import hldm.study.job as e;"
        "e.WORKER = ('-P', sys.argv.pop(1));"
        "sys.exit(console.run(lambda: train.main(sys.argv[1:])))"
    )
    argv = [sys.executable, "-c", code, str(FAKE), "-m", "seed=0,1", f"paths.outputs={tmp_path}"]
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT), "FAKE": "slow", **job}
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 300
        while not (started := list(tmp_path.glob("*/*/environment"))) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert started
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
    run = RunDirectory(started[0].parent)
    assert process.returncode == 130
    assert "goes on from here" in err
    assert "1 of" not in err
    assert run.state == "broken off"
    assert (run.path / "preempted").exists() == bool(job)
    assert run.holder() is None
    assert not Path(f"/proc/{json.loads((run.path / 'status.json').read_text())['pid']}").exists()

    done = subprocess.run(argv, env={**environment, "FAKE": ""}, capture_output=True, text=True)
    assert done.returncode == 0
    assert "resume" in done.stdout


def test_another_version_is_said(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is finished, or resumed, with other code than it was begun with says so in a line."""
    from hldm.run import provenance

    invoke("seed=5", "tracking=none")
    [run] = runs()
    _, out, _ = invoke("seed=5", "tracking=none")
    assert "made with" not in out
    known = provenance.code()
    monkeypatch.setattr(provenance, "code", lambda: {**known, "commit": "f" * 40})
    _, out, _ = invoke("seed=5", "tracking=none")
    assert "1 run made with hldm" in " ".join(out.split())
    assert "(ffffffff)" in out
    (run / "results.json").unlink()
    _, out, _ = invoke("seed=5", "tracking=none")
    assert "made with hldm" in " ".join(out.split())
