"""A folder of pictures of one's own."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hldm.config import picture_files
from hldm.config.captions import captions
from hldm.config.pictures import Folder
from hldm.data.dataset import Dataset
from hldm.data.scan import scan, split_of, summary
from hldm.data.streamed import MirroredSplit, Source
from hldm.errors import UserError

NO_FOLDER = "image"
"""What the class of pictures is called that lie in no folder of the data."""


class Files(Source):
    """The files of a folder.

    Args:
        root: the folder; names: of files below it.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root = root
        # of fixed width: a list of texts would be copied page by page into every process that reads
        self.names = np.array([name.encode(errors="surrogateescape") for name in names])

    def __len__(self) -> int:
        return len(self.names)

    def content(self, entry: int) -> bytes:
        return (self.root / self.name(entry)).read_bytes()

    def name(self, entry: int) -> str:
        return bytes(self.names[entry]).decode(errors="surrogateescape")


def folder(settings: Folder, *, cache: Path, readers: int = 0) -> Dataset:
    """Pictures of any size and kind in a folder, see `hldm.data.pictures.prepared`.

    All of them are looked at once, and what was found is kept for later runs: those that cannot be read are counted,
    named and left out. Where the prepared images take less than `scan.IN_MEMORY` they are kept in memory, else read in
    every step; both give the same batches. A class is the first folder on the way to a picture, or its caption.

    Args:
        settings: the folder, sizes of the parts, preprocessing.
        cache: where what is found is kept.
        readers: processes that read ahead.

    Raises:
        UserError: there is no such folder, too few pictures in it, or captions are asked for and missing.
    """
    if said := settings.missing():
        raise UserError(said)
    listing = settings.listing
    assert listing is not None
    source, channels = Files(listing.root, listing.names), settings.image_channels
    found = scan(source, listing.signature, settings.side, channels, cache)
    named, rows = _named(settings, [source.name(entry) for entry in found.entries])
    if len(rows) < 3:
        raise UserError(
            f"Of the {len(listing.names)} pictures in dataset.path={settings.path} only {len(rows)} can be used, and "
            "there must be 3 at least. " + " ".join(line.strip() for line in summary(found.damaged, 3) if found.damaged)
        )
    classes = sorted(set(named))
    number = {name: number for number, name in enumerate(classes)}
    labels = [number[name] for name in named]
    # captions seldom repeat, so no class has a share of its own there
    of_parts = [0] * len(labels) if settings.label == "caption" else labels
    names = [source.name(found.entries[row]) for row in rows]
    train, validation, test = (
        split_of(
            found,
            source,
            [rows[place] for place in part],
            [labels[place] for place in part],
            side=settings.side,
            channels=channels,
            readers=readers,
        )
        for part in picture_files.parted(names, of_parts, settings.validation_share, settings.test_share)
    )
    if not len(train) or not len(test):
        raise UserError(
            f"dataset.path={settings.path} has {len(rows)} pictures that can be used, of which {len(train)} are to "
            f"train on and {len(test)} to judge by. There must be one of each at least: put classes together, or add "
            "pictures."
        )
    return Dataset(
        name="folder",
        image_shape=(channels, settings.side, settings.side),
        class_names=tuple(_as_text(name) or NO_FOLDER for name in classes),
        train=MirroredSplit(train) if settings.flips else train,
        validation=validation,
        test=test,
        class_words=tuple(words(name) or f"{NO_FOLDER} {number}" for number, name in enumerate(classes)),
        classes_repeat=settings.label != "caption",
    )


def _as_text(name: str) -> str:
    """The name of a folder as files of results can hold it: names on a disk may be in another encoding than UTF-8."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def _named(settings: Folder, names: list[str]) -> tuple[list[str], list[int]]:
    """The class of each picture that has one, and which of the pictures those are."""
    if settings.label == "folder":
        return [picture_files.class_of(name) for name in names], list(range(len(names)))
    said = captions(Path(settings.path or ""))
    entries = [entry for entry, name in enumerate(names) if name in said]
    if less := len(names) - len(entries):
        print(f"    {less} pictures have no caption and are left out", flush=True)
    if more := sorted(said.keys() - set(settings.listing.names if settings.listing else ())):
        print(f"    {len(more)} captions are of no picture that there is, such as {more[0]}", flush=True)
    return _of_one_spelling([said[names[entry]] for entry in entries]), entries


def _of_one_spelling(found: list[str]) -> list[str]:
    """Captions with the same words are one class, called by the first of them: nothing could tell them apart."""
    first: dict[str, str] = {}
    for caption in sorted(set(found)):
        first.setdefault(words(caption) or caption, caption)
    return [first[words(caption) or caption] for caption in found]


def words(name: str) -> str:
    """A name or a caption as captions are written: small letters, digits, ' and - between spaces."""
    return " ".join(re.findall(r"[a-z0-9'-]+", name.lower().replace("_", " ")))
