"""How commands start, fail and read `key=value`."""

import errno
import subprocess
import sys
from typing import NoReturn

import pytest

from hldm import console
from hldm.errors import UserError
from hldm.paths import CHECKOUT as ROOT

USAGE = "What it does.\n\nUsage: python evaluate.py run=DIRECTORY [seeds=0,1,2]"
ALLOWED = {"run": str, "n": console.whole, "seeds": console.wholes}


def fail(error: BaseException) -> NoReturn:
    raise error


def test_exit_statuses(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert console.run(lambda: None) == 0
    assert console.run(lambda: 3) == 3
    assert console.run(lambda: fail(UserError("word " * 40))) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= 60
    assert console.run(lambda: fail(KeyboardInterrupt())) == 130
    assert "Stopped" in capsys.readouterr().err
    with pytest.raises(ValueError, match="our bug"):
        console.run(lambda: fail(ValueError("our bug")))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/a.json"), "/x/a.json cannot be written"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/.lock"), "may not"),
        (OSError(errno.EROFS, "Read-only file system", "/x/.lock"), "only be read"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the disk is full"),
    ],
)
def test_a_disk_that_takes_no_more_is_a_sentence(
    error: Exception, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.run(lambda: fail(error)) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert expected in err
    assert "paths.outputs" in err


def test_where_nobody_watches_columns_says_how_wide_it_is() -> None:
    code = """
import os
from hldm.console import terminal
for columns in ("80", "200", "", "wide"):
    os.environ["COLUMNS"] = columns
    print(terminal().width)
del os.environ["COLUMNS"]
print(terminal().width)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["80", "200", "100", "100", "100"]


def test_a_closed_pipe_is_silent() -> None:
    code = (
        "import sys; from hldm import console;sys.exit(console.run(lambda: any(print('x' * 100) for _ in range(9999))))"
    )
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_key_values() -> None:
    values = console.key_values(["run=outputs/a=b", "seeds=0,2,1"], ALLOWED, USAGE, required=["run"])
    assert values == {"run": "outputs/a=b", "seeds": [0, 2, 1]}
    assert console.key_values(["seeds=[4]"], ALLOWED, USAGE) == {"seeds": [4]}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["rnu=x"], "Did you mean run=x"),
        (["x"], "x is not understood"),
        (["--run", "x"], "Did you mean run="),
        (["run=a", "run=b"], "twice"),
        (["run=a", "n=-1"], "not a whole number"),
        (["run=a", "n="], "n= has no value"),
        (["run=a", "seeds=1,x"], "'x' is not a whole number"),
        (["run=a", "seeds=1,1"], "twice"),
        (["n=3"], "run=… is missing. Usage: python evaluate.py"),
        (["run="], "run=… is missing"),
    ],
)
def test_wrong_arguments(argv: list[str], expected: str) -> None:
    with pytest.raises(UserError) as error:
        console.key_values(argv, ALLOWED, USAGE, required=["run"])
    assert expected in str(error.value)


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        console.key_values(["--help"], ALLOWED, USAGE)
    assert ending.value.code == 0
    assert capsys.readouterr().out.strip() == USAGE
