"""Data sets of Hugging Face on the disk: parquet files, folders of save_to_disk, columns and parts by name."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hldm.config import row_files
from hldm.config.compose import compose
from hldm.config.pictures import HuggingFace
from hldm.config.schema import RunConfig
from hldm.data import Dataset, huggingface, scan
from hldm.data.folder import NO_FOLDER
from hldm.data.streamed import StreamedSplit
from hldm.errors import UserError
from hldm.pipeline.build import build_dataset
from hldm.run.identity import run_identity
from tests.odd_pictures import encoded, gradient

FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "big dog", "cow"]}}


def rows(count: int, start: int = 0) -> pa.Table:
    """As `datasets` writes them."""
    numbers = range(start, start + count)
    image = pa.array(
        [{"bytes": encoded(gradient(20 + n, 16)), "path": None} for n in numbers],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({"id": pa.array(list(numbers)), "image": image, "label": pa.array([n % 3 for n in numbers])})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})


def arrow(file: Path, table: pa.Table) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(file), "wb") as out, pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table, max_chunksize=7)


def parquet(file: Path, table: pa.Table) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=8)


def load(path: Path, cache: Path, readers: int = 0, **settings: Any) -> Dataset:
    section = HuggingFace.model_validate({"path": str(path), "side": 8, **settings})
    return huggingface(section, cache=cache, readers=readers)


def test_parquet_and_arrow_hold_the_same(tmp_path: Path) -> None:
    for write, end, folder in ((parquet, "parquet", "data"), (arrow, "arrow", "")):
        root = tmp_path / end
        for part, count, start in (("train", 30, 0), ("train", 12, 30), ("test", 9, 100)):
            file = f"{part}-0000{start}-of-00002.{end}" if folder else f"{part}/data-0000{start}-of-00002.{end}"
            write(root / folder / file, rows(count, start))
    found, same = (load(tmp_path / end, tmp_path / "cache") for end in ("parquet", "arrow"))
    assert found.fingerprint == same.fingerprint
    assert found.class_names == ("cat", "big dog", "cow")
    # validation is cut from the training part, of each class its share
    assert [split.labels.bincount().tolist() for split in (found.train, found.validation, found.test)] == [
        [13, 13, 13],
        [1, 1, 1],
        [3, 3, 3],
    ]
    assert len({image.numpy().tobytes() for image in torch.cat([found.train.first(), found.validation.first()])}) == 42
    assert len(list((tmp_path / "cache").glob("rows-*.arrow"))) == 3  # of the parquet files, without other columns


def test_streaming_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(tmp_path / "d" / "x.parquet", rows(30))
    kept = load(tmp_path / "d", tmp_path / "a")
    monkeypatch.setattr(scan, "IN_MEMORY", 0)
    streamed = load(tmp_path / "d", tmp_path / "b", readers=1)
    assert isinstance(streamed.train, StreamedSplit)
    order = [torch.tensor([5, 1, 7]), torch.tensor([0, 0])]
    for images, indices in zip(streamed.train.batches(iter(order)), order, strict=True):
        assert torch.equal(images, kept.train.read(indices))


def test_columns_are_found_or_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = pa.table({
        "picture": pa.array([encoded(gradient(20 + n, 16)) for n in range(12)] + [b"no picture"], pa.binary()),
        "kind": pa.array([*["x", "y"] * 6, "x"]),
    })  # fmt: skip
    parquet(tmp_path / "d" / "x.parquet", plain)
    found = load(tmp_path / "d", tmp_path / "cache")
    assert found.class_names == ("image",)
    assert "  x.parquet, row 12: it is not a picture" in capsys.readouterr().out
    assert sum(map(len, (found.train, found.validation, found.test))) == 12
    assert load(tmp_path / "d", tmp_path / "cache", label="kind").class_names == ("x", "y")
    with pytest.raises(UserError, match=r"dataset\.label=colour is not a column: there are picture, kind\."):
        load(tmp_path / "d", tmp_path / "cache", label="colour")
    with pytest.raises(UserError, match=r"dataset\.image=colour is not a column"):
        load(tmp_path / "d", tmp_path / "cache", image="colour")
    parquet(tmp_path / "two" / "x.parquet", plain.append_column("other", plain["picture"]))
    with pytest.raises(UserError, match=r"has 2 columns that can be pictures.*Say which: dataset\.image="):
        load(tmp_path / "two", tmp_path / "cache")


def test_pictures_beside_the_file(tmp_path: Path) -> None:
    names = []
    for n in range(6):
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / "d" / f"{n}.png").write_bytes(encoded(gradient(20 + n, 16)))
        names.append({"bytes": None, "path": f"{n}.png"})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    arrow(tmp_path / "d" / "x.arrow", pa.table({"image": pa.array(names, kind)}))
    found = load(tmp_path / "d", tmp_path / "cache")
    assert [len(split) for split in (found.train, found.validation, found.test)] == [4, 1, 1]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    assert "needs a folder on this disk" in (HuggingFace().missing() or "")
    assert "has no .parquet and no .arrow files" in (
        HuggingFace.model_validate({"path": str(tmp_path)}).missing() or ""
    )
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match=r"x\.parquet cannot be read: .*Fetch it again"):
        load(tmp_path, tmp_path / "cache")
    parquet(tmp_path / "x.parquet", rows(1))
    with pytest.raises(
        UserError, match="has 1 pictures that can be read, of which 1 are to train on and 0 to judge by"
    ):
        load(tmp_path, tmp_path / "cache")


def test_a_disk_that_is_too_small_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(tmp_path / "d" / "x.parquet", rows(6))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match="Make room"):
        load(tmp_path / "d", tmp_path / "cache")


def test_identity_is_by_content(tmp_path: Path) -> None:
    def identity(path: Path) -> str:
        return run_identity(compose(["dataset=huggingface", f"dataset.path={path}"])).name

    for name, count in (("a", 6), ("b", 6), ("c", 7)):
        parquet(tmp_path / name / "x.parquet", rows(count))
    assert identity(tmp_path / "a") == identity(tmp_path / "b") != identity(tmp_path / "c")


def test_parts_are_mixed_whatever_the_order_of_rows(tmp_path: Path) -> None:
    """Rows that stand class by class: the first ones of a part are taken for a sample of it."""
    table = rows(90)
    parquet(tmp_path / "d" / "train.parquet", table.sort_by("label"))
    parquet(tmp_path / "d" / "validation.parquet", table.sort_by("label"))
    parquet(tmp_path / "d" / "test.parquet", table.sort_by("label"))
    found = load(tmp_path / "d", tmp_path / "cache")
    for split in (found.train, found.validation, found.test):
        assert split.labels.bincount().tolist() == [30, 30, 30]
        assert len(set(split.labels[:12].tolist())) == 3


def test_labels_that_are_hidden_are_said(tmp_path: Path) -> None:
    parquet(tmp_path / "d" / "train.parquet", rows(9))
    hidden = rows(6)
    parquet(tmp_path / "d" / "test.parquet", hidden.set_column(2, "label", pa.array([-1] * 6)))
    with pytest.raises(UserError, match=r"has test images of 1 classes .* such as -1: .*Move the files of the test"):
        load(tmp_path / "d", tmp_path / "cache")


def test_labels_that_tell_no_class_are_said(tmp_path: Path) -> None:
    table = rows(6)
    parquet(tmp_path / "d" / "x.parquet", table.set_column(2, "label", pa.array([[1, 2]] * 6)))
    with pytest.raises(UserError, match=r"dataset\.label=label has several values in a row \(list"):
        load(tmp_path / "d", tmp_path / "cache")
    parquet(tmp_path / "d" / "x.parquet", table)
    parquet(tmp_path / "d" / "y.parquet", table.set_column(2, "label", pa.array(["cat"] * 6)))
    with pytest.raises(UserError, match=r"is string in .*y\.parquet and a number in .*x\.parquet"):
        load(tmp_path / "d", tmp_path / "cache")


def test_every_file_must_have_the_columns(tmp_path: Path) -> None:
    parquet(tmp_path / "d" / "x.parquet", rows(6))
    parquet(tmp_path / "d" / "y.parquet", rows(6).drop_columns(["label"]))
    with pytest.raises(UserError, match=r"y\.parquet has no column label, as .*x\.parquet has: there are id, image"):
        load(tmp_path / "d", tmp_path / "cache")


def test_files_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    for part, start in (("train", 0), ("test", 6)):
        parquet(tmp_path / "d" / part / "0.parquet", rows(6, start))
    files = sorted((tmp_path / "d").rglob("*.parquet"))
    size = max(file.stat().st_size for file in files)
    for file in files:
        content = file.read_bytes()  # a gap before the footer, which nothing points to
        footer = int.from_bytes(content[-8:-4], "little") + 8
        file.write_bytes(content[:-footer] + bytes(size - len(content)) + content[-footer:])
        os.utime(file, ns=(10**18, 10**18))
    found = load(tmp_path / "d", tmp_path / "cache")
    assert not any(torch.equal(one, other) for one in found.train.first() for other in found.test.first())
    before = HuggingFace.model_validate({"path": str(tmp_path / "d")}).by_content()
    (tmp_path / "d" / "train").rename(tmp_path / "d" / "more")
    assert HuggingFace.model_validate({"path": str(tmp_path / "d")}).by_content() != before


def test_pictures_beside_the_file_lie_below_it_and_may_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "d").mkdir()
    for n in range(6):
        (tmp_path / "d" / f"{n}.png").write_bytes(encoded(gradient(20 + n, 16)))
    (tmp_path / "private.png").write_bytes(encoded(gradient(16, 16)))
    paths = [*(f"{n}.png" for n in range(6)), "../private.png", str(tmp_path / "private.png")]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    arrow(tmp_path / "d" / "x.arrow", pa.table({"image": pa.array([{"path": path} for path in paths], kind)}))
    found = load(tmp_path / "d", tmp_path / "cache")
    assert sum(map(len, (found.train, found.validation, found.test))) == 6
    assert "its path ../private.png leads out" in capsys.readouterr().out
    (tmp_path / "d" / "0.png").write_bytes(encoded(gradient(40, 16)))
    assert load(tmp_path / "d", tmp_path / "cache").fingerprint != found.fingerprint


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("mnist_train.parquet", "mnist_test.parquet"), ["train", "test"]),
        (("training.parquet", "testing.parquet"), ["train", "test"]),
        (("train.parquet", "eval.parquet"), ["train", "test"]),
        (("my_train/0.parquet", "my_test/0.parquet", "my-dev-set/0.parquet"), ["train", "test", "validation"]),
        (("Train-00000-of-00002.parquet", "default/validation/0.parquet"), ["train", "validation"]),
        (("latest.parquet", "trains.parquet"), ["train", "train"]),
    ],
)
def test_parts_are_told_by_the_words_that_datasets_knows(names: tuple[str, ...], wanted: list[str]) -> None:
    root = Path("d")
    files = [root / name for name in names]
    assert row_files.parts(root, files) == wanted
    assert row_files.badly_parted(root, files) is None


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("train.parquet", "more.parquet"), r"d/more\.parquet does not say by its name .* and d/train\.parquet does"),
        (("train.parquet", "train_test.parquet"), r"d/train_test\.parquet does not say"),
        (
            ("full/train-0.parquet", "full/test-0.parquet", "small/train-0.parquet"),
            r"train files in 2 places, such as d/full and d/small.*Type dataset\.path=d/full, or another one",
        ),
        (("train/0.parquet", "more/train/0.parquet"), r"Type dataset\.path=d/more"),
    ],
)
def test_names_of_files_that_mix_data_sets_are_said(names: tuple[str, ...], said: str) -> None:
    assert re.search(said, row_files.badly_parted(Path("d"), [Path("d", name) for name in names]) or "")


def refused(path: Path, **settings: Any) -> str:
    """What is said before any work, as plan=true says it."""
    return HuggingFace.model_validate({"path": str(path), **settings}).missing() or ""


def test_class_names_in_another_order_are_said(tmp_path: Path) -> None:
    other = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "cow", "big dog"]}}
    parquet(tmp_path / "train.parquet", rows(6))
    table = rows(6).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": other}})})
    parquet(tmp_path / "test.parquet", table)
    assert re.search(r"calls class 1 big dog in .*train\.parquet and cow in .*test\.parquet", refused(tmp_path))
    parquet(tmp_path / "test.parquet", rows(6).replace_schema_metadata(None))  # one that says nothing says no other
    assert load(tmp_path, tmp_path / "cache").class_names == ("cat", "big dog", "cow")


def test_labels_that_the_test_part_lacks_are_said(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", rows(6))
    parquet(tmp_path / "test.parquet", rows(6).drop_columns(["label"]))
    assert re.search(r"test\.parquet has no column label, as .*train\.parquet has: .*may be hidden", refused(tmp_path))


@pytest.mark.parametrize("absent", [float("nan"), None])
def test_rows_without_a_class_are_said_unless_none_has_one(tmp_path: Path, absent: float | None) -> None:
    (own := tmp_path / "own").mkdir()
    labels = pa.array([absent if n % 3 == 0 else 1.0 for n in range(9)])
    parquet(own / "x.parquet", rows(9).set_column(2, "label", labels))
    with pytest.raises(UserError, match=r"says no class \(null, or NaN\) in 3 of 9 rows"):
        load(own, tmp_path / "cache")
    parquet(own / "x.parquet", rows(9).set_column(2, "label", pa.array([absent] * 9, pa.float64())))
    assert load(own, tmp_path / "cache").class_names == (NO_FOLDER,)


def test_columns_that_hold_no_pictures_are_said(tmp_path: Path) -> None:
    parquet(tmp_path / "x.parquet", rows(6))
    assert "dataset.image=label holds int64 in" in refused(tmp_path, image="label")
    assert "Name another column, such as image." in refused(tmp_path, image="label")
    assert "dataset.label=image is the column of the pictures" in refused(tmp_path, label="image")
    assert "is a file, and must be a folder. Type dataset.path=" in refused(tmp_path / "x.parquet")
    assert "is not there" in refused(tmp_path / "y")


def test_damaged_files_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a" / "x.parquet"
    parquet(file, rows(60))
    content = bytearray(file.read_bytes())
    for place in range(len(content) // 4, len(content) // 4 + 400):
        content[place] ^= 0xFF
    file.write_bytes(content)
    file = tmp_path / "b" / "x.arrow"
    arrow(file, rows(60))
    file.write_bytes(file.read_bytes()[:-3000])
    for name in ("a", "b"):
        with pytest.raises(UserError, match=r"x\.(parquet|arrow) cannot be read: .*[^.]\. Fetch it again\."):
            load(tmp_path / name, tmp_path / "cache")
    table = rows(12)
    images = table["image"].to_pylist()
    images[3] = {"bytes": None, "path": "a\0b"}
    arrow(tmp_path / "c" / "x.arrow", table.set_column(1, "image", pa.array(images, table.schema.field("image").type)))
    load(tmp_path / "c", tmp_path / "cache")
    assert r"x.arrow, row 3: its path 'a\x00b' is none" in capsys.readouterr().out


def test_arrow_files_with_random_access_are_read_too(tmp_path: Path) -> None:
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as out, pa.ipc.new_file(out, rows(9).schema) as stream:
        stream.write_table(rows(9))
    assert len(load(tmp_path, tmp_path / "cache").train) == 6


def test_too_few_to_judge_by_is_said_before_training(tmp_path: Path) -> None:
    def config(*typed: str) -> RunConfig:
        return compose(["dataset=huggingface", f"dataset.path={tmp_path}/d", f"paths.outputs={tmp_path}", *typed])

    parquet(tmp_path / "d" / "x.parquet", rows(60))
    with pytest.raises(UserError, match=r"There are 6 images to judge by, .* Type dataset\.test_share=0\.17, or"):
        build_dataset(config())
    parquet(tmp_path / "d" / "test.parquet", rows(6))
    (tmp_path / "d" / "x.parquet").rename(tmp_path / "d" / "train.parquet")
    with pytest.raises(UserError, match=r"There are 6 images to judge by, .* Add pictures, or"):
        build_dataset(config())
