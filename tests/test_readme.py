"""Every command that the README shows, as it stands there, at the smallest size."""

import os
import re
import shlex
from pathlib import Path

import pytest

from tests.forks import type_in
from tests.pipeline.conftest import POINT, TINY
from tests.pipeline.test_vectors import DIGITS, TREE

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


def has_text(run):
    return "TextConditioning" in (run / "config.yaml").read_text(encoding="utf-8")


def call(command, work):
    """Run a README line from another folder; run directories it names are those of earlier lines."""
    runs = sorted((work / "outputs" / "main").glob("*-*"))
    named = {
        "<run id>": [run for run in runs if run.name.startswith("poincare")],
        "<text run id>": [run for run in runs if has_text(run)],
    }
    for placeholder, found in named.items():
        command = command.replace(f"outputs/main/{placeholder}", str(next(iter(found), None)))
    words = shlex.split(command)
    assert words[0] == "python"
    program, arguments = (words[1:3], words[3:]) if words[1] == "-m" else ([str(ROOT / words[1])], words[2:])
    if words[1].endswith("train.py") and "--help" not in arguments:
        others = {"pvae_mnist": DIGITS, "pvae_tree": TREE, "latent=global": POINT}
        tiny = next((settings for part, settings in others.items() if part in command), TINY)
        if "search=" in command:
            tiny = ["plan=true"]  # whole ones are in tests/pipeline/test_searched_runs.py
        smaller = [part for part in tiny if not any(part.split("=")[0] == a.split("=")[0] for a in arguments)]
        arguments = [*arguments, *smaller, "study=main", f"paths.outputs={work / 'outputs'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return type_in(work, [*program, *arguments], environment)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_works_as_typed(command, work):
    done = call(command, work)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    if command == COMMANDS[0]:
        trained = sorted(path.parent.name for path in (work / "outputs" / "main").glob("*/results.json"))
        assert [name.rsplit("-", 1)[0] for name in trained] == ["euclidean-s0", "poincare-c0.1-s0", "poincare-c1-s0"]
        assert "same run as" in done.stdout
        assert (work / "outputs" / "main" / "comparison.png").is_file()


def test_the_readme_shows_the_main_job_first():
    assert COMMANDS[0] == "python train.py -m geometry=poincare,euclidean curvature=0.1,1.0"
