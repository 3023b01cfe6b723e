"""A damaged data set is found before any work, once for a whole grid."""

import gzip
from pathlib import Path

import pytest

from hldm.config import idx_files
from hldm.config.dataset import MNIST
from hldm.data import mnist
from hldm.paths import PACKAGE
from tests.conftest import Invoke


def copied(folder: Path) -> Path:
    folder.mkdir()
    for file in (PACKAGE / "data" / "mnist_idx").glob("*.gz"):
        (folder / file.name).symlink_to(file)
    return folder


def test_the_same_digits_elsewhere_are_taken(tmp_path: Path, invoke: Invoke) -> None:
    folder = copied(tmp_path / "a [1]")
    assert invoke(f"dataset.folder={folder}", "tracking=none")[0] == 0
    assert len(mnist(MNIST(folder=str(folder))).train.labels) == 60_000


@pytest.mark.parametrize("content", [b"", b"x", gzip.compress(b"x", mtime=0)])
def test_damaged_files_are_found_before_any_work(content: bytes, tmp_path: Path, invoke: Invoke) -> None:
    folder = copied(tmp_path / "data")
    file = next(folder.glob("t10k-labels*"))
    file.unlink()
    file.write_bytes(content)
    status, _, err = invoke("-m", "seed=0,1", f"dataset.folder={folder}")
    assert status == 2
    assert file.name in err.replace("\n", "")
    assert "Traceback" not in err
    assert not Path("outputs").exists()


def test_files_are_read_once_for_a_grid(tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    from hldm.run import requirements

    read: list[str] = []
    monkeypatch.setattr(requirements, "read_idx", lambda root, name: read.append(name))
    folder = copied(tmp_path / "data")
    assert invoke("-m", "seed=0,1", "metrics.samples=100,200", f"dataset.folder={folder}", "tracking=none")[0] == 0
    assert sorted(read) == sorted(idx_files.MNIST_MD5)
