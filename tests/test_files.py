"""Files are written whole or not at all, and what a killed process left half written is removed."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hldm.files import remove_left_behind, whole_folder, write_atomically, write_text_atomically


def test_weights_can_be_read_by_those_who_read_other_files(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    write_atomically(tmp_path / "weights", lambda file: save_file({"x": torch.zeros(2)}, file))
    with whole_folder(tmp_path / "folder") as folder:
        (folder / "part").mkdir()
        save_file({"x": torch.zeros(2)}, folder / "part" / "weights")
    modes = {(tmp_path / name).stat().st_mode for name in ("usual", "weights", "folder/part/weights")}
    assert len(modes) == 1


def test_the_file_before_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    for text in ("one", "two", "three"):
        write_atomically(tmp_path / "a", lambda file, text=text: file.write_text(text), keep=tmp_path / "b")  # type: ignore[misc]  # bound now
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("three", "two")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "…"), RuntimeError(f"I/O error: {os.strerror(errno.ENOSPC)}")])
def test_a_full_disk_is_an_error_with_the_name_of_the_file(error: Exception, tmp_path: Path) -> None:
    """Also where a library quotes the system's words, or raises another error while it gives up."""
    write_text_atomically(tmp_path / "a", "before")

    def fill(file: Path) -> None:
        file.write_text("half")
        try:
            raise error
        finally:
            raise RuntimeError("unexpected position")  # as torch does

    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as raised:
        write_atomically(tmp_path / "a", fill)
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(tmp_path / "a"))
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "before"


def test_what_a_dead_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left: list[str] = []

    def interrupted(file: Path) -> None:
        left.append(file.name)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.json", interrupted)
    host = left[0].removeprefix(".a.json.").removesuffix(f"-{os.getpid()}.tmp")
    gone = [f".a.json.{host}-{dead.pid}.tmp", f".a.json.{dead.pid}.tmp", f".a.json.{host}-{os.getpid()}.tmp"]
    kept = [f".a.json.{host}-{os.getppid()}.tmp", ".a.json.other-1.tmp", "mine.tmp", ".mine.tmp", "a.json"]
    for name in [*gone, *kept, ".b.other-2.tmp"]:
        (tmp_path / name).write_text("half")
    hours_ago = time.time() - 7200
    os.utime(tmp_path / ".b.other-2.tmp", (hours_ago, hours_ago))
    remove_left_behind(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(kept)
    remove_left_behind(tmp_path / "absent")
