"""Data sets of Hugging Face that lie on this disk: parquet files, or what `save_to_disk` of datasets wrote."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from hldm.config import picture_files
from hldm.config.pictures import HuggingFace
from hldm.data.dataset import Dataset
from hldm.data.folder import NO_FOLDER, words
from hldm.data.scan import scan, split_of
from hldm.data.streamed import MirroredSplit, Source
from hldm.errors import UserError
from hldm.files import write_atomically
from hldm.run import stop

PART = re.compile(r"(train|validation|valid|val|dev|test)(?![a-z])", re.IGNORECASE)
PARTS = {"valid": "validation", "val": "validation", "dev": "validation"}
ROWS_AT_ONCE = 256


class Rows(Source):
    """The rows of several arrow files, mapped into memory and never read as a whole.

    Args:
        root: what paths of pictures outside of the files are relative to.
        files: in Arrow's stream format; ends: of each one, the number of rows up to its end.
        column: of the pictures.
    """

    def __init__(self, root: Path, files: list[Path], ends: list[int], column: str) -> None:
        self.root, self.files, self.ends, self.column = root.resolve(), files, ends, column

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
        place = (self.root / path).resolve()
        if not place.is_relative_to(self.root):
            raise OSError(f"its path {path} leads out of the data set's folder")
        return place

    def name(self, entry: int) -> str:
        file, row = self._place(entry)
        return f"{self.files[file].name}, row {row}"

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
    """The table in an arrow file, mapped once by each process."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.memory_map(file)).read_all()


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
    parts = [_part(file.relative_to(root)) for file in files]
    schemas = [_schema(file) for file in files]
    schema = schemas[0]
    column, label = _image_column(schema, settings), _label_column(schema, settings)
    columns = [name for name in (column, label) if name]
    _check_columns(files, schemas, columns, label)
    arrows = [_as_arrow(file, root, columns, cache) for file in files]
    tables = [table(str(arrow), os.getpid()) for arrow in arrows]
    source = Rows(root, arrows, list(accumulate(len(rows) for rows in tables)), column)
    values = [value for rows in tables for value in (rows[label].to_pylist() if label else [0] * len(rows))]
    part_of = [part for part, rows in zip(parts, tables, strict=True) for _ in range(len(rows))]

    signature = repr(([_known(file, root) for file in files], column, source.beside()))
    channels = settings.image_channels
    found = scan(source, signature, settings.side, channels, cache)
    classes = sorted({values[entry] for entry in found.entries}, key=lambda value: (value is None, value))
    number = {value: number for number, value in enumerate(classes)}
    labels = [number[values[entry]] for entry in found.entries]
    of_parts = _parted([part_of[entry] for entry in found.entries], labels, settings)
    known = _label_names(schema, label)
    names = [
        known[value] if isinstance(value, int) and 0 <= value < len(known) else str(value) if label else NO_FOLDER
        for value in classes
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
            f"are to train on and {len(test)} to judge by. There must be one of each at least."
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


def _part(file: Path) -> str:
    """train, validation or test, as the first folder or the file is called; train where neither says."""
    found = next((match for name in file.parts if (match := PART.match(name))), None)
    return "train" if found is None else PARTS.get(found[1].lower(), found[1].lower())


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


def _schema(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return (
            pq.read_schema(file) if file.suffix == ".parquet" else pa.ipc.open_stream(pa.memory_map(str(file))).schema
        )
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file} cannot be read: {error}. Fetch it again.") from None


def _features(schema: Any) -> dict[str, Any]:
    """What datasets says of the columns; {} where it says nothing."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _image_column(schema: Any, settings: HuggingFace) -> str:
    """The column of pictures: the named one, image or img, or the only one whose type can be."""
    if settings.image is not None:
        if settings.image not in schema.names:
            raise UserError(f"dataset.image={settings.image} is not a column: there are {', '.join(schema.names)}.")
        return settings.image
    features = _features(schema)
    said = [
        name for name in schema.names if isinstance(features.get(name), dict) and features[name].get("_type") == "Image"
    ]
    types = {name: str(schema.field(name).type) for name in schema.names}
    can_be = said or [name for name, kind in types.items() if kind in ("binary", "large_binary") or "bytes: " in kind]
    usual = [name for name in ("image", "img") if name in can_be]
    if not usual and len(can_be) != 1:
        raise UserError(
            f"dataset.path={settings.path} has {len(can_be)} columns that can be pictures, of "
            f"{', '.join(schema.names)}. Say which: dataset.image=<column>."
        )
    return (usual or can_be)[0]


def _label_column(schema: Any, settings: HuggingFace) -> str | None:
    if settings.label is None:
        return "label" if "label" in schema.names else None
    if settings.label not in schema.names:
        raise UserError(f"dataset.label={settings.label} is not a column: there are {', '.join(schema.names)}.")
    return settings.label


def _check_columns(files: list[Path], schemas: list[Any], columns: list[str], label: str | None) -> None:
    """Raise UserError where a file lacks a column, or labels are nothing that classes can be told by."""
    import pyarrow as pa

    def kind(schema: Any) -> str:
        found = schema.field(label).type
        found = found.value_type if pa.types.is_dictionary(found) else found
        return "a number" if pa.types.is_integer(found) else str(found)

    for file, schema in zip(files, schemas, strict=True):
        if lacking := [name for name in columns if name not in schema.names]:
            raise UserError(
                f"{file} has no column {lacking[0]}, as {files[0]} has: there are {', '.join(schema.names)}. Move "
                "files of another kind elsewhere, or name columns that all have: dataset.image=…, dataset.label=…."
            )
        if label is None:
            continue
        if pa.types.is_nested(schema.field(label).type):
            raise UserError(
                f"dataset.label={label} has several values in a row ({schema.field(label).type}), so there is no one "
                f"class. Name another column of {', '.join(schema.names)}."
            )
        if kind(schema) != kind(schemas[0]):
            raise UserError(
                f"dataset.label={label} is {kind(schema)} in {file} and {kind(schemas[0])} in {files[0]}. Move files "
                "of another kind elsewhere, or name another column."
            )


def _label_names(schema: Any, label: str | None) -> list[str]:
    feature = _features(schema).get(label or "", {})
    names = feature.get("names") if isinstance(feature, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else []


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
    except pa.ArrowException as error:
        raise UserError(f"{file} cannot be read: {error}. Fetch it again.") from None
    return path


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
