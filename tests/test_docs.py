"""The documentation agrees with itself and with the code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import hldm
from tests.forks import type_in

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def test_the_site_builds_without_the_network_and_without_a_broken_link(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    loaded = r'<(?:script|img)[^>]*src="https?:|<link[^>]*rel="stylesheet"[^>]*href="https?:'
    for page in tmp_path.rglob("*.html"):
        assert not re.search(loaded, page.read_text(encoding="utf-8")), f"{page.name} loads something from elsewhere"
    assert "PoincareBall" in (tmp_path / "api" / "geometry.html").read_text(encoding="utf-8")


def test_the_code_of_the_tutorial_runs_and_prints_what_its_comments_say(capsys):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "tutorial.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert names["samples"].square().sum(1).max() < 1
    printed = [float(x) for x in re.findall(r"\d+\.\d*", capsys.readouterr().out)]
    said = [float(x) for block in blocks for x in re.findall(r"^print.*# .*?(\d+\.\d+)", block, re.M)]
    assert len(said) == 6
    assert all(any(abs(a - b) < 0.05 for b in printed) for a in said)


@pytest.mark.parametrize("page", sorted((DOCS / "decisions").glob("0*.md")), ids=lambda page: page.stem)
def test_a_decision_stands_in_the_index_and_on_the_site(page):
    title, _, status = page.read_text(encoding="utf-8").splitlines()[:3]
    number, name = re.fullmatch(r"# (\d+)\. (.+)", title).groups()
    date, state = re.match(r"\*(\d{4}-\d\d-\d\d) · (accepted|replaced|withdrawn)\b", status).groups()
    assert int(page.stem[:4]) == int(number)
    index = (DOCS / "decisions" / "README.md").read_text(encoding="utf-8")
    assert f"| {number} | [{name}]({page.name}) | {date} | {state} |" in index
    assert f"- decisions/{page.name}\n" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "slurm" / "README.md",
    *sorted(DOCS.glob("*.md")),
    *sorted(DOCS.glob("results/*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_and_folders_that_a_page_names_are_there(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = re.findall(r"`((?:[\w.-]+/)+|(?:[\w.-]+/)*[\w-]+\.(?:py|md|yaml|cff))`", text)
    for name in named:
        made = name.startswith(("outputs/", "site/", "figures/")) or name == "config.yaml"
        assert made or any(
            (folder / name).exists() for folder in (ROOT, ROOT / "hldm", page.parent, page.parent / "profiles")
        ), name


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == hldm.__version__
    assert re.search(rf"^## {re.escape(hldm.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)


@pytest.fixture(scope="module")
def mylab(tmp_path_factory):
    """The package that docs/extending.md shows, written to a folder block by block."""
    folder = tmp_path_factory.mktemp("extension")
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    for name, block in re.findall(r"```(?:python|yaml)\n# (mylab/\S+)\n(.*?)```", text, re.DOTALL):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(block + "\n")
    (folder / "mylab" / "__init__.py").touch()
    return folder


SMALL = [
    *(
        "tracking=none",
        "hardware=cpu",
        "hardware.threads=1",
        "training.first_stage.steps=4",
        "training.diffusion.steps=4",
    ),
    *("training.checkpoint_every=2", "training.log_every=1", "metrics.first_stage_images=100"),
]
EXTENDED = {
    "geometry=gentle curvature=0.5 metrics=random experiment=smoke": ("GentleBall", "RandomFeatures", "Brightness"),
    "dataset=rings autoencoder=mlp denoiser=linear diffusion=straight metrics=vectors": (
        *("rings", "StraightFlow", "StraightSampler", "LinearDenoiser"),
    ),
}


@pytest.mark.parametrize("arguments", EXTENDED)
def test_the_package_that_extending_shows_trains_and_is_evaluated(arguments, mylab, tmp_path):
    assert f"python train.py {arguments}\n" in (DOCS / "extending.md").read_text(encoding="utf-8")
    env = {**os.environ, "HLDM_PLUGINS": "mylab.sections", "PYTHONPATH": f"{ROOT}{os.pathsep}{mylab}"}
    smaller = [*SMALL, "study=main", f"paths.outputs={tmp_path}"]

    def call(script, *words):
        done = type_in(tmp_path, [str(ROOT / script), *words], env)
        return done.returncode, done.stdout, done.stderr

    # one of them as a grid, whose runs are processes of their own
    grid = ["-m"] if "rings" in arguments else []
    status, _, err = call("train.py", *grid, *arguments.split(), *smaller)
    assert status == 0, err[-3000:]
    (run,) = (tmp_path / "main").glob("*/config.yaml")
    for target in EXTENDED[arguments]:
        assert f"_target_: mylab.parts.{target}\n" in run.read_text(encoding="utf-8")
    results = json.loads(run.with_name("results.json").read_text(encoding="utf-8"))
    if "gentle" in arguments:
        assert results["metrics"]["curvature_0"] == pytest.approx(0.25)
        assert results["provenance"]["extractors"][0]["name"] == "random"
        assert 0 < results["metrics"]["brightness"] < 1
        assert results["metrics"]["brightness_real"] == pytest.approx(0.13, abs=0.02)  # MNIST's mean grey level
    status, out, err = call("evaluate.py", f"run={run.parent}")
    assert status == 0, err[-3000:]
    assert "every metric is the recorded one, bit for bit" in out
    # wrong values are answered by the section, unknown targets without the package
    wrong = "dataset.rings=0" if "rings" in arguments else "geometry.manifold.share=0"
    status, _, err = call("train.py", *arguments.split(), *smaller, wrong)
    assert status == 2
    assert wrong.split("=")[0] in err
    env.pop("HLDM_PLUGINS")
    status, _, err = call("evaluate.py", f"run={run.parent}")
    assert status == 2
    assert "mylab" in err
