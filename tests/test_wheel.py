"""The package as a user without a checkout gets it: a wheel, installed elsewhere, with its configuration inside."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import hldm
from tests.pipeline.conftest import TINY

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built without the package index: the build backend is one of the development tools."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Python of an environment with the wheel, which borrows everything else from the one that runs the tests.

    A .pth file names the folder of the borrowed packages. Python does not follow the .pth files in there, so the
    editable installation of this checkout stays unseen.
    """
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
    )
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(own.stdout.strip(), "borrowed.pth").write_text("\n".join(sorted(borrowed)), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True)
    return python


def call(*command, cwd):
    """Run a command in a folder that is not the checkout, with nothing that points back to it."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        command, cwd=cwd, env={**env, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_wheel_holds_the_packages_the_configuration_and_nothing_else(wheel):
    expected = {
        str(target / path.relative_to(ROOT / source))
        for source, target in (
            ("hldm", Path("hldm")),
            ("hydra_plugins", Path("hydra_plugins")),
            ("conf", Path("hldm/conf")),
        )
        for path in (ROOT / source).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
        licences = sorted(name.split("/licenses/")[1] for name in archive.namelist() if "/licenses/" in name)
    assert names == expected
    assert {"hldm/conf/config.yaml", "hldm/py.typed", "hldm/metrics/weights/digits.safetensors"} <= names
    assert f"\nVersion: {hldm.__version__}\n" in text
    assert licences == ["LICENSE", "hldm/data/mnist_idx/LICENCE"]


def test_the_installed_package_is_complete(installed, tmp_path):
    program = (
        "import pathlib, hldm, hydra_plugins.hldm_launcher.local;"
        "home = pathlib.Path(hldm.__file__).parent;"
        "print(home, sorted(p.name for p in (home / 'conf' / 'geometry').iterdir()), hldm.__version__)"
    )
    out = call(installed, "-c", program, cwd=tmp_path)
    assert str(installed.parents[1]) in out
    assert "['euclidean.yaml', 'hybrid.yaml', 'poincare.yaml']" in out
    assert hldm.__version__ in out


def test_the_command_answers_from_another_folder(installed, tmp_path):
    command = installed.with_name("hldm")
    assert "train" in call(command, "--help", cwd=tmp_path)
    assert call(command, "--version", cwd=tmp_path).strip() == hldm.__version__
    shown = call(command, "train", "--cfg", "job", "geometry=hybrid", cwd=tmp_path)
    assert "name: hybrid" in shown


def test_the_command_trains_a_grid_from_another_folder(installed, tmp_path):
    grid = ["geometry=poincare,euclidean", "curvature=0.1,1.0", "experiment=smoke"]
    tiny = [setting for setting in TINY if "experiment=" not in setting]
    out = call(installed.with_name("hldm"), "train", "-m", *grid, *tiny, "study=main", cwd=tmp_path)
    trained = sorted(path.parent.name for path in (tmp_path / "outputs" / "main").glob("*/results.json"))
    assert [name.rsplit("-", 1)[0] for name in trained] == ["euclidean-s0", "poincare-c0.1-s0", "poincare-c1-s0"]
    assert "same run as" in out
