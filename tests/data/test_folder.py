"""A folder of one's own: classes, parts, damaged files, captions, the mirror, and streaming that gives the same."""

import csv
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hldm.config import picture_files
from hldm.config.compose import compose
from hldm.config.pictures import Folder
from hldm.data import Dataset, folder, scan
from hldm.data.streamed import StreamedSplit
from hldm.errors import UserError
from hldm.run.identity import run_identity
from tests.odd_pictures import classes, written

COUNTS = {"ants": 40, "bees": 20, "Größe 3": 7}
SMALL = [
    "dataset.test_share=0.2",
    "metrics.samples=20",
    "training.first_stage.batch_size=16",
    "training.diffusion.batch_size=16",
]
"""As few as there are here."""


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classes(tmp_path_factory.mktemp("data") / "birds", COUNTS)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Dataset]:
    def call(path: Path, readers: int = 0, **settings: object) -> Dataset:
        section = Folder.model_validate({"path": str(path), "side": 8, **settings})
        picture_files.known.cache_clear()
        return folder(section, cache=tmp_path / "cache", readers=readers)

    return call


def whole(data: Dataset) -> list[Tensor]:
    return [part for split in (data.train, data.validation, data.test) for part in (split.first(), split.labels)]


def test_classes_are_first_folders_and_every_part_has_its_share(birds: Path, load: Callable[..., Dataset]) -> None:
    data = load(birds, validation_share=0.1, test_share=0.2)
    assert data.class_names == ("Größe 3", "ants", "bees")
    assert data.class_words == ("gr e 3", "ants", "bees")
    assert data.image_shape == (3, 8, 8)
    assert load(birds, colour="grey").train.first(2).shape == (2, 1, 8, 8)
    counts = [split.labels.bincount().tolist() for split in (data.train, data.validation, data.test)]
    assert counts == [[5, 28, 14], [1, 4, 2], [1, 8, 4]]
    for split in (data.train, data.test):
        # the channel that the fake pictures of a class have more of: ants red, bees green, the third blue
        means = split.first().float().mean((2, 3))
        assert means.argmax(1).tolist() == [{0: 2, 1: 0, 2: 1}[label] for label in split.labels.tolist()]
    assert len(data.train.labels[:15].unique()) > 1
    settings = Folder(path=str(birds))
    assert (settings.training_images, settings.test_images, settings.floor_images) == (56, 7, 28)
    assert [len(split) for split in (load(birds).train, load(birds).test)] == [56, 7]


def test_no_picture_is_in_two_parts_and_one_more_moves_few(
    birds: Path, load: Callable[..., Dataset], tmp_path: Path
) -> None:
    def parts(data: Dataset) -> list[set[bytes]]:
        return [
            {image.numpy().tobytes() for image in split.first()} for split in (data.train, data.validation, data.test)
        ]

    before = parts(load(birds))
    assert len(set.union(*before)) == sum(map(len, before)) == 67
    more = tmp_path / "more"
    shutil.copytree(birds, more)
    classes(more, {"ants": 42})
    after = parts(load(more))
    assert len(after[2] - before[2]) <= 2
    assert len(before[0] & after[2]) <= 1


def test_damaged_files_are_counted_named_and_left_out(
    tmp_path: Path, load: Callable[..., Dataset], capsys: pytest.CaptureFixture[str]
) -> None:
    odd = written(tmp_path / "odd")
    data = load(odd)
    assert len(data.train) + len(data.validation) + len(data.test) == 16
    assert data.class_names == ("image",)
    said = capsys.readouterr().out
    assert "6 of the files cannot be read and are left out" in said
    assert "empty.png: it is empty" in said
    assert "and 1 more" in said
    # what was found is kept, and said again
    kept = next((tmp_path / "cache").iterdir())
    before = kept.stat().st_mtime_ns
    again = load(odd)
    assert kept.stat().st_mtime_ns == before
    assert "6 of the files" in capsys.readouterr().out
    assert all(torch.equal(a, b) for a, b in zip(whole(data), whole(again), strict=True))
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")  # a damaged cache is one that is not there
    assert all(torch.equal(a, b) for a, b in zip(whole(data), whole(load(odd)), strict=True))
    assert kept.stat().st_mtime_ns != before


def test_streaming_gives_the_same_with_any_number_of_readers(
    birds: Path, load: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = load(birds, flips=True)
    monkeypatch.setattr(scan, "IN_MEMORY", 0)
    shutil.rmtree(birds.parent / "cache", ignore_errors=True)
    # more batches than are under way at a time, the last one shorter
    order = [*[torch.randperm(112)[:4] for _ in range(25)], torch.tensor([111])]
    wanted = [kept.train.read(indices) for indices in order]
    state = torch.get_rng_state()
    monkeypatch.setattr(scan, "_loaded", lambda path: None)
    for readers in (0, 1, 2):
        data = load(birds, readers=readers, flips=True)
        assert isinstance(data.test, StreamedSplit)
        assert torch.equal(data.train.labels, kept.train.labels)
        for found, images in zip(data.train.batches(iter(order)), wanted, strict=True):
            assert torch.equal(found, images)
    assert torch.equal(torch.get_rng_state(), state)
    assert data.test.fingerprint == load(birds).test.fingerprint != load(birds, side=9).test.fingerprint


def test_a_picture_that_is_gone_later_does_not_end_the_run(
    birds: Path,
    load: Callable[..., Dataset],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(scan, "IN_MEMORY", 0)
    here = tmp_path / "here"
    shutil.copytree(birds, here)
    data = load(here)
    split = data.train
    assert isinstance(split, StreamedSplit)
    # one after which another class comes: what stands for it has its label
    gone = int((split.labels[:-1] != split.labels[1:]).nonzero()[0])
    following = [row for row in (*range(gone + 1, 56), *range(gone)) if split.labels[row] == split.labels[gone]]
    (here / split.source.name(int(split.entries[gone]))).unlink()
    found, wanted = split.read(torch.tensor([gone, following[0]]))
    assert torch.equal(found, wanted)
    split.read(torch.tensor([gone]))
    assert capfd.readouterr().err.count("the next one of its class stands for it") == 1
    for row in following:
        (here / split.source.name(int(split.entries[row]))).unlink()
    other = next(row for row in (*range(gone + 1, 56), *range(gone)) if row not in following)
    found, wanted = split.read(torch.tensor([gone, other]))
    assert torch.equal(found, wanted)
    shutil.rmtree(here)
    with pytest.raises(OSError, match="none of the 56 pictures can be read"):
        split.read(torch.tensor([0]))


def test_the_mirror_doubles_what_is_trained_on(birds: Path, load: Callable[..., Dataset]) -> None:
    plain, both = load(birds), load(birds, flips=True)
    assert len(both.train) == 2 * len(plain.train) == 112
    assert torch.equal(both.train.first()[:56], plain.train.first())
    mirrored, same = both.train.read(torch.tensor([57, 1]))
    assert torch.equal(same, plain.train.first(2)[1])
    assert torch.equal(mirrored, same.flip(-1))
    assert not torch.equal(mirrored, same)
    assert torch.equal(both.train.labels, plain.train.labels.repeat(2))
    assert both.train.plain is not both.train
    assert torch.equal(both.train.plain.first(), plain.train.first())
    assert torch.equal(both.test.first(), plain.test.first())
    assert both.fingerprint != plain.fingerprint


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_captions_are_the_classes_where_that_is_asked_for(
    birds: Path, load: Callable[..., Dataset], tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    shutil.copytree(birds, here)
    rows = [{"file_name": f"ants/{i:03}.png", "text": f"An ant, no. {i % 35}"} for i in range(40)]
    with (here / f"metadata.{kind}").open("w", newline="") as file:
        if kind == "csv":
            writer = csv.DictWriter(file, ["file_name", "text"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.write("\n".join(map(json.dumps, rows)))
    data = load(here, label="caption")
    assert "27 pictures have no caption and are left out" in capsys.readouterr().out
    assert data.classes == 35
    assert set(data.class_words) == {f"an ant no {i}" for i in range(35)}
    assert [len(data.train), len(data.validation), len(data.test)] == [34, 2, 4]
    assert not data.classes_repeat
    assert load(here).class_names == ("Größe 3", "ants", "bees")
    (here / f"metadata.{kind}").write_text("file_name\nants/000.png\n" if kind == "csv" else '{"text": "x"}')
    with pytest.raises(UserError, match=r"lacks a name or a caption in its entry 1\. It must have"):
        load(here, label="caption")


def test_what_is_missing_is_said_before_any_work(tmp_path: Path, load: Callable[..., Dataset], birds: Path) -> None:
    (tmp_path / "few").mkdir()
    classes(tmp_path / "imagenet", {"train/cats": 3, "train/dogs": 3, "val/cats": 3})
    classes(tmp_path / "keras", {"Train": 3, "eval": 3})
    classes(tmp_path / "stray", {"train": 3, "": 1})
    classes(tmp_path / "both", {"train": 3, "test": 3, "": 1})
    classes(tmp_path / "vehicles", {"train": 3, "bus": 3})
    for settings, said in (
        ({"path": str(tmp_path / "keras")}, "has the folders Train, eval, which are parts"),
        ({"path": str(tmp_path / "stray")}, "has the folder train, which is a part rather than a class, and pictures"),
        ({"path": str(tmp_path / "both")}, "has the folders test, train, which are parts"),
        (
            {"path": str(tmp_path / "imagenet")},
            "has the folders train, val, which are parts rather than classes. Type da",
        ),
        ({"path": str(tmp_path / "imagenet" / "train")}, ""),
        ({}, "needs a folder of pictures. Type dataset.path="),
        ({"path": str(tmp_path / "nowhere")}, "is not a folder"),
        ({"path": str(tmp_path / "few")}, "has 0 pictures, and there must be 3 at least"),
    ):
        assert said in (Folder.model_validate(settings).missing() or "")
    assert Folder.model_validate({"path": str(tmp_path / "vehicles")}).missing() is None
    with pytest.raises(UserError, match="is not a folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"needs metadata\.csv or metadata\.jsonl"):
        load(birds, label="caption")
    for name in "abc":
        (tmp_path / "few" / f"{name}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"Of the 3 pictures .* only 0 can be used.*a\.png: it is empty"):
        load(tmp_path / "few")
    for n in range(2):
        shutil.copytree(birds / "bees", tmp_path / "two" / f"{n}")
        for file in sorted((tmp_path / "two" / f"{n}").iterdir())[3:]:
            file.unlink()
        (tmp_path / "two" / f"{n}" / "000.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"4 pictures that can be used, of which 4 are to train on and 0 to judge by"):
        load(tmp_path / "two")


def test_identity_is_by_content_and_preprocessing(birds: Path, tmp_path: Path) -> None:
    def identity(path: Path, *typed: str) -> str:
        picture_files.known.cache_clear()
        return run_identity(compose(["dataset=folder", f"dataset.path={path}", *SMALL, *typed])).name

    copied = tmp_path / "elsewhere"
    shutil.copytree(birds, copied)
    assert identity(copied) == identity(birds)
    others = {identity(birds, typed) for typed in ("dataset.side=16", "dataset.flips=true", "dataset.colour=grey")}
    assert len(others | {identity(birds)}) == 4
    content = bytearray((copied / "ants" / "000.png").read_bytes())
    content[-20] ^= 1
    (copied / "ants" / "000.png").write_bytes(content)
    assert identity(copied) != identity(birds)


def test_a_class_in_another_encoding_has_a_name_that_results_can_hold(
    tmp_path: Path, load: Callable[..., Dataset]
) -> None:
    found = load(classes(tmp_path / "birds", {os.fsdecode(b"caf\xe9"): 20, "ants": 20}))
    assert found.class_names == ("ants", "caf\ufffd")
    json.dumps(found.class_names, ensure_ascii=False).encode()


def test_links_that_lead_back_end(birds: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    os.symlink(birds / "ants", tmp_path / "own" / "ants")
    os.symlink(tmp_path / "own", tmp_path / "own" / "again")
    assert len(picture_files.listed(tmp_path / "own").names) == 40


def test_the_size_of_the_data_reaches_the_autoencoder(birds: Path) -> None:
    def padded(*typed: str) -> int:
        return compose(["dataset=folder", f"dataset.path={birds}", *SMALL, *typed]).autoencoder.padded_side

    assert [padded(f"dataset.side={side}") for side in (8, 28, 32, 40, 41, 64, 250)] == [8, 28, 32, 40, 44, 64, 252]
    assert padded("dataset.side=40", "autoencoder.padded_side=64") == 64
    assert padded("dataset.side=100", "autoencoder.block_channels=[8,16,32,32]") == 112
    assert padded("autoencoder=vq", "dataset.side=64") == 64
    assert compose([]).autoencoder.padded_side == 28


GOOD = "file_name,text\n" + "".join(f"{n}.png,a {'red' if n % 2 else 'blue'} one\n" for n in range(12))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "0.png,red, and more\n", r"more columns than headings in its entry 13\."),
        (GOOD + "0.png,another\n", r"two captions for 0\.png, the second in its entry 13"),
        (GOOD.replace("2.png,a blue one", '2.png,"a blue one', 1).replace("4.png,a blue one", '4.png,a blue one"', 1),
         r"entry 3 that is not closed"),
        (GOOD.replace("a red", '"a red'), r"cannot be read: .*expected after"),
        (GOOD.replace(",", ";"), r"entry 1\. It must have .* There are file_name;text\. Separate columns by commas\."),
        (GOOD.replace("text", "Caption"), r"There are file_name, Caption\.$"),
        (GOOD.replace("a red one", " "), r"lacks a name or a caption in its entry 2\."),
        ("file_name,text\n", r"metadata\.csv has no entries"),
        ("", r"metadata\.csv has no entries"),
        (GOOD.replace(".png", ".jpg"), r"captions are of 0\.jpg for example, and a picture is 0\.png\."),
        ("[" * 100_000, r"metadata\.jsonl cannot be read: maximum recursion"),
        ("3\n", r"metadata\.jsonl cannot be read: a line is '3', and must be an object"),
    ],
)  # fmt: skip
def test_captions_that_are_not_clear_are_said_once(tmp_path: Path, text: str, said: str) -> None:
    for n in range(12):
        (tmp_path / f"{n}.png").touch()
    (tmp_path / ("metadata.jsonl" if text[:1] in ("[", "3") else "metadata.csv")).write_text(text)
    found = Folder.model_validate({"path": str(tmp_path), "label": "caption"}).missing() or ""
    assert re.search(said, found)
    assert found.count("It must have") <= 1


def test_captions_of_the_same_words_are_one_class(
    tmp_path: Path, load: Callable[..., Dataset], capsys: pytest.CaptureFixture[str]
) -> None:
    classes(tmp_path, {".": 12})
    spellings = ("Red one", "RED one!", "")
    rows = "".join(f"{n:03}.png,{spellings[n % 3]},{'' if n % 3 < 2 else 'blue'}\n" for n in range(12))
    (tmp_path / "metadata.csv").write_text(f"file_name,text,caption\n{rows}gone.png,grey,\n")
    found = load(tmp_path, label="caption")
    assert (found.class_names, found.class_words) == (("RED one!", "blue"), ("red one", "blue"))
    assert "1 captions are of no picture that there is, such as gone.png" in capsys.readouterr().out


def test_too_few_to_judge_by_is_said_before_any_work_and_the_remedy_works(birds: Path, tmp_path: Path) -> None:
    def said(path: Path, *typed: str) -> str:
        try:
            compose(["dataset=folder", f"dataset.path={path}", *SMALL[1:], *typed])
        except UserError as error:
            return str(error)
        return ""

    found = re.search(
        r"There are 7 images to judge by, .* 10 at least\. Type (dataset\.test_share=\S+), or", said(birds)
    )
    assert found is not None
    assert said(birds, found[1]) == ""
    assert said(birds, "metrics.extractors=[]") == ""
    single = classes(tmp_path / "single", {f"class {n}": 1 for n in range(20)})
    assert said(single) == ""  # here, as the folder says it
    assert "has fewer than 3 pictures of each class" in (Folder(path=str(single)).missing() or "")
    uneven = classes(tmp_path / "uneven", {"many": 200, "three": 3})
    assert "and there are 0: a class has too few" in said(uneven)
    assert Folder(path=str(birds), label="caption", test_share=0.1).test_share_for(10, 6) == 0.17
    assert Folder(path=str(birds), label="caption", test_share=0.1).test_share_for(10, 1) is None
