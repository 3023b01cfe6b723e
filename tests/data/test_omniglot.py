"""Omniglot from its archives: split by drawer, and nothing but drawings is taken from a zip file."""

import os
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from torchvision import datasets

from hldm.config.compose import compose
from hldm.config.dataset import Omniglot
from hldm.config.omniglot_files import REMEDY
from hldm.data import Dataset, omniglot
from hldm.errors import UserError
from hldm.run.identity import run_identity
from tests.conftest import Invoke
from tests.fake_omniglot import ALPHABETS, drawing, packed, written


def loaded(folder: Path, **settings: object) -> Dataset:
    return omniglot(Omniglot.model_validate({"folder": str(folder), **settings}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("omniglot"))


@pytest.fixture(scope="module")
def characters(folder: Path) -> Dataset:
    return loaded(folder, label_level="character")


def test_the_tree_and_its_levels(folder: Path, characters: Dataset) -> None:
    alphabets = loaded(folder)
    assert alphabets.class_names == ("Aa", "Bb (old)", "Cc")
    assert alphabets.class_words == ("aa", "bb old", "cc")
    assert characters.class_names == ("Aa 1", "Aa 2", "Aa 3", "Bb (old) 1", "Bb (old) 2", "Cc 1", "Cc 2", "Cc 3")
    for data in (alphabets, characters):
        assert data.parents.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
        assert data.depths.tolist() == [0, 1, 1, 1, *[2] * 8]
    for ours, theirs in ((alphabets.train, characters.train), (alphabets.test, characters.test)):
        assert torch.equal(ours.first(), theirs.first())
        assert torch.equal(ours.nodes, theirs.nodes)
        assert torch.equal(ours.labels, alphabets.ancestors(1)[ours.nodes] - 1)
        assert torch.equal(theirs.labels, theirs.nodes - 4)
    assert len(alphabets.test.labels[:12].unique()) == 3


def test_no_hand_is_in_two_splits(folder: Path, characters: Dataset) -> None:
    splits = (characters.train, characters.validation, characters.test)
    assert [len(split) for split in splits] == [14 * 8, 2 * 8, 4 * 8]
    hands = [set(split.groups.tolist()) for split in splits]
    assert [len(own) for own in hands] == [14 * 3, 2 * 3, 4 * 3]
    assert len(set.union(*hands)) == 20 * 3
    for split in splits:  # each hand drew each character of its alphabet once
        assert split.nodes.bincount(minlength=12)[4:].unique().numel() == 1
        for hand in split.groups.unique():
            assert characters.ancestors(1)[split.nodes[split.groups == hand]].unique().numel() == 1
    other = loaded(folder, validation_drawers=5, test_drawers=6)
    assert [len(split) for split in (other.train, other.validation, other.test)] == [9 * 8, 5 * 8, 6 * 8]


def test_each_image_is_the_drawing_of_its_labels(characters: Dataset) -> None:
    """The fake drawings have as many bars as the number of their character, as far down as that of their drawer."""
    for split, drawers in (
        (characters.train, range(1, 15)),
        (characters.validation, range(15, 17)),
        (characters.test, range(17, 21)),
    ):
        images = split.first()
        for label, name in enumerate(characters.class_names):
            own = images[split.labels == label]
            expected = {reduced(int(name[-1]), drawer) for drawer in drawers}
            assert {image.numpy().tobytes() for image in own} == expected


def reduced(character: int, drawer: int) -> bytes:
    with Image.open(BytesIO(drawing(character, drawer))) as picture:
        ink = 255 - torch.frombuffer(bytearray(picture.convert("L").tobytes()), dtype=torch.uint8).view(105, 105)
    image = Image.fromarray(ink.numpy()).resize((28, 28), Image.Resampling.BOX)
    return image.tobytes()


def test_ink_is_bright_and_a_pixel_is_its_share(tmp_path: Path) -> None:
    """Side 35: a pixel is the mean of 3 × 3."""
    picture = Image.new("1", (105, 105), 1)
    ImageDraw.Draw(picture).rectangle((0, 0, 104, 1), fill=0)  # two rows of the first three
    content = BytesIO()
    picture.save(content, format="PNG")
    written(tmp_path, lambda character, drawer: content.getvalue())
    image = loaded(tmp_path, side=35).train.first(1)[0, 0]
    assert image[0].tolist() == [170] * 35
    assert not image[1:].any()


def test_content_counts_and_not_its_place(tmp_path: Path, folder: Path) -> None:
    def identity(where: Path, *more: str) -> str:
        return run_identity(compose(["dataset=omniglot", f"dataset.folder={where}", *more])).digest

    same, other = written(tmp_path / "same"), written(tmp_path / "other", lambda c, d: drawing(c, 21 - d))
    assert identity(same) == identity(folder) != identity(other)
    assert loaded(same).fingerprint == loaded(folder).fingerprint != loaded(other).fingerprint
    assert identity(folder, "dataset.label_level=character", "dataset.side=28") != identity(folder)


def test_a_drawing_in_two_archives_counts_once_and_their_order_does_not_count(folder: Path, tmp_path: Path) -> None:
    names = ["images_background_small2.zip", "images_background_small1.zip"]
    assert loaded(folder, archives=names).fingerprint == loaded(folder).fingerprint
    alone = loaded(folder, archives=["images_background_small2.zip"])
    assert alone.class_names == ("Bb (old)", "Cc")
    small2 = packed({"Bb_(old)": 2, "Cc": 3}, lambda character, drawer: drawing(character, drawer + 1))
    (tmp_path / names[0]).write_bytes(small2)
    (tmp_path / names[1]).write_bytes((folder / names[1]).read_bytes())
    with pytest.raises(UserError, match=r"small2\.zip has another drawing 1 of character 1 of Bb_\(old\) than"):
        loaded(tmp_path)


def zipped(members: dict[str, bytes]) -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def png(size: tuple[int, int], kind: str = "PNG") -> bytes:
    content = BytesIO()
    Image.new("L", size).save(content, format=kind)
    return content.getvalue()


def damaged(content: bytes, at: bytes) -> bytes:
    """A member whose bytes are not those that its checksum says."""
    place = content.index(at) + len(at) + 40
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


GOOD = "x/Aa/character01/0001_01.png"
HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda good: good[: len(good) // 2], "cannot be read as a zip file"),
    "no zip": (lambda good: b"<html>404</html>", "cannot be read as a zip file"),
    "nothing": (lambda good: b"", "cannot be read as a zip file"),
    "no member": (lambda good: zipped({}), "is empty"),
    "a flipped byte": (lambda good: damaged(good, GOOD.replace("x/", "images/").encode()), "cannot be read as a zip"),
    "a path upwards": (lambda good: zipped({"../../etc/character01/0001_01.png": drawing(1, 1)}), "is not an archive"),
    "a path upwards inside": (lambda good: zipped({"x/../character01/0001_01.png": drawing(1, 1)}), "is not an archi"),
    "an absolute path": (lambda good: zipped({"/tmp/Aa/character01/0001_01.png": drawing(1, 1)}), "is not an archive"),
    "another file": (lambda good: zipped({GOOD: drawing(1, 1), "x/run.py": b"1"}), "it has 'x/run.py' of 1 bytes"),
    "a bomb": (lambda good: zipped({GOOD: bytes(10**7)}), "of 10000000 bytes"),
    "no picture": (lambda good: zipped(every(b"hello")), "a wrong drawing 1 of character 1 of Aa: it is no PNG"),
    "a small picture": (lambda good: zipped(every(png((28, 28)))), "it is no PNG of 105 × 105 pixels"),
    "a huge picture": (lambda good: zipped(every(huge())), "it is no PNG of 105 × 105 pixels"),
    "half a picture": (lambda good: zipped(every(drawing(1, 1)[:60])), "have a wrong drawing 1"),
    "a photograph": (lambda good: zipped(every(png((105, 105), "JPEG"))), "it is no PNG"),
    "a drawing too few": (lambda good: zipped(dict(list(every(drawing(1, 1)).items())[:-1])), "lack drawing 20"),
    "one drawer": (lambda good: zipped({GOOD: drawing(1, 1)}), "leave none of the 1 drawers to train on"),
}


def every(content: bytes) -> dict[str, bytes]:
    return {f"x/Aa/character{c:02}/{c:04}_{d:02}.png": content for c in (1, 2) for d in range(1, 21)}


def huge() -> bytes:
    """A header that says 100,000 × 100,000 pixels."""
    content = png((105, 105))
    return content[:16] + 2 * (100_000).to_bytes(4, "big") + content[24:]


@pytest.mark.parametrize("case", HOSTILE)
def test_a_wrong_archive_is_one_sentence_with_the_remedy(case: str, tmp_path: Path) -> None:
    make, expected = HOSTILE[case]
    name = "images_background_small1.zip"
    good = packed(ALPHABETS[name])
    (tmp_path / name).write_bytes(make(good))
    with pytest.raises(UserError) as raised:
        loaded(tmp_path, archives=[name])
    assert expected in str(raised.value)
    assert str(tmp_path) in str(raised.value) or case == "one drawer"
    assert REMEDY in str(raised.value) or case == "one drawer"
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("where", ["nowhere", "empty", "nothing said"])
def test_what_is_missing_is_said_before_any_work(where: str, tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "empty").mkdir()
    typed = [] if where == "nothing said" else [f"dataset.folder={tmp_path / where}"]
    status, _, err = invoke("dataset=omniglot", *typed)
    said = " ".join(err.split())
    assert status == 2
    assert "Traceback" not in err
    for part in ("images_background_small1.zip", "https://github.com/brendenlake/omniglot", "dataset.folder="):
        assert part in said
    assert not Path("outputs").exists()


def test_samples_that_the_training_set_cannot_stand_beside_are_refused(folder: Path, invoke: Invoke) -> None:
    small = ["dataset=omniglot", f"dataset.folder={folder}", "tracking=none"]
    assert invoke(*small, "metrics.samples=80")[0] == 0
    status, _, err = invoke(*small, "metrics.samples=200")
    assert status == 2
    assert "metrics.samples=200 asks for more real images" in " ".join(err.split())


def test_what_torchvision_downloads_is_called_as_the_remedy_says() -> None:
    assert f"dataset.folder=data/{datasets.Omniglot.folder} " in REMEDY
    assert "dataset.archives=[images_background.zip]" in REMEDY
    assert "images_background" in datasets.Omniglot.zips_md5


@pytest.mark.parametrize("name", ["../a.zip", "/a.zip", "a.tar", "", "a/b.zip"])
def test_an_archive_is_a_file_of_the_folder(name: str) -> None:
    with pytest.raises(UserError, match=r"dataset\.archives"):
        compose(["dataset=omniglot", f"dataset.archives=['{name}']"])


@pytest.mark.skipif("HLDM_DATA" not in os.environ, reason="HLDM_DATA names no folder with Omniglot's archives")
def test_the_published_drawings() -> None:
    data = loaded(Path(os.environ["HLDM_DATA"]) / "omniglot", label_level="character")
    assert data.classes == 242
    assert [len(split) for split in (data.train, data.validation, data.test)] == [242 * 14, 242 * 2, 242 * 4]
    # Early Aramaic, Greek, … : letters of each, as Lake et al. list them
    assert data.parents[9:].bincount()[1:].tolist() == [24, 22, 24, 47, 40, 26, 42, 17]
    assert data.fingerprint == "02be397a15b3ec5681ba86a6a22a5cd30254898513b36d93c8b2b7c9a7cbd2f5"
