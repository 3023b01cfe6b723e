"""Files of one's own, in a folder like conf/: what they may say, and what is said where they are wrong."""

from pathlib import Path

import pytest

from tests.conftest import Invoke

GLOBAL = "# @package _global_\n"
SWEPT = "hydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n"

RIGHT = {
    "an experiment": (
        "experiment",
        GLOBAL + "defaults:\n  - override /geometry: poincare\nseed: 4\n",
        ["poincare-c1-s4"],
    ),
    "a grid": ("sweep", GLOBAL + SWEPT + "      geometry: poincare\n      curvature: 0.1,1\n", ["c0.1", "c1"]),
    "typed values": ("sweep", GLOBAL + SWEPT + "      seed: 3\n      curvature: 1\n", ["s3"]),
    "a study that looks like a number": ("experiment", GLOBAL + "study: '2026_11_25'\n", ["2026_11_25"]),
    "Hydra's own sweeper": (
        "sweep",
        GLOBAL + "defaults:\n  - override /hydra/sweeper: basic\n" + SWEPT + "      seed: 0,1\n",
        ["s0", "s1"],
    ),
}

WRONG = {
    "launcher": (
        "sweep",
        GLOBAL + "defaults:\n  - override /hydra/launcher: submitit_local\n" + SWEPT + "      seed: 0,1\n",
        ["submitit_local", "hardware=auto"],
    ),
    "launcher and sweeper": (
        "sweep",
        GLOBAL
        + "defaults:\n  - override /hydra/launcher: basic\n  - override /hydra/sweeper: basic\n"
        + SWEPT
        + "      seed: 0,1\n",
        ["hydra/launcher=basic", "hardware=auto"],
    ),
    "several values": ("sweep", GLOBAL + "curvature: 0.1,1\n", ["hydra.sweeper.params", "{value: 0.1}"]),
    "a number for a section": ("experiment", GLOBAL + "curvature: 0.1\n", ["curvature: {value: 0.1}"]),
    "a habit": ("experiment", GLOBAL + "lr: 0.1\n", ["training.diffusion.learning_rate"]),
    "no package": ("experiment", "seed: 3\n", ["# @package _global_"]),
    "nothing": ("experiment", "", ["# @package _global_"]),
    "no YAML": ("experiment", GLOBAL + "seed: [1\n", ["not YAML", "own.yaml"]),
    "a list": ("experiment", GLOBAL + "- a\n", ["experiment/own"]),
    "an option that is not there": (
        "experiment",
        GLOBAL + "defaults:\n  - override /geometry: nope\n",
        ["geometry/nope"],
    ),
    "a number for a word": ("experiment", GLOBAL + "study: 2026_11_25\n", ["study=20261125", "quotes"]),
}


def folder(group: str, text: str) -> str:
    (Path("own") / group).mkdir(parents=True)
    (Path("own") / group / "own.yaml").write_text(text, encoding="utf-8")
    return str(Path("own").absolute())


@pytest.mark.parametrize("way", ["--config-dir", "searchpath"])
@pytest.mark.parametrize("case", RIGHT)
def test_a_file_of_ones_own(case: str, way: str, invoke: Invoke) -> None:
    group, text, expected = RIGHT[case]
    where = folder(group, text)
    argv = ["--config-dir", where] if way == "--config-dir" else [f"hydra.searchpath=[file://{where}]"]
    status, _, err = invoke(*argv, f"{group}=own", "tracking=none")
    assert (status, err) == (0, "")
    names = [str(path.parent) for path in Path("outputs").glob("*/*/results.json")]
    for part in expected:
        assert any(part in name for name in names)


def test_an_experiment_of_ones_own_in_a_grid(invoke: Invoke) -> None:
    where = folder("experiment", GLOBAL + "study: mine\n")
    status, _, err = invoke("-m", "--config-dir", where, "experiment=own", "seed=0,1", "tracking=none")
    assert (status, err) == (0, "")
    assert len(list(Path("outputs/mine").glob("*/results.json"))) == 2


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_one_paragraph_before_any_work(case: str, invoke: Invoke) -> None:
    group, text, expected = WRONG[case]
    status, out, err = invoke("--config-dir", folder(group, text), f"{group}=own")
    assert (status, out) == (2, "")
    assert "Traceback" not in err
    for part in expected:
        assert part in " ".join(err.split())
    assert not list(Path("outputs").glob("*/*/status.json"))


@pytest.mark.parametrize(
    ("typed", "study"),
    [("study=2026_11_25", "2026_11_25"), ("study=007", "007"), ("study=1e5", "1e5"), ("study=true", "true")],
)
def test_text_that_looks_like_something_else_stays_text(typed: str, study: str, invoke: Invoke) -> None:
    assert invoke(typed, "tracking=none")[0] == 0
    assert [path.name for path in Path("outputs").iterdir()] == [study]


@pytest.mark.parametrize("typed", ["seed=007", "seed=7.0", "seed=${oc.env:TASK_}", 'seed="7"'])
def test_numbers_as_text_are_numbers(typed: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASK_", "007")
    assert invoke(typed, "tracking=none")[0] == 0
    assert [path.name.split("-")[1] for path in Path("outputs/main").iterdir() if path.is_dir()] == ["s7"]


@pytest.mark.parametrize("typed", ["curvature=${oc.env:C_}", 'curvature="0.3"'])
def test_a_curvature_as_text_is_a_curvature(typed: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("C_", "0.3")
    assert invoke("geometry=poincare", typed, "tracking=none")[0] == 0
    assert next(Path("outputs/main").glob("poincare-c0.3-*")).is_dir()


@pytest.mark.parametrize("name", ["a [1] {b}", "x=y", "it's", 'a "b"', "a\\", "ü−", "x(1)", "a,b", "[0]"])
def test_any_folder_can_hold_outputs(name: str, invoke: Invoke) -> None:
    Path(name).mkdir()
    status, _, err = invoke("tracking=none", outputs=name)
    assert (status, err) == (0, "")
    assert len(list(Path(name).absolute().glob("main/*/results.json"))) == 1
