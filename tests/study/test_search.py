"""A search: what is proposed, what it is judged by, what is refused, and that a killed one loses nothing."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hldm.config.compose import compose
from hldm.config.search import Search
from hldm.errors import UserError
from hldm.study import job
from hldm.study.objective import Objective
from hldm.study.space import Setting, Space
from hldm.study.trials import Trials
from tests.conftest import FAKE, Invoke

WORKER = ("-P", str(FAKE.with_name("fake_search.py")))

RATE = "training.diffusion.learning_rate=tag(log,interval(1e-4,1e-2))"
COMMAND = ["-m", "search=tpe", "curvature=interval(0.1,10)", RATE, "geometry=poincare", "tracking=none", "study=s"]


@pytest.fixture
def find(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """`invoke`, with runs whose figures depend on what is tuned."""
    monkeypatch.setattr(job, "WORKER", WORKER)
    return invoke


def found(folder: Path = Path("outputs/s")) -> list[dict]:
    return json.loads((folder / "search.json").read_text())["searches"]


def test_geometries_are_searched_alike_and_the_best_is_measured_anew(find: Invoke) -> None:
    both = [part.replace("geometry=poincare", "geometry=poincare,euclidean") for part in COMMAND]
    status, out, err = find(*both, "seed=0,1", "search.trials=2", "search.at_once=1", "search.random_trials=1")
    assert (status, err) == (0, "")
    ball, flat = found()
    assert [ball["search"], flat["search"]] == ["geometry=poincare", "geometry=euclidean"]
    assert [trial["state"] for trial in ball["trials"]] == ["done"] * 2
    assert ball["space"] == flat["space"]
    # the first is the same for all, as it depends on nothing that was found
    assert [trial["settings"] for trial in ball["trials"][:1]] == [trial["settings"] for trial in flat["trials"][:1]]
    assert ball["images"] == "validation images"
    assert ball["direction"] == "minimize"
    assert ball["seeds"] == [0, 1]
    values = [trial["fid"] for trial in ball["trials"]]
    assert ball["best"] == values.index(min(values)) + 1
    for trial in ball["trials"]:
        c, rate = (float(text.partition("=")[2]) for text in trial["settings"])
        # the mean over both seeds, at the guidance that is best
        assert trial["fid"] == pytest.approx(0.205 + math.log10(c) ** 2 + math.log10(rate / 1e-3) ** 2)
    for one in (ball, flat):
        assert one["command"] in out
        assert one["command"].endswith("seed=2,3,4")
    assert "2 searches (geometry=poincare; geometry=euclidean), each of 2 trials by tpe" in out
    assert "at most 8 runs" in out

    # what the search ends with is a command that works, on the same search's figures
    command = ball["command"].removeprefix("python train.py ").split()
    status, out, _ = find(*command, "plan=true")
    assert status == 0
    assert "3 runs to do" in out


def test_a_repeated_search_does_nothing_and_a_longer_one_goes_further(find: Invoke) -> None:
    find(*COMMAND, "search.trials=2", "search.at_once=2")
    first = found()[0]["trials"]
    status, out, _ = find(*COMMAND, "search.trials=2", "search.at_once=2")
    assert status == 0
    assert "runs to do" not in out
    find(*COMMAND, "search.trials=3", "search.at_once=2")
    assert len(found()[0]["trials"]) == 3
    assert found()[0]["trials"][:2] == first
    assert {file.read_text() for file in Path("outputs/s").glob("*/starts")} == {"x"}
    # another space is another search
    find(*[part.replace("(0.1,10)", "(0.1,5)") for part in COMMAND], "search.trials=1")
    assert len(found()[0]["trials"]) == 1


def test_it_needs_no_m_and_takes_figures_of_test_images_where_told(find: Invoke) -> None:
    status, out, _ = find(*COMMAND[1:], "search.trials=1", "search.split=test", "search.metric=nll")
    assert status == 0
    assert "Caution: search.split=test" in out
    assert found()[0]["images"] == "test images"


def test_a_run_that_fails_is_a_failed_trial(find: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE", "fail high")
    status, out, _ = find(*COMMAND, "search.trials=4")
    assert status == 0
    trials = found()[0]["trials"]
    assert "RuntimeError: no luck" in out
    failed = [trial for trial in trials if float(trial["settings"][0].partition("=")[2]) > 3]
    assert 0 < len(failed) < 4
    assert all(trial["state"] == "failed" and trial["fid"] is None for trial in failed)
    assert trials[found()[0]["best"] - 1]["state"] == "done"


def test_a_search_whose_trials_all_fail_says_so(find: Invoke) -> None:
    """Nothing that runs have goes by this name."""
    status, out, err = find(
        *COMMAND, "search.trials=1", "search.split=test", "search.metric=nope", "search.direction=maximize"
    )
    assert status == 2
    assert "its results.json has no nope of test images" in out
    assert "No trial of this search succeeded" in err
    assert "Caution: search.split=test" in out


def test_a_run_that_was_stopped_leaves_its_trial_open(find: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE", "stop")
    status, _, err = find(*COMMAND, "search.trials=1")
    assert status == 2
    assert "The same command goes on from there" in " ".join(err.split())
    monkeypatch.setenv("FAKE", "")
    assert find(*COMMAND, "search.trials=1")[0] == 0
    assert [trial["state"] for trial in found()[0]["trials"]] == ["done"]
    assert len(list(Path("outputs/s").glob("*/starts"))) == 1


PROGRAM = f"""
import sys
from hldm import console
from hldm.commands import train
from hldm.study import job
job.WORKER = {WORKER}
status = console.run(lambda: train.main(sys.argv[1:]))
assert "torch" not in sys.modules, "the process that only starts runs has imported torch"
sys.exit(status)
"""


def test_a_killed_search_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    arguments = [*COMMAND, "hardware=cpu", "hardware.slots=1", "search.trials=3", "search.at_once=2"]
    arguments += ["search.random_trials=1"]
    command = [sys.executable, "-c", PROGRAM, *arguments]

    def go(folder: str, fake: str = "") -> int:
        environment = {**os.environ, "FAKE": fake}
        where = f"paths.outputs={tmp_path / folder}"
        return subprocess.run([*command, where], env=environment, capture_output=True, check=False).returncode

    assert go("undisturbed") == 0
    assert go("killed", "kill parent 2") == -9
    journal = tmp_path / "killed" / "s" / ".search" / "journal.log"
    with journal.open("ab") as stream:
        stream.write(b'{"op_code": 6, "worker')  # what a kill in the middle of a line leaves
    assert go("killed") == 0
    assert found(tmp_path / "killed" / "s")[0]["trials"] == found(tmp_path / "undisturbed" / "s")[0]["trials"]
    starts = [file.read_text() for file in (tmp_path / "killed" / "s").glob("*/starts")]
    assert sorted(starts) == ["x", "x", "xx"]


def test_what_is_learned_is_used() -> None:
    """After as many trials, tpe is nearer to the optimum than chance, on the mean of five searches."""
    from optuna.storages import InMemoryStorage

    def distance(sampler: str, seed: int) -> float:
        search = Search.model_validate({"sampler": sampler, "trials": 40, "seed": seed})
        objective = Objective("fid", "minimize", "guidance")
        space = Space.of(["curvature.value=tag(log,interval(1e-2,1e2))", RATE])
        trials = Trials("", [], "x", InMemoryStorage(), search, objective, space)
        while batch := trials.next():
            for trial in batch:
                c, rate = (float(text.partition("=")[2]) for text in trial.overrides(space.settings))
                trials.tell(trial, math.log10(c) ** 2 + math.log10(rate / 1e-3) ** 2)
        assert trials.best is not None
        assert trials.best.value is not None
        return trials.best.value

    means = {sampler: sum(distance(sampler, seed) for seed in range(5)) for sampler in ("tpe", "random")}
    assert means["tpe"] < means["random"] / 2


def test_what_values_are_taken_from() -> None:
    texts = ["geometry=poincare,hybrid", "a=interval(0,1)", "b=int(interval(2,8))", "c=range(1,2,0.5)", "d=choice(x,y)"]
    space = Space.of([*texts, "seed=range(0,3)", "e=choice(5)", "f=7"])
    assert space.searches == (("geometry=poincare",), ("geometry=hybrid",))
    assert space.seeds == ("seed=0", "seed=1", "seed=2")
    assert space.fixed == ("e=5", "f=7")
    a, b, c, d = space.settings
    assert (a.low, a.high, a.text(0.123456789), a.text(1e-9)) == (0.0, 1.0, "0.1235", "1e-09")
    assert Setting("a", 0.12343, 1.0).text(0.12343) == "0.12343"  # rounded, it would be outside
    assert (b.low, b.high, b.text(3)) == (2, 8, "3")
    assert c.values == ("1.0", "1.5")
    assert c.text(1) == "1.5"
    assert d.values == ("x", "y")
    assert d.text("y") == "y"


@pytest.mark.parametrize(
    ("typed", "words"),
    {
        "nothing to search": (["search=tpe"], ["needs an interval", "'curvature=interval(0.1,10)'"]),
        "a grid only": (["-m", "search=tpe", "curvature=0.1,1"], ["needs an interval"]),
        "no search": (["-m", "curvature=interval(0.1,1)"], ["no list of values", "add search=tpe"]),
        "no search, a preset": (["-m", "experiment=smoke", "curvature=interval(0.1,1)"], ["no list of values"]),
        "geometry": ([*COMMAND[:3], "geometry=choice(poincare,euclidean)"], ["geometry=poincare,euclidean", "each"]),
        "seed": ([*COMMAND[:3], "seed=interval(0,9)"], ["seed=0,1"]),
        "empty": (["-m", "search=tpe", "curvature=interval(1,1)"], ["is empty"]),
        "orders of 0": (["-m", "search=tpe", "curvature=tag(log,interval(0,1))"], ["begin above 0"]),
        "another tag": (["-m", "search=tpe", "curvature=tag(x,interval(0,1))"], ["only tag", "log"]),
        "orders of words": (["-m", "search=tpe", "curvature=tag(log,choice(1,2))"], ["interval"]),
        "what judges": ([*COMMAND[:3], "metrics.samples=int(interval(100,200))"], ["judged by"]),
        "not whole": (
            ["-m", "search=tpe", "training.diffusion.steps=interval(10,20)"],
            ["training.diffusion.steps=", "whole number", "int(interval(2,8))"],
        ),
        "an end that is not allowed": (["-m", "search=tpe", "curvature=interval(-1,1)"], ["curvature=-1"]),
        "what changes nothing": (COMMAND[:3], ["curvature.value", "every value is the same run", "geometry=poincare"]),
        "another figure": ([*COMMAND, "search.metric=kidd"], ["search.metric=kid?", "validation"]),
        "a figure of test images": ([*COMMAND, "search.metric=nll"], ["validation images", "search.split=test"]),
        "a figure of another extractor": (
            [*COMMAND, "metrics.extractors=[digits]", "search.metric=fid_unlabelled"],
            ["no figure of samples"],
        ),
        "neither way": ([*COMMAND, "search.metric=density"], ["neither way", "search.direction=minimize"]),
        "which way": ([*COMMAND, "search.metric=mine", "search.split=test"], ["search.direction=minimize"]),
        "no guidance curve": (
            [*COMMAND, "metrics.guidance_scales=[]"],
            ["no samples beside validation images", "metrics.guidance_scales=[1,1.5,2]"],
        ),
        "nothing to guide": ([*COMMAND, "conditioning=none"], ["metrics.sampler_steps=[3,6]"]),
        "no diffusion": ([*COMMAND[:3], "diffusion=none"], ["search.split=test"]),
        "no trials": ([*COMMAND, "search.trials=0"], ["search.trials=0", "from 1 to 100000"]),
        "several figures": ([*COMMAND, "search.metric=fid,kid"], ["search", "one value"]),
        "several searches": (["-m", "search=tpe,random"], ["one value"]),
        "a setting without a search": (["search.trials=3"], ["search=random and search=tpe only"]),
        "another sampler": (["search=cmaes"], ["search=cmaes is not an option", "tpe"]),
    }.values(),
    ids=lambda value: " ".join(value[-1:]),
)
def test_what_cannot_be_right_is_refused_before_any_work(find: Invoke, typed: list[str], words: list[str]) -> None:
    status, out, err = find(*typed)
    assert status == 2
    assert "Traceback" not in err
    said = " ".join(err.split())
    for word in words:
        assert word in said
    assert not Path("outputs").exists()
    assert "Trial" not in out


def test_intervals_of_whole_numbers_are_spoken_of_where_one_is_searched(find: Invoke) -> None:
    _, _, err = find(*COMMAND, "search.trials=0")
    assert err.startswith("search.trials=0 is not allowed")
    assert "interval" not in err


def test_without_optuna_it_says_what_to_install(find: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    status, _, err = find(*COMMAND)
    assert status == 2
    assert "pip install -e '.[search]'" in " ".join(err.split())
    assert not Path("outputs").exists()


def test_a_plan_starts_nothing(find: Invoke) -> None:
    status, out, _ = find(*COMMAND, "plan=true")
    assert status == 0
    assert "20 trials by tpe" in out
    assert not Path("outputs").exists()


def test_two_commands_do_not_work_on_one_search(find: Invoke) -> None:
    from hldm.run import lease

    with lease.held(Path("outputs/s/.search"), say=print):
        status, _, err = find(*COMMAND, "search.trials=1")
    assert status == 2
    assert "is being worked on by process" in " ".join(err.split())


def test_a_figure_is_taken_where_its_extractor_was_best() -> None:
    points = [
        {"value": 1.0, "fid": 3.0, "kid": 0.3, "fid_unlabelled": 1.0},
        {"value": 2.0, "fid": 2.0, "kid": 0.4, "fid_unlabelled": 2.0},
    ]
    drawn = {"split": "validation", "points": points, "best": 2.0, "best_unlabelled": 1.0}
    results = {"curves": {"guidance": drawn}, "metrics": {"fid": 9.0}}
    config = compose(["search=tpe", "search.metric=fid_unlabelled"])
    assert Objective.of(config).value(results) == 1.0
    assert Objective("kid", "minimize", "guidance").value(results) == 0.4
    assert Objective("fid", "minimize", "").value(results) == 9.0
    with pytest.raises(UserError, match="no recall"):
        Objective("recall", "maximize", "guidance").value(results)
    with pytest.raises(UserError, match="is nan"):
        Objective("fid", "minimize", "").value({"metrics": {"fid": math.nan}})
    drawn["split"] = "test"
    with pytest.raises(UserError, match="no kid of validation"):
        Objective("kid", "minimize", "guidance").value(results)


def test_options_say_all_settings() -> None:
    from hldm.config.options import Options

    options = Options()
    for file in options.groups["search"].values():
        assert {f"search.{name}" for name in Search.model_fields} == options.settings(file).keys() - {"search"}
