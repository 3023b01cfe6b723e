"""Published archives in miniature: read when their checksum is right, fetched where there is a net, explained else."""

import gzip
import hashlib
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import datasets

from hldm import data
from hldm.config import archives as sections
from hldm.config.archives import Archived
from hldm.config.compose import compose
from hldm.data import Dataset
from hldm.data.archives import Archive
from hldm.errors import UserError

RANDOM = np.random.default_rng(0)


def idx(array: np.ndarray) -> bytes:
    header = b"\x00\x00\x08" + bytes([array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def tar(members: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, value in members.items():
            pickled = pickle.dumps(value)
            info = tarfile.TarInfo(f"cifar/{name}")
            info.size = len(pickled)
            archive.addfile(info, io.BytesIO(pickled))
    return content.getvalue()


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes the archives of a data set, as if those were the published ones."""
    images = {n: RANDOM.integers(0, 256, (n, 28, 28)) for n in (30, 12)}

    def write(name: str) -> Path:
        folder = tmp_path / "archives"
        folder.mkdir(exist_ok=True)
        if name in ("fashion_mnist", "kmnist"):
            theirs = {"fashion_mnist": datasets.FashionMNIST, "kmnist": datasets.KMNIST}[name]
            contents = [idx(images[30]), idx(np.arange(30) % 10), idx(images[12]), idx(np.arange(12) % 10)]
            names = [file for file, _ in theirs.resources]
            for file, content in zip(names, contents, strict=True):
                (folder / file).write_bytes(content)
            monkeypatch.setattr(theirs, "resources", [(f, md5(c)) for f, c in zip(names, contents, strict=True)])
            return folder
        if name == "emnist":
            content = io.BytesIO()
            with zipfile.ZipFile(content, "w") as archive:
                for part, n in (("train", 30), ("test", 12)):
                    archive.writestr(f"gzip/emnist-letters-{part}-images-idx3-ubyte.gz", idx(images[n]))
                    labels = idx(1 + np.arange(n) % 26)
                    archive.writestr(f"gzip/emnist-letters-{part}-labels-idx1-ubyte.gz", labels)
            (folder / "gzip.zip").write_bytes(content.getvalue())
            monkeypatch.setattr(datasets.EMNIST, "md5", md5(content.getvalue()))
            return folder
        if name == "cifar10":
            theirs, per_batch = datasets.CIFAR10, 6
            members = {
                f"data_batch_{k}": {
                    b"data": RANDOM.integers(0, 256, (6, 3072)).astype(np.uint8),
                    b"labels": [k, 2, 3, 4, 5, 6],
                }
                for k in range(1, 6)
            }
            members["test_batch"] = {
                b"data": np.tile(np.arange(3072) // 1024, (6, 1)).astype(np.uint8),
                b"labels": [*range(per_batch)],
            }
            members["batches.meta"] = {b"label_names": [f"thing{k}".encode() for k in range(10)]}
        else:
            theirs = datasets.CIFAR100
            members = {
                part: {
                    b"data": RANDOM.integers(0, 256, (n, 3072)).astype(np.uint8),
                    b"fine_labels": [k % 6 for k in range(n)],
                    b"coarse_labels": [k % 6 // 2 for k in range(n)],
                }
                for part, n in (("train", 30), ("test", 12))
            }
            members["meta"] = {
                b"fine_label_names": [f"kind_{k}".encode() for k in range(6)],
                b"coarse_label_names": [f"fruit_and,_{k}".encode() for k in range(3)],
            }
        members["readme.html"] = "not wanted"
        archive_content = tar(members)
        (folder / theirs.filename).write_bytes(archive_content)
        monkeypatch.setattr(theirs, "tgz_md5", md5(archive_content))
        return folder

    return write


def load(name: str, folder: Path | None, cache: Path, **settings: object) -> Dataset:
    section: type[Archived] = {
        "fashion_mnist": sections.FashionMNIST,
        "kmnist": sections.KMNIST,
        "emnist": sections.EMNIST,
        "cifar10": sections.CIFAR10,
        "cifar100": sections.CIFAR100,
    }[name]
    given = {"folder": str(folder) if folder else None, "validation_images": 6, **settings}
    return getattr(data, name)(section.model_validate(given), cache=cache)


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist"])
def test_files_like_those_of_mnist(name: str, published: Callable[[str], Path], tmp_path: Path) -> None:
    folder = published(name)
    found = load(name, folder, tmp_path)
    assert (len(found.train), len(found.validation), len(found.test)) == (24, 6, 12)
    assert found.image_shape == (1, 28, 28)
    assert found.test.labels.tolist() == [n % 10 for n in range(12)]
    assert found.class_names[:2] == {"fashion_mnist": ("T-shirt/top", "Trouser"), "kmnist": ("o", "ki")}[name]
    assert found.class_words[0] == {"fashion_mnist": "t-shirt top", "kmnist": "o"}[name]
    # where torchvision puts them
    kept = tmp_path / "root" / {"fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}[name] / "raw"
    kept.parent.mkdir(parents=True)
    folder.rename(kept)
    assert load(name, tmp_path / "root", tmp_path).fingerprint == found.fingerprint
    assert len(load(name, kept, tmp_path, flips=True).train) == 48


def test_letters_stand_upright_count_from_zero_and_are_mixed(published: Callable[[str], Path], tmp_path: Path) -> None:
    found = load("emnist", published("emnist"), tmp_path, split="letters")
    assert found.class_names == tuple("abcdefghijklmnopqrstuvwxyz")
    order = found.test.labels.tolist()
    assert sorted(order) == list(range(12)) != order  # they are published letter by letter
    with zipfile.ZipFile(tmp_path / "archives" / "gzip.zip") as archive:
        raw = gzip.decompress(archive.read("gzip/emnist-letters-test-images-idx3-ubyte.gz"))[16:]
    lying = np.frombuffer(raw, np.uint8).reshape(12, 28, 28)
    assert np.array_equal(found.test.first()[:, 0].numpy(), lying[order].transpose(0, 2, 1))


def test_photographs_of_ten_kinds(published: Callable[[str], Path], tmp_path: Path) -> None:
    found = load("cifar10", published("cifar10"), tmp_path)
    assert (len(found.train), len(found.validation), len(found.test)) == (24, 6, 6)
    assert found.train.labels.tolist()[::6] == [1, 2, 3, 4]
    assert found.class_names == tuple(f"thing{k}" for k in range(10))
    assert [channel.unique().tolist() for channel in found.test.first(1)[0]] == [[0], [1], [2]]  # red, green, blue


def test_photographs_of_kinds_in_groups(published: Callable[[str], Path], tmp_path: Path) -> None:
    folder = published("cifar100")
    fine, coarse = (load("cifar100", folder, tmp_path, label_level=level, flips=True) for level in ("fine", "coarse"))
    assert fine.class_names == tuple(f"kind {k}" for k in range(6))
    assert coarse.class_names == tuple(f"fruit and, {k}" for k in range(3))
    assert coarse.class_words == tuple(f"fruit and {k}" for k in range(3))
    for found in (fine, coarse):
        assert found.parents is not None
        assert found.parents.tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
        assert found.test.nodes.tolist() == [4 + k % 6 for k in range(12)]
        assert torch.equal(found.train.nodes, found.train.plain.nodes.repeat(2))
    assert torch.equal(coarse.test.labels, coarse.ancestors(1)[coarse.test.nodes] - 1)
    assert torch.equal(fine.test.labels, fine.test.nodes - 4)


def test_no_pickle_is_read_without_its_checksum(
    published: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = published("cifar10")
    file = folder / datasets.CIFAR10.filename
    file.write_bytes(file.read_bytes() + b"x")

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a pickle was loaded")

    monkeypatch.setattr(pickle, "load", refuse)
    with pytest.raises(UserError, match=r"is not the published file: its md5 is .*\. Fetch https://"):
        load("cifar10", folder, tmp_path)


def test_what_is_fetched_is_kept_and_what_cannot_be_is_explained(
    published: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = published("cifar10"), []

    def fetch(url: str, root: Path, name: str, checksum: str) -> None:
        asked.append(url)
        root.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes((folder / url.rpartition("/")[2]).read_bytes())

    monkeypatch.setattr("hldm.data.archives.download_url", fetch)
    for _ in range(2):
        assert load("cifar10", None, tmp_path / "cache").fingerprint == load("cifar10", folder, tmp_path).fingerprint
    assert asked == [datasets.CIFAR10.url]
    kept = tmp_path / "cache" / "cifar10" / datasets.CIFAR10.filename
    kept.write_bytes(b"half of it")
    with pytest.raises(UserError, match="is not the published file"):
        load("cifar10", None, tmp_path / "cache")
    assert not kept.exists()

    def fail(*_: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("hldm.data.archives.download_url", fail)
    with pytest.raises(UserError) as raised:
        load("cifar10", None, tmp_path / "cache")
    said = str(raised.value)
    assert "dataset=cifar10 needs cifar-10-python.tar.gz, which cannot be fetched here (<urlopen error no route" in said
    assert (
        f"Fetch {datasets.CIFAR10.url} (md5 {datasets.CIFAR10.tgz_md5}) to a folder, and type dataset=cifar10 data"
        in said
    )
    with pytest.raises(UserError, match=r"has no cifar-10-python\.tar\.gz\. Fetch"):
        load("cifar10", tmp_path, tmp_path)


def test_another_place_is_tried_where_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(url: str, root: Path, name: str, checksum: str) -> None:
        if "first" in url:
            raise RuntimeError("File not found or corrupted.")
        root.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"content")

    monkeypatch.setattr("hldm.data.archives.download_url", fetch)
    archive = Archive("file", md5(b"content"), ("https://first/file", "https://second/file"))
    assert archive.content("x", None, tmp_path) == b"content"


def test_what_a_section_says_before_any_work(tmp_path: Path) -> None:
    for name, total, test, side in (("kmnist", 55_000, 10_000, 28), ("cifar100", 45_000, 10_000, 32)):
        section = compose([f"dataset={name}"]).dataset
        assert (section.training_images, section.test_images, section.image_side) == (total, test, side)
        assert section.has_validation
    letters = compose(["dataset=emnist", "dataset.split=letters"]).dataset
    assert (letters.training_images, letters.test_images) == (119_800, 20_800)
    with pytest.raises(UserError, match=r"metrics\.samples=40501"):
        compose(["dataset=cifar10", "metrics.samples=40501"])
    with pytest.raises(UserError, match=r"speaks of digits"):
        compose(["dataset=cifar10", "conditioning=text"])
    for name, theirs in (("FashionMNIST", datasets.FashionMNIST), ("KMNIST", datasets.KMNIST)):
        assert set(getattr(sections, name).files) == {file for file, _ in theirs.resources}
    assert sections.CIFAR10.files == (datasets.CIFAR10.filename,)
    assert sections.CIFAR100.files == (datasets.CIFAR100.filename,)
    (tmp_path / "EMNIST" / "raw").mkdir(parents=True)
    emnist = sections.EMNIST.model_validate({"folder": str(tmp_path)})
    assert "has no gzip.zip. Type a folder with the archives, or dataset.folder=null" in (emnist.missing() or "")
    (tmp_path / "EMNIST" / "raw" / "gzip.zip").touch()
    assert emnist.missing() is None
    assert "is not a folder" in (sections.KMNIST.model_validate({"folder": "/nowhere"}).missing() or "")
