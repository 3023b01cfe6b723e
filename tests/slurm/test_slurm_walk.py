"""slurm/README.md as it stands there, and the profiles that it offers."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hldm.config.compose import compose
from hldm.config.slurm import Slurm
from hldm.slurm.script import Executor
from tests.slurm.cluster import ROOT, processes_of, why_not
from tests.slurm.test_slurm_jobs import TINY, environment

PAGE = (ROOT / "slurm" / "README.md").read_text(encoding="utf-8")
WALK, CLUSTER = (block.splitlines() for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL))
PROFILES = sorted((ROOT / "slurm" / "profiles").glob("*.yaml"))

CHECKOUT = ("hldm", "hydra_plugins", "conf", "slurm", "train.py", "evaluate.py")

PYTHON = """#!/bin/bash
# the interpreter of this checkout; what is trained is as small as it can be
case "$*" in
*hardware=slurm_cpu*) exec {python} "$@" {tiny} ;;
*) exec {python} "$@" ;;
esac
"""


@pytest.mark.skipif(why_not() is not None, reason=f"no SLURM here: {why_not()}")
@pytest.mark.timeout(1200)
def test_the_page_takes_a_new_user_from_a_login_node_to_a_table(tmp_path_factory):
    """Line by line in bash, in a copy of the checkout, with tiny runs. The cluster is the one that the page offers."""
    folder = tmp_path_factory.mktemp("hldm")
    checkout, programs = folder / "checkout", folder / "bin"
    for name in CHECKOUT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        checkout.mkdir(exist_ok=True)
        copy(ROOT / name, checkout / name)
    programs.mkdir()
    scripts = {"python": PYTHON.format(python=sys.executable, tiny=" ".join(TINY)), "apt-get": "#!/bin/sh\n"}
    for name, text in scripts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    env = {
        **os.environ,
        **environment(),
        "HOME": str(folder),
        "EDITOR": "true",
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    env = {name: value for name, value in env.items() if not name.startswith(("SLURM_", "HLDM_SITE", "XDG_"))}
    env["PYTHONPATH"] = str(Path(__file__).parent)
    install, up, *use = CLUSTER
    lines = [install, up, *WALK, *use]
    script = "".join(f"echo '### {number}'\n{line}\n" for number, line in enumerate(lines))
    try:
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=checkout, env=env, capture_output=True, text=True, timeout=1000
        )
    finally:
        subprocess.run([sys.executable, checkout / "slurm" / "dev-cluster", "down"], check=True)
    said = dict(zip(lines, re.split(r"^### \d+\n", done.stdout, flags=re.MULTILINE)[1:], strict=False))
    assert done.returncode == 0, f"after {list(said)[-1:]}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr
    plan, submit, states, wait, logs, table, again = (said[line] for line in WALK[3:])
    assert "nothing was submitted" in plan
    assert "#SBATCH --account=my_lab" in plan
    assert "Submitted 1: 3 runs" in submit
    assert all(word in states for word in ("poincare-c0.1", "poincare-c1", "euclidean"))
    assert "3 finished" in wait
    assert "results.json" in logs
    assert all(word in table for word in ("poincare", "euclidean", "0.1"))
    assert "bit for bit" in again
    assert not processes_of(folder)


def test_ten_lines_are_enough():
    assert len(WALK) == 10


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.stem)
@pytest.mark.parametrize("option", ["slurm_cpu", "slurm_gpu", "slurm_ddp"])
def test_every_profile_is_understood_and_gives_a_script(option, profile, monkeypatch, tmp_path):
    monkeypatch.setenv("HLDM_SITE", str(profile))
    slurm = compose([f"hardware={option}"]).hardware.slurm
    assert slurm.model_dump(exclude={"option"}) != Slurm().model_dump(exclude={"option"})
    executor = Executor(tmp_path, slurm, threads=1, part="run")
    executor.prepare(name="hldm-main", tasks=2, minutes=60, parallel=2, after=[])
    text = executor.text()
    checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert f"#SBATCH --partition={slurm.partition}\n" in text


def test_the_page_names_every_profile_and_every_setting():
    assert sorted(re.findall(r"\(profiles/(\w+\.yaml)\)", PAGE)) == [
        profile.name for profile in PROFILES if profile.stem != "dev_cluster"
    ]
    table = PAGE.partition("| to adapt |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)", table))
    assert set(Slurm.model_fields) - named == {"option", "nodes", "tasks_per_node", "comment"}


def test_what_differs_between_profiles_reaches_the_script(monkeypatch, tmp_path):
    def script(profile, option="slurm_gpu"):
        monkeypatch.setenv("HLDM_SITE", str(ROOT / "slurm" / "profiles" / f"{profile}.yaml"))
        executor = Executor(tmp_path, compose([f"hardware={option}"]).hardware.slurm, threads=1, part="run")
        executor.prepare(name="hldm-main", tasks=2, minutes=60, parallel=2, after=[])
        return executor.text()

    assert "#SBATCH --constraint='a100|h100'\n" in script("gpu")
    assert "#SBATCH --signal=USR2@60\n" in script("preemptible")
    assert "#SBATCH --mail-type=FAIL\n" in script("preemptible")
    conda = script("modules_conda")
    order = ["umask 0007", "module load cuda/12.4 miniforge", "conda activate hldm", "ulimit -n", "TMPDIR=", "srun "]
    assert [conda.index(word) for word in order] == sorted(conda.index(word) for word in order)
    assert (
        "exec --nv --bind /project --pwd /project/my_lab/hldm /project/my_lab/hldm.sif python3 -P -m hldm worker"
        in (script("apptainer"))
    )
    assert "--container-image=/project/my_lab/hldm.sqsh" in script("pyxis").partition("# command")[2]
    assert "#SBATCH --ntasks-per-node=4\n" in script("multi_gpu", "slurm_ddp")
