"""What an agent of `wandb agent` runs: its command lines, and the run in which the sweep looks for its figure."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb_server import WandbServer

from hldm.config.compose import compose
from hldm.paths import CHECKOUT
from hldm.pipeline.log import show_again
from hldm.run.directory import RunDirectory
from hldm.run.summary import at_best
from hldm.study.objective import Objective
from hldm.tracking import WandbTracker, agent, run_labels

SWEEPS = sorted((CHECKOUT / "sweeps").glob("wandb_*.yaml"))


def drawn(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Both ends of what a sweep draws from, as an agent gets them."""
    ends = [one.get("values") or [one["min"], one["max"]] for one in parameters.values()]
    return [dict(zip(parameters, point, strict=True)) for point in zip(*ends, strict=True)]


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_the_commands_of_an_agent_are_runs(file: Path) -> None:
    """Made by wandb's own functions, from the file that `wandb sweep` reads."""
    from wandb.sdk.launch.sweeps import utils

    sweep = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert sweep["method"] in ("random", "bayes")
    assert sweep["metric"]["goal"] == "minimize"
    assert (CHECKOUT / sweep["program"]).is_file()
    names = set()
    for point in drawn(sweep["parameters"]):
        macros = utils.create_sweep_command_args({"args": {key: {"value": value} for key, value in point.items()}})
        line: list[str] = []
        for part in utils.create_sweep_command(list(sweep["command"])):
            name = str(part).removeprefix("${").removesuffix("}")
            line += {"env": ["/usr/bin/env"], "program": [sweep["program"]]}.get(name) or macros.get(name) or [part]
        assert line[:3] == ["/usr/bin/env", "python", "train.py"]
        config = compose(["search=tpe", *line[3:]])
        assert config.seed == point.get("seed", 0)
        assert config.training.diffusion.learning_rate == point["training.diffusion.learning_rate"]
        names.add(config.geometry.name)
        # the figure that the sweep looks at is one that such a run has
        objective = Objective.of(config)
        assert sweep["metric"]["name"] == f"validation/{objective.metric}"
    assert len(SWEEPS) == 2
    assert names == ({"poincare"} if sweep["method"] == "bayes" else {"poincare", "euclidean"})


@pytest.fixture
def given(clean: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that an agent makes."""
    file = tmp_path / "config-agentrun.yaml"
    file.write_text(yaml.safe_dump({"wandb_version": 1, "curvature": {"value": 0.37}, "seed": {"value": 3}}))
    variables = {"RUN_ID": "agentrun", "SWEEP_ID": "thesweep", "SWEEP_PARAM_PATH": str(file), "PROJECT": "theirs"}
    for name, value in variables.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    for name in agent.NAMES:  # what adopt sets is undone after the test
        monkeypatch.setenv(f"HLDM_AGENT_{name.upper()}", "")


def test_an_agents_run_is_taken_by_the_command_of_one_run_alone(given: None) -> None:
    assert agent.adopted() is None
    taken = agent.adopt()
    assert taken == agent.adopted() == agent.Agent("agentrun", "thesweep", {"curvature": 0.37, "seed": 3})
    code = "from hldm.tracking import agent; print(agent.adopted().run)"  # a rank of the run
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert run.stdout.strip() == "agentrun"


def test_one_of_the_two_names_is_no_agent(given: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_SWEEP_ID")
    assert agent.adopt() is None


def test_a_sweep_finds_its_figure_and_its_parameters(given: None, server: WandbServer, tmp_path: Path) -> None:
    agent.adopt()
    path = tmp_path / "poincare-c0.37-s3"
    path.mkdir()
    (path / "wandb").mkdir()
    (path / "wandb" / "id.txt").write_text("before-12345678\n")  # the run was begun without an agent
    tracker = WandbTracker("hldm")
    labels = run_labels("poincare", 0.37, 3)
    tracker.start(path, path.name, {"geometry": {"name": "poincare"}, "seed": 3}, labels, {}, "study", "train")
    tracker.summary({"validation/fid": 0.25})
    tracker.finish(0)
    run = server.only_run
    assert (run.id, run.sweep) == ("agentrun", "thesweep")
    assert run.summary["validation/fid"] == 0.25
    assert run.values["curvature"] == 0.37
    assert "theirs" in server.projects
    assert (path / "wandb" / "id.txt").read_text() == "agentrun\n"
    assert not [name for name in os.environ if name in ("WANDB_RUN_ID", "WANDB_SWEEP_ID")]


def test_a_finished_run_is_shown_as_the_agents_run(given: None, server: WandbServer, tmp_path: Path) -> None:
    agent.adopt()
    config = compose(["geometry=poincare", "curvature=0.37", "seed=3"])
    directory = RunDirectory.create(tmp_path / "run", config)
    points = [{"value": 1.0, "fid": 0.5}, {"value": 1.5, "fid": 0.25}]
    curves = {"guidance": {"split": "validation", "points": points, "best": 1.5}}
    directory.write_results({"metrics": {"fid": 0.9}, "curves": curves, "provenance": {}})
    show_again(directory, config)
    run = server.only_run
    assert (run.id, run.sweep, run.exit_codes) == ("agentrun", "thesweep", [0])
    assert (run.summary["validation/fid"], run.summary["final/fid"]) == (0.25, 0.9)


def test_figures_of_validation_images_are_each_extractors_best() -> None:
    points = [
        {"value": 1.0, "fid": 3.0, "fid_unlabelled": 1.0},
        {"value": 2.0, "fid": 2.0, "fid_unlabelled": 2.0},
    ]
    curve = {"split": "validation", "points": points, "best": 2.0, "best_unlabelled": 1.0, "samples": 20}
    assert at_best({"guidance": curve}) == {"fid": 2.0, "fid_unlabelled": 1.0}
    assert at_best({"guidance": {**curve, "split": "test"}}) == at_best({}) == {}
