"""What draws in a process of its own: its files, and how it is said that there are none."""

import os
import signal
import sys
from pathlib import Path

import pytest

from hldm.study.drawing_process import NotDrawn, draw


def files(*names: str) -> list[Path]:
    print("what a library prints", flush=True)
    return [Path(name) for name in names]


def refused(file: str) -> list[Path]:
    raise PermissionError(13, "Permission denied", file)


def wrong() -> list[Path]:
    raise ValueError("of our own")


def killed() -> list[Path]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def left() -> list[Path]:
    sys.exit(3)


def interrupted() -> list[Path]:
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def found_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def test_files_are_told_and_what_is_printed_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    assert draw(files, "a.png", "b.png") == [Path("a.png"), Path("b.png")]
    assert tuple(capfd.readouterr()) == ("", "what a library prints\n")


def test_files_that_cannot_be_written_are_a_reason() -> None:
    with pytest.raises(NotDrawn, match=r"^Permission denied$"):
        draw(refused, "x.png")


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)Traceback .*raise ValueError.*of our own"):
        draw(wrong)


@pytest.mark.parametrize(
    ("function", "words"),
    [(killed, "ended with SIGKILL, as where memory is used up"), (left, "status 3"), (interrupted, "status 130")],
)
def test_a_process_that_ends_early_is_a_reason(function: object, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotDrawn, match=words):
        draw(function)  # type: ignore[arg-type]  # parameters of tests are objects
    assert capfd.readouterr().err == ""


def test_arguments_are_not_read_where_it_has_ended_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """More than a pipe holds, to a Python that does not start."""
    (tmp_path / "python").write_text("#!/bin/sh\nexit 7\n", encoding="utf-8")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(NotDrawn, match="status 7"):
        draw(files, *["x" * 1000] * 1000)
