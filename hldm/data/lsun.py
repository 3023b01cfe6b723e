"""LSUN (Yu et al. 2015): databases of encoded pictures, of which only the keys are read beforehand.

Legend: N entries, whose keys have W bytes, 40 as published.
"""

import hashlib
import os
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Generator, Tensor

from hldm.config.pictures import LSUN
from hldm.data.dataset import Dataset
from hldm.data.streamed import MirroredSplit, Source, StreamedSplit
from hldm.errors import UserError
from hldm.files import remove_left_behind, write_atomically
from hldm.run import stop

KEYS_AT_ONCE = 65_536


class Database(Source):
    """Several LMDBs one behind the other.

    Args:
        folders: of the LMDBs.
        keys: of each one, bytes of a fixed width (N,), in the order of the database.
    """

    def __init__(self, folders: list[Path], keys: list[NDArray[np.bytes_]]) -> None:
        self.folders, self.keys = folders, keys
        self.ends = list(accumulate(map(len, keys)))
        self.digest = hashlib.sha256(b"".join(np.ascontiguousarray(own).data for own in keys)).hexdigest()
        """Of all keys."""

    def __len__(self) -> int:
        return self.ends[-1]

    def content(self, entry: int) -> bytes:
        import lmdb

        place, key = self._key(entry)
        try:
            with environment(self.folders[place]).begin() as transaction:
                found: bytes | None = transaction.get(key)
        except lmdb.Error as error:
            raise OSError(str(error)) from None
        if found is None:
            raise OSError("it is no longer there")
        return found

    def name(self, entry: int) -> str:
        place, key = self._key(entry)
        return f"{self.folders[place].name}/{key.decode(errors='replace')}"

    def _key(self, entry: int) -> tuple[int, bytes]:
        place = int(np.searchsorted(self.ends, entry, side="right"))
        return place, bytes(self.keys[place][entry - (self.ends[place - 1] if place else 0)])


_open: dict[str, Any] = {}


def environment(folder: Path) -> Any:
    """The LMDB in a folder, opened when it is first asked for and then kept open.

    Raises:
        OSError: its file is shorter than it says itself: whoever reads a page behind its end is killed.
        lmdb.Error: it is none.
    """
    import lmdb

    key = str(folder.resolve())  # lmdb opens a file once in a process
    if key not in _open:
        opened = lmdb.open(key, readonly=True, lock=False, readahead=False, meminit=False, max_readers=1)
        needs = (opened.info()["last_pgno"] + 1) * opened.stat()["psize"]
        if (has := (folder / "data.mdb").stat().st_size) < needs:
            opened.close()
            raise OSError(f"data.mdb has {has} bytes of {needs}")
        _open[key] = opened
    return _open[key]


def _close() -> None:
    while _open:
        _open.popitem()[1].close()


# what a parent has open is not its children's to use, nor to open again; the parent opens it anew
os.register_at_fork(before=_close)


def keys_of(folder: Path, cache: Path) -> NDArray[np.bytes_]:
    """The keys of an LMDB, (N,) of W bytes each, mapped from a file in `cache` that is written where it is not there.

    Values are not read for it, which makes minutes of hours. The file is known by size and time of change of the
    database, and compared with its number of entries.

    Raises:
        UserError: the folder holds no LMDB, a damaged one, or one without entries.
    """
    import lmdb

    status = (folder / "data.mdb").stat()
    known = f"{folder.name} {status.st_size} {status.st_mtime_ns}"
    path = cache / f"lsun-{hashlib.sha256(known.encode()).hexdigest()[:32]}.npy"
    try:
        entries = int(environment(folder).stat()["entries"])
    except (lmdb.Error, OSError) as error:
        raise _damaged(folder, error) from None
    if not entries:
        raise UserError(f"{folder} has no entries. Unpack it again.")
    try:
        keys: NDArray[np.bytes_] = np.load(path, mmap_mode="r", allow_pickle=False)
        if keys.dtype.kind == "S" and keys.shape == (entries,):
            return keys
    except (OSError, ValueError, EOFError):
        pass  # not there yet, or not whole
    remove_left_behind(cache)
    try:
        write_atomically(path, lambda file: _write_keys(folder, entries, file))
    except lmdb.Error as error:
        raise _damaged(folder, error) from None
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder} cannot be read as an LMDB: {error}. Unpack it again.")


def _write_keys(folder: Path, entries: int, file: Path) -> None:
    """As fixed-width bytes; a key that ends in zeros would lose them, and is refused."""
    import lmdb

    name = folder.name
    with environment(folder).begin() as transaction, Progress(transient=True) as progress:
        bar = progress.add_task(f"    keys of {name}", total=entries)
        cursor = transaction.cursor()
        cursor.first()
        width = len(first := bytes(cursor.key()))
        keys = np.empty(entries, dtype=f"S{width}")
        part: list[bytes] = []
        done = 0
        for key in cursor.iternext(keys=True, values=False):
            if len(key) > width or key.endswith(b"\0"):
                raise UserError(f"{name} has the key {key!r}: they should all be like {first!r}, as in LSUN.")
            part.append(key)
            if done + len(part) > entries:
                break
            if len(part) == KEYS_AT_ONCE:
                stop.check()
                keys[done : done + len(part)] = part
                done += len(part)
                part.clear()
                progress.update(bar, completed=done)
        if done + len(part) != entries:
            raise lmdb.CorruptedError(f"it has not the {entries} keys that it speaks of")
        keys[done:] = part
    with file.open("wb") as out:  # np.save would give the name another ending
        np.save(out, keys, allow_pickle=False)


def lsun(settings: LSUN, *, cache: Path, readers: int = 0) -> Dataset:
    """Scenes or objects of one category or several, a class each, streamed.

    Args:
        settings: the folder, categories, preprocessing, how many training images are set aside, and how many of the
            others samples are held against.
        cache: where keys are kept.
        readers: processes that read ahead.

    Raises:
        UserError: a database is not there, cannot be read, or is too small.
    """
    if said := settings.missing():
        raise UserError(said)
    channels = settings.image_channels
    trained = settings.folders("train")
    folders = [*trained, *settings.folders("val")]
    source = Database(folders, [keys_of(folder, cache) for folder in folders])
    is_object = [settings.is_object(category) for category in settings.categories]
    class_of = torch.tensor([*range(len(trained)), *(i for i, single in enumerate(is_object) if not single)])

    def classes(entries: Tensor) -> Tensor:
        return class_of[np.searchsorted(source.ends, entries.numpy(), side="right")]

    def shuffled(first: int, end: int) -> Tensor:
        """As keys may be in the order of anything."""
        return first + torch.randperm(end - first, generator=Generator().manual_seed(0))

    total = source.ends[len(trained) - 1]
    order, test = shuffled(0, total), shuffled(total, len(source))
    for label in (i for i, single in enumerate(is_object) if single):
        own = (classes(order) == label).nonzero().flatten()
        # from the end, so that the front, of which validation and reference are taken, stays mixed
        own = own[-max(1, min(settings.VALIDATION_OF_A_SCENE, len(own) // 10)) :]
        test = torch.cat([test, order[own]])
        order = order[~torch.isin(torch.arange(len(order)), own)]
    if len(order) - settings.validation_images < 2:
        raise UserError(
            f"dataset.validation_images={settings.validation_images} leaves nothing to train on of {len(order)} "
            f"images. "
            + (
                f"Type dataset.validation_images={len(order) // 20}."
                if settings.validation_images
                else "Take categories that have more."
            )
        )
    validation, kept = order.tensor_split([settings.validation_images])

    counts = classes(kept).bincount(minlength=len(trained)).tolist()
    if lost := [name for name, count in zip(settings.categories, counts, strict=True) if not count]:
        raise UserError(
            f"dataset.categories has {', '.join(lost)}, with so few images that none is left to train on beside "
            f"dataset.validation_images={settings.validation_images}. Leave {'it' if len(lost) == 1 else 'them'} out, "
            "or type fewer validation images."
        )

    def split(entries: Tensor) -> StreamedSplit:
        content = f"{settings.by_content()} {source.digest} {hashlib.sha256(entries.numpy().data).hexdigest()}"
        return StreamedSplit(
            source,
            entries.numpy(),
            classes(entries),
            side=settings.side,
            channels=channels,
            content=content,
            readers=readers,
        )

    train = split(kept)
    return Dataset(
        name="lsun",
        image_shape=(channels, settings.side, settings.side),
        class_names=settings.categories,
        train=MirroredSplit(train) if settings.flips else train,
        validation=split(validation),
        test=split(test),
        class_words=tuple(category.replace("_", " ").lower() for category in settings.categories),
        # half of them at most, as the floor is drawn from the others
        held_against=split(kept[: min(settings.reference_images, len(kept) // 2)]),
    )
