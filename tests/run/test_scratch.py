"""Copies of data on a node's own disk: made once, gone on with, left out where they cannot be."""

import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from hldm.errors import Stopped
from hldm.run import scratch, stop
from hldm.run.scratch import VARIABLE, on_this_node


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "scratch"))
    for name in ("a/one.png", "a/two.png", "b/one.png", "names.csv"):
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
        os.utime(file, ns=(10**18 + 7, 10**18 + 7))
    (tmp_path / "elsewhere.png").write_text("a link")
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    return tmp_path / "data"


def content(folder: Path) -> dict[str, tuple[str, int]]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): (file.read_text(), file.stat().st_mtime_ns) for file in files}


def test_a_folder_is_copied_once_with_all_its_times(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = on_this_node(data)
    assert copy.name == "data"
    assert copy.is_relative_to(data.parent / "scratch" / f"hldm-data-{os.getuid()}")
    assert content(copy) == content(data)
    assert not (copy / "link.png").is_symlink()
    assert "was copied to" in capsys.readouterr().out
    copied = (copy / "names.csv").stat().st_ino
    assert on_this_node(data) == copy
    assert (copy / "names.csv").stat().st_ino == copied
    assert capsys.readouterr().out == ""
    (data / "names.csv").write_text("changed")
    again = on_this_node(data)
    assert again != copy
    assert content(again) == content(data)
    assert content(copy)["names.csv"][0] == "names.csv"  # who reads it is not disturbed


def test_what_a_site_cleared_away_is_copied_again(data: Path) -> None:
    """Cleaners take old files, and leave the one that says that all is there."""
    copy = on_this_node(data)
    assert (copy.parent / "whole").exists()
    (copy / "a/one.png").unlink()
    (copy / "names.csv").write_text("cut")
    kept = (copy / "a/two.png").stat().st_ino
    assert on_this_node(data) == copy
    assert content(copy) == content(data)
    assert (copy / "a/two.png").stat().st_ino == kept


def test_room_is_needed_for_what_is_not_there_yet(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = on_this_node(data)
    (copy.parent / "whole").unlink()
    (copy / "a/one.png").unlink()
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda folder: SimpleNamespace(free=len("a/one.png")))
    assert on_this_node(data) == copy
    assert content(copy) == content(data)


def test_a_link_to_a_folder_above_is_not_followed_again(data: Path) -> None:
    (data / "a" / "up").symlink_to(data)
    copy = on_this_node(data)
    assert copy != data
    assert sorted(str(file.relative_to(copy)) for file in copy.rglob("*") if file.is_file()) == [
        *("a/one.png", "a/two.png", "b/one.png", "link.png", "names.csv")
    ]


def test_a_single_file_keeps_its_name(data: Path) -> None:
    copy = on_this_node(data / "names.csv")
    assert copy.name == "names.csv"
    assert copy.read_text() == "names.csv"


def test_several_processes_of_a_node_make_one_copy(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hldm.run.lease.LOOK", 0.02)
    copied: list[Path] = []
    copyfile = shutil.copyfile

    def slow(source: Path, target: Path) -> None:
        copied.append(source)
        copyfile(source, target)

    monkeypatch.setattr(scratch.shutil, "copyfile", slow)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(on_this_node(data))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(copied) == len(content(data)) == 5


def test_a_copy_that_was_broken_off_is_gone_on_with(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are whole stay, of the others nothing is believed."""
    looks = iter([False, True])
    monkeypatch.setattr(scratch, "AT_ONCE", 1)

    def stopped() -> None:
        if next(looks, False):
            raise Stopped("SIGTERM")

    for number in range(20):
        (data / f"{number}.png").write_text("x")
    monkeypatch.setattr(stop, "check", stopped)
    with pytest.raises(Stopped):
        on_this_node(data)
    [half] = (data.parent / "scratch").glob("*/*/data")
    there = sorted(half.glob("*.png"))
    assert 0 < len(there) < len(list(data.glob("*.png")))
    there[0].write_text("y")  # cut off while it was written
    kept = there[1].stat().st_ino, there[1].stat().st_mtime_ns
    assert content(on_this_node(data)) == content(data)
    assert (there[1].stat().st_ino, there[1].stat().st_mtime_ns) == kept


def test_where_it_cannot_be_copied_it_is_read_where_it_is(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as full:
        full.setattr(scratch.shutil, "disk_usage", lambda folder: SimpleNamespace(free=3))
        assert on_this_node(data) == data
    assert "0.0 GB are needed there, and 0.0 free" in capsys.readouterr().out
    (data.parent / "file").write_text("")
    monkeypatch.setenv(VARIABLE, str(data.parent / "file"))
    assert on_this_node(data) == data
    assert "it cannot be copied to" in capsys.readouterr().out
    monkeypatch.delenv(VARIABLE)
    assert on_this_node(data) == data
    assert capsys.readouterr().out == ""
