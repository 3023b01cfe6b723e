"""Data sets of Hugging Face that lie on this disk: parquet files, or what `save_to_disk` of datasets wrote."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from hldm.config import picture_files, row_files
from hldm.config.pictures import HuggingFace
from hldm.data.dataset import Dataset
from hldm.data.folder import NO_FOLDER, words
from hldm.data.scan import scan, split_of
from hldm.data.streamed import MirroredSplit, Source
from hldm.errors import UserError
from hldm.files import write_atomically
from hldm.run import stop

ROWS_AT_ONCE = 256


class Rows(Source):
    """The rows of several arrow files, mapped into memory and never read as a whole.

    Args:
        root: what paths of pictures outside of the files are relative to.
        files: in Arrow's formats; ends: of each one, the number of rows up to its end.
        column: of the pictures.
        names: what messages call the files.
    """

    def __init__(self, root: Path, files: list[Path], ends: list[int], column: str, names: list[str]) -> None:
        self.root, self.files, self.ends, self.column, self.names = root.resolve(), files, ends, column, names

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def content(self, entry: int) -> bytes:
        file, row = self._place(entry)
        value = table(str(self.files[file]), os.getpid())[self.column][row].as_py()
        if isinstance(value, dict):
            if value.get("bytes") is None and value.get("path"):
                return self._beside(value["path"]).read_bytes()
            value = value.get("bytes")
        if not isinstance(value, bytes):
            raise OSError("the row has no picture")
        return value

    def beside(self) -> list[tuple[str, int, int]]:
        """Of each picture outside of the files its path, size and time of change; those that are not there left out."""
        found = []
        for file in self.files:
            for path in _paths(table(str(file), os.getpid())[self.column]):
                with suppress(OSError):
                    status = self._beside(path).stat()
                    found.append((path, status.st_size, status.st_mtime_ns))
        return found

    def _beside(self, path: str) -> Path:
        try:
            place = (self.root / path).resolve()
        except ValueError as error:  # a zero in it
            raise OSError(f"its path {path!r} is none: {error}") from None
        if not place.is_relative_to(self.root):
            raise OSError(f"its path {path} leads out of the data set's folder")
        return place

    def name(self, entry: int) -> str:
        file, row = self._place(entry)
        return f"{self.names[file]}, row {row}"

    def _place(self, entry: int) -> tuple[int, int]:
        file = int(np.searchsorted(self.ends, entry, side="right"))
        return file, entry - (self.ends[file - 1] if file else 0)


def _paths(column: Any) -> Iterator[str]:
    """Where the pictures of a column lie of which it has no bytes itself."""
    import pyarrow as pa

    if not pa.types.is_struct(column.type) or column.type.get_field_index("path") < 0:
        return
    has_bytes = column.type.get_field_index("bytes") >= 0
    for part in column.chunks:
        paths = part.field("path")
        yield from filter(None, (paths.filter(part.field("bytes").is_null()) if has_bytes else paths).to_pylist())


@lru_cache(maxsize=4096)
def table(file: str, process: int) -> Any:
    """The table in an arrow file, mapped once by each process.

    Raises:
        OSError: it cannot be read.
    """
    import pyarrow as pa

    try:
        return row_files.opened(file).read_all()
    except pa.ArrowException as error:
        raise OSError(str(error)) from None


def huggingface(settings: HuggingFace, *, cache: Path, readers: int = 0) -> Dataset:
    """Pictures in the rows of a data set.

    Parts are told by the names of files and folders: train, validation, test. What there is not is cut from the
    training part, of each class its share. Parquet files are laid out once in `cache`, as arrow files, which can be
    mapped.

    Args:
        settings: the folder, columns, preprocessing, shares.
        cache: where arrow files and what is found are kept.
        readers: processes that read ahead.

    Raises:
        UserError: there is no such folder, no such column, or a file cannot be read.
    """
    if said := settings.missing():
        raise UserError(said)
    root, files = Path(settings.path or ""), settings.files
    columns = settings.columns
    label = columns.label
    arrows = [_as_arrow(file, root, columns.all, cache) for file in files]
    tables = [_whole(file, arrow, columns.all) for file, arrow in zip(files, arrows, strict=True)]
    names = [file.relative_to(root).as_posix() for file in files]
    source = Rows(root, arrows, list(accumulate(len(rows) for rows in tables)), columns.image, names)
    labels_of_files = (rows[label].to_pylist() if label else [None] * len(rows) for rows in tables)
    values: list[Any] = [None if value != value else value for of_file in labels_of_files for value in of_file]  # NaN
    if 0 < (unknown := values.count(None)) < len(values):
        raise UserError(
            f"dataset.label={label} says no class (null, or NaN) in {unknown} of {len(values)} rows. Write a class "
            "there, leave these rows out, or name another column."
        )
    of_files = row_files.parts(root, files)
    part_of = [part for part, rows in zip(of_files, tables, strict=True) for _ in range(len(rows))]

    signature = repr(([_known(file, root) for file in files], columns.image, source.beside()))
    channels = settings.image_channels
    found = scan(source, signature, settings.side, channels, cache)
    classes = sorted({values[entry] for entry in found.entries})
    number = {value: number for number, value in enumerate(classes)}
    labels = [number[values[entry]] for entry in found.entries]
    of_parts = _parted([part_of[entry] for entry in found.entries], labels, settings)
    known = columns.names
    names = [
        known[value] if isinstance(value, int) and 0 <= value < len(known) else str(value)
        for value in (NO_FOLDER if value is None else value for value in classes)
    ]
    train, validation, test = (
        split_of(
            found, source, rows, [labels[row] for row in rows], side=settings.side, channels=channels, readers=readers
        )
        for rows in of_parts
    )
    if not len(train) or not len(test):
        raise UserError(
            f"dataset.path={settings.path} has {len(found.entries)} pictures that can be read, of which {len(train)} "
            f"are to train on and {len(test)} to judge by. There must be one of each at least: a class of fewer than 3 "
            "has none to judge by. Name another column of classes, dataset.label=…, or add pictures."
        )
    if untrained := sorted({labels[row] for row in of_parts[2]} - {labels[row] for row in of_parts[0]}):
        raise UserError(
            f"dataset.path={settings.path} has test images of {len(untrained)} classes of which there is none to train "
            f"on, such as {names[untrained[0]]}: labels may be hidden there. Move the files of the test part away: "
            "dataset.test_share of the others is then judged by."
        )
    return Dataset(
        name="huggingface",
        image_shape=(channels, settings.side, settings.side),
        class_names=tuple(names),
        train=MirroredSplit(train) if settings.flips else train,
        validation=validation,
        test=test,
        class_words=tuple(words(name) or f"{NO_FOLDER} {number}" for number, name in enumerate(names)),
    )


def _parted(parts: list[str], labels: list[int], settings: HuggingFace) -> tuple[list[int], list[int], list[int]]:
    """Rows of the three parts, each list mixed: rows often stand class by class, and the first ones are looked at."""
    rows = {part: [row for row, own in enumerate(parts) if own == part] for part in ("train", "validation", "test")}
    for part, shares in (("test", (0.0, settings.test_share)), ("validation", (settings.validation_share, 0.0))):
        if rows[part]:
            continue
        own = rows["train"]
        cut = picture_files.parted([str(row) for row in own], [labels[row] for row in own], *shares)
        rows["train"], rows[part] = [own[place] for place in cut[0]], [own[place] for place in cut[1] + cut[2]]
    train, validation, test = (
        sorted(rows[part], key=lambda row: picture_files.place(str(row))) for part in ("train", "validation", "test")
    )
    return train, validation, test


def _known(file: Path, root: Path) -> tuple[str, int, int]:
    """Another one for every file of a data set, and where the file changed; the same wherever the data set lies."""
    status = file.stat()
    return file.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns


def _as_arrow(file: Path, root: Path, columns: list[str], cache: Path) -> Path:
    """The file itself, or of a parquet file its columns as an arrow file in `cache`, written where it is not there.

    Raises:
        UserError: it cannot be read, or the disk is too small.
    """
    if file.suffix == ".arrow":
        return file
    import pyarrow as pa

    size = file.stat().st_size
    known = repr((*_known(file, root), columns))
    path = cache / f"rows-{hashlib.sha256(known.encode()).hexdigest()[:32]}.arrow"
    if path.is_file():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(cache).free) < 1.2 * size:
        raise UserError(
            f"{file} takes {size >> 20} MiB, and is laid out for reading in {cache}, where {free >> 20} MiB "
            "are free. Make room, or type paths.outputs=<a folder on another disk>."
        )
    try:
        write_atomically(path, lambda out: _lay_out(file, columns, out))
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's, not of what is in the file
            raise
        raise row_files.damaged(file, error) from None
    return path


def _whole(file: Path, arrow: Path, columns: list[str]) -> Any:
    """The table in `arrow`, as `file` was laid out, whose offsets lead nowhere outside of it.

    Raises:
        UserError: it is damaged.
    """
    import pyarrow as pa

    try:
        rows = table(str(arrow), os.getpid())
        rows.select(columns).validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise row_files.damaged(file, error) from None
    return rows


def _lay_out(file: Path, columns: list[str], out: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pq.ParquetFile(file)
    schema = pa.schema([rows.schema_arrow.field(name) for name in columns])
    with pa.OSFile(str(out), "wb") as written, pa.ipc.new_stream(written, schema) as stream:
        for batch in _batches(rows, columns):
            stream.write_batch(batch.select(columns))


def _batches(rows: Any, columns: list[str]) -> Iterator[Any]:
    for batch in rows.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns):
        stop.check()
        yield batch
