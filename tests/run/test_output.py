"""log.txt: what a run prints, whatever started it, once."""

import sys
from pathlib import Path

import pytest

from hldm.errors import UserError
from hldm.run.output import logged, note
from hldm.run.ranks import RENDEZVOUS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RANK", "WORLD_SIZE", RENDEZVOUS, "HLDM_RUN", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    return tmp_path


def lines(folder: Path) -> list[str]:
    return [line for line in (folder / "log.txt").read_text().splitlines() if not line.startswith("--- ")]


def test_what_is_printed_and_raised_is_written_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with logged(folder):
        print("\x1b[1;32mgreen\x1b[0m", "−")
        print("no good", file=sys.stderr)
        sys.stdout.writelines(["more\n"])
    print("later")
    with pytest.raises(UserError), logged(folder):
        raise UserError("The loss is nan.")
    with pytest.raises(ZeroDivisionError), logged(folder):
        _ = 1 / 0
    with pytest.raises(OSError, match="full"), logged(folder):
        raise OSError(28, "full", "x/status.json")
    out, err = capsys.readouterr()
    assert (out, err) == ("\x1b[1;32mgreen\x1b[0m −\nmore\nlater\n", "no good\n")
    found = lines(folder)
    assert found[:5] == ["green −", "no good", "more", "The loss is nan.", "Traceback (most recent call last):"]
    assert "ZeroDivisionError: division by zero" in found
    assert "x/status.json cannot be written or read: the disk is full" in " ".join(found)
    assert (folder / "log.txt").read_text().count("--- ") == 4


def test_an_output_that_is_the_log_is_not_doubled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid starts its runs so."""
    with (folder / "log.txt").open("a") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with logged(folder):
            print("once")
    assert (folder / "log.txt").read_text() == "once\n"


@pytest.mark.parametrize("variables", [{"RANK": "1", "WORLD_SIZE": "2", RENDEZVOUS: "x"}, {"HLDM_RUN": "{folder}"}])
def test_others_write_nothing(variables: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank that is not the first, and a job, whose output is in a file that log.txt names."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(folder=folder))
    with logged(folder):
        print("elsewhere")
    assert not (folder / "log.txt").exists()
    note(folder, "where")
    assert lines(folder) == ["where"]


def test_a_log_that_cannot_be_written_stops_nobody(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with logged(folder / "nowhere"):
        print("one")
    assert not (folder / "nowhere").exists()
    (folder / "log.txt").mkdir()
    with logged(folder):
        print("two")
    note(folder, "three")
    assert capsys.readouterr().out == "one\ntwo\n"
