"""A Python that cannot run the project says so, in a sentence."""

import ast
import subprocess
import sys

import pytest

from hldm import start
from hldm.paths import CHECKOUT as ROOT

assert ROOT is not None


@pytest.mark.parametrize("argv", [["train.py", "--help"], ["evaluate.py", "run=x"], ["-m", "hldm", "train", "--help"]])
def test_a_python_without_the_packages(argv: list[str]) -> None:
    done = subprocess.run([sys.executable, "-S", *argv], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for part in ("hydra", "pydantic", "make setup", ".venv/bin/python"):
        assert part in done.stderr


def test_a_python_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8))
    with pytest.raises(SystemExit, match=r"Python 3\.11 or newer is needed"):
        start.check_python()
    for file in (ROOT / "train.py", ROOT / "evaluate.py", ROOT / "hldm" / "start.py", ROOT / "hldm" / "__init__.py"):
        ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 5))
