"""An LMDB in LSUN's form: keys only, opened by each process, WebP or JPEG by content, held against training images."""

import hashlib
import multiprocessing
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch

from hldm.config.compose import compose
from hldm.config.pictures import LSUN
from hldm.data import Dataset, lsun
from hldm.data.lsun import Database, keys_of
from hldm.data.lsun import _open as opened_here
from hldm.data.streamed import StreamedSplit
from hldm.errors import UserError
from hldm.metrics import PixelFeatures
from hldm.run.identity import run_identity
from tests.odd_pictures import encoded, gradient


def database(folder: Path, contents: list[bytes]) -> Path:
    """As published: the key of an image is 40 hexadecimal digits."""
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**24) as opened, opened.begin(write=True) as transaction:
        for number, content in enumerate(contents):
            transaction.put(hashlib.sha1(str(number).encode()).hexdigest().encode(), content)
    return folder


def pictures(count: int, start: int = 0) -> list[bytes]:
    """WebP, JPEG and PNG by turns, all different."""
    kinds = ("WEBP", "JPEG", "PNG")
    return [
        encoded(gradient(20 + number, 16 + number % 5), kinds[number % 3]) for number in range(start, start + count)
    ]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lsun")
    database(root / "bedroom_train_lmdb", pictures(40))
    database(root / "bedroom_val_lmdb", pictures(6, 100))
    database(root / "tower_train_lmdb", pictures(20, 50))
    database(root / "tower_val_lmdb", pictures(4, 120))
    return root


def load(path: Path, cache: Path, readers: int = 0, **settings: object) -> Dataset:
    given = {"path": str(path), "side": 8, "validation_images": 10, **settings}
    return lsun(LSUN.model_validate(given), cache=cache, readers=readers)


def test_parts_and_what_samples_are_held_against(published: Path, tmp_path: Path) -> None:
    found = load(published, tmp_path, reference_images=12, flips=True)
    assert [len(split) for split in (found.train, found.validation, found.test, found.reference)] == [60, 10, 6, 12]
    assert found.reference_words == "lsun training images (12)"
    assert found.class_names == ("bedroom",)
    keys = [
        {split.source.name(int(entry)) for entry in split.entries}
        for split in (found.train.plain, found.validation, found.test, found.reference)
        if isinstance(split, StreamedSplit)
    ]
    assert len(keys[0] | keys[1]) == 40
    assert keys[3] < keys[0]
    # the floor is drawn from the others
    assert found.for_floor.tolist() == list(range(12, 30))
    assert torch.equal(found.train.plain.first(12), found.reference.first())
    assert len(load(published, tmp_path).reference) == 15  # half of the training images at most
    assert all(name.startswith("bedroom_val_lmdb/") for name in keys[2])
    # the images of these keys, of all kinds
    images = {image.numpy().tobytes() for image in found.train.plain.first()}
    assert len(images) == 30


def test_several_categories_are_classes(published: Path, tmp_path: Path) -> None:
    found = load(published, tmp_path, categories=("bedroom", "tower"))
    assert (found.train.labels.bincount() + found.validation.labels.bincount()).tolist() == [40, 20]
    assert found.test.labels.bincount().tolist() == [6, 4]
    test = found.test
    assert isinstance(test, StreamedSplit)
    for label, entry in zip(test.labels.tolist(), test.entries, strict=True):
        assert test.source.name(int(entry)).startswith(("bedroom", "tower")[label])


def test_objects_have_one_database_each_of_which_some_are_set_aside(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LSUN, "VALIDATION_OF_A_SCENE", 2)
    database(tmp_path / "cat", pictures(30, 200))
    for name in ("tower_train_lmdb", "tower_val_lmdb"):
        (tmp_path / name).symlink_to(published / name)
    found = load(tmp_path, tmp_path / "cache", categories=("cat", "tower"), validation_images=6)
    assert found.test.labels.bincount().tolist() == [2, 4]
    assert (found.train.labels.bincount() + found.validation.labels.bincount()).tolist() == [28, 20]
    parts = [
        {
            (split.source.name(int(entry)), label)
            for entry, label in zip(split.entries, split.labels.tolist(), strict=True)
        }
        for split in (found.train, found.validation, found.test)
        if isinstance(split, StreamedSplit)
    ]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 30 + 24
    assert all((name.startswith("cat/")) == (label == 0) for part in parts for name, label in part)
    alone = load(tmp_path, tmp_path / "cache", categories=("cat",), validation_images=6)
    assert [len(split) for split in (alone.train, alone.validation, alone.test)] == [22, 6, 2]


def test_small_objects_keep_images_to_train_on_and_every_part_is_mixed(tmp_path: Path) -> None:
    for name, count in (("cat", 70), ("cow", 40), ("dog", 20), ("owl", 1)):
        database(tmp_path / name, pictures(count, 100 * len(name)))
    found = load(tmp_path, tmp_path / "cache", categories=("cat", "cow", "dog"), validation_images=30)
    assert found.test.labels.bincount().tolist() == [7, 4, 2]
    assert (found.train.labels.bincount() + found.validation.labels.bincount()).tolist() == [63, 36, 18]
    for split in (found.train, found.validation, found.reference):
        assert split.labels.bincount(minlength=3).min() >= 2
    with pytest.raises(UserError, match=r"dataset\.categories has owl, with so few images"):
        load(tmp_path, tmp_path / "cache", categories=("cat", "owl"))
    with pytest.raises(UserError, match=r"leaves nothing to train on of 0 images\. Take categories that have more"):
        load(tmp_path, tmp_path / "cache", categories=("owl",), validation_images=0)


def test_damaged_databases_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("short", "garbled"):
        database(tmp_path / name / "cat", [bytes(5000)] * 100)
    file = tmp_path / "short" / "cat" / "data.mdb"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match=r"cannot be read as an LMDB: data\.mdb has \d+ bytes of \d+\. Unpack it again"):
        load(tmp_path / "short", tmp_path / "cache", categories=("cat",))
    file = tmp_path / "garbled" / "cat" / "data.mdb"
    content = file.read_bytes()
    file.write_bytes(content[:8192] + bytes(len(content) - 8192))
    with pytest.raises(UserError, match=r"cannot be read as an LMDB: .*Unpack it again"):
        load(tmp_path / "garbled", tmp_path / "cache", categories=("cat",))
    # a page that is found to be damaged when an image is read
    keys = np.array([hashlib.sha1(b"7").hexdigest().encode()])
    with pytest.raises(OSError, match="MDB_"):
        Database([tmp_path / "garbled" / "cat"], [keys]).content(0)


def test_batches_are_the_same_with_readers_who_open_the_database_themselves(published: Path, tmp_path: Path) -> None:
    order = [torch.randperm(60)[:7] for _ in range(4)]
    wanted = load(published, tmp_path, flips=True).train
    for readers in (1, 2):
        found = load(published, tmp_path, readers=readers, flips=True).train
        for images, indices in zip(found.batches(iter(order)), order, strict=True):
            assert torch.equal(images, wanted.read(indices))

    def opened(queue: "multiprocessing.Queue[tuple[int, int]]") -> None:
        before = len(opened_here)
        wanted.read(torch.tensor([0]))
        queue.put((before, len(opened_here)))

    wanted.read(torch.tensor([0]))
    assert opened_here
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=opened, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == (0, 1)
    child.join()


def test_only_keys_are_read_and_kept_with_fixed_width(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = published / "bedroom_train_lmdb"
    keys = keys_of(folder, tmp_path)
    assert keys.shape == (40,)
    assert keys.dtype == np.dtype("S40")
    assert isinstance(keys, np.memmap)
    keys = np.array(keys)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size == 128 + 40 * 40
    written = file.stat().st_mtime_ns
    assert np.array_equal(keys_of(folder, tmp_path), keys)
    assert file.stat().st_mtime_ns == written
    file.write_bytes(file.read_bytes()[:-40])  # cut off
    assert np.array_equal(keys_of(folder, tmp_path), keys)
    np.save(file, np.array([{"code": "that runs"}], dtype=object), allow_pickle=True)
    assert np.array_equal(keys_of(folder, tmp_path), keys)
    monkeypatch.setattr(Database, "content", lambda *_: pytest.fail("a picture was read"))
    assert load(published, tmp_path).fingerprint == load(published, tmp_path / "other").fingerprint


def test_what_cannot_be_read_is_replaced_and_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    contents = pictures(30)
    contents[7] = contents[7][:30]
    database(tmp_path / "d" / "bedroom_train_lmdb", contents)
    database(tmp_path / "d" / "bedroom_val_lmdb", pictures(3))
    images = load(tmp_path / "d", tmp_path, validation_images=0).train.first()
    assert len(images) == 30
    name = hashlib.sha1(b"7").hexdigest()
    assert f"bedroom_train_lmdb/{name} cannot be read" in capfd.readouterr().err


def test_what_is_missing_is_said(published: Path, tmp_path: Path) -> None:
    def said(**settings: object) -> str:
        return LSUN.model_validate(settings).missing() or ""

    assert "needs the folder with its LMDBs. Fetch http://dl.yf.io/lsun/scenes/bedroom_train_lmdb.zip" in said()
    assert "has no church_train_lmdb/data.mdb" in said(path=str(published), categories=("church",))
    assert f"is an LMDB itself, and must be the folder that it lies in. Type dataset.path={published}." in said(
        path=str(published / "tower_train_lmdb"), categories=("tower",)
    )
    for name in ("../lsun", "..", "/lsun"):
        assert f"dataset.categories has {name}, which is no name" in said(path=str(published), categories=(name,))
    assert "twice" in said(path=str(published), categories=("tower", "tower"))
    assert said(path=str(published)) == ""
    with pytest.raises(
        UserError, match=r"leaves nothing to train on of 40 images\. Type dataset\.validation_images=2\."
    ):
        load(published, tmp_path, validation_images=39)
    for name in ("bedroom_train_lmdb", "bedroom_val_lmdb"):
        (tmp_path / "bad" / name).mkdir(parents=True)
        (tmp_path / "bad" / name / "data.mdb").write_bytes(b"no database" * 1000)
    assert "bedroom_train_lmdb/data.mdb is no LMDB" in said(path=str(tmp_path / "bad"))
    (tmp_path / "bad" / "bedroom_train_lmdb" / "data.mdb").write_bytes(b"")
    assert "Unpack bedroom_train_lmdb.zip again" in said(path=str(tmp_path / "bad"))


def test_features_of_the_reference_are_read_in_batches_and_kept(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load(published, tmp_path)
    network = PixelFeatures()
    streamed = network.reference_features(found.reference, 8, tmp_path / "references")
    assert torch.equal(streamed, PixelFeatures().reference_features(found.reference.first(), 8))
    monkeypatch.setattr(StreamedSplit, "read", lambda *_: pytest.fail("an image was read"))
    again = PixelFeatures().reference_features(load(published, tmp_path).reference, 8, tmp_path / "references")
    assert torch.equal(again, streamed)
    with pytest.raises(pytest.fail.Exception):  # another preprocessing has features of its own
        PixelFeatures().reference_features(load(published, tmp_path, side=9).reference, 8, tmp_path / "references")


def test_identity_is_by_content(published: Path, tmp_path: Path) -> None:
    def identity(*typed: str) -> str:
        return run_identity(compose(["dataset=lsun", f"dataset.path={published}", *typed])).name

    assert len({identity(), identity("dataset.categories=[tower]"), identity("dataset.side=128")}) == 3
