"""Files of rows as Hugging Face keeps them: of which part each is, and which columns are pictures and classes.

Without torch: looked at before any work. Of a file only its head or foot is read.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hldm.errors import UserError

KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Part → what `datasets` takes for it in names of files and folders."""

PART_OF = {word: part for part, words in KEYWORDS.items() for word in words}

WORD = re.compile(rf"(?<![^-._ 0-9])({'|'.join(PART_OF)})(?![^-._ 0-9])", re.IGNORECASE)
"""A keyword between what `datasets` takes for separators."""


# ---------------------------------------------------------------------------------------------------------------- parts


def parts(root: Path, files: list[Path]) -> list[str]:
    """train, validation or test for each file; train for all where no name says."""
    return [part or "train" for part, _ in _said(root, files)]


def badly_parted(root: Path, files: list[Path]) -> str | None:
    """What is wrong with the names, in a sentence; None where each file has one part, and all are of one data set."""
    said = _said(root, files)
    if not any(part for part, _ in said):
        return None
    for file, (part, _) in zip(files, said, strict=True):
        if part is None:
            other = next(file for file, (part, _) in zip(files, said, strict=True) if part)
            return (
                f"{file} does not say by its name which part it is, and {other} does. Call it train, validation or "
                "test, or move it out of dataset.path."
            )
    for wanted in KEYWORDS:
        places = sorted({place for part, place in said if part == wanted})
        if len(places) > 1:
            return (
                f"dataset.path={root} has {wanted} files in {len(places)} places, such as {root / places[0]} and "
                f"{root / places[1]}: several data sets, or configurations of one. Type "
                f"dataset.path={root / next(place for place in places if place.parts)}, or another one."
            )
    return None


def _said(root: Path, files: list[Path]) -> list[tuple[str | None, Path]]:
    """Of each file the part that its first folder or the file says, None for none, and the folder that is in."""
    found: list[tuple[str | None, Path]] = []
    for file in files:
        names = file.relative_to(root).parts
        for depth, name in enumerate(names):
            own = {PART_OF[word.lower()] for word in WORD.findall(name)}
            if len(own) == 1:  # one that says two says neither
                found.append((own.pop(), Path(*names[:depth])))
                break
        else:
            found.append((None, Path(*names[:-1])))
    return found


# -------------------------------------------------------------------------------------------------------------- columns


@dataclass(frozen=True)
class Columns:
    """What is read of the files.

    Attributes:
        image: the column of pictures.
        label: the column of classes, None for none.
        names: of the classes whose labels are 0, 1, …, as the files say; () where they do not.
    """

    image: str
    label: str | None
    names: tuple[str, ...]

    @property
    def all(self) -> list[str]:
        return [self.image, self.label] if self.label else [self.image]


def columns(root: Path, files: list[Path], image: str | None, label: str | None) -> Columns:
    """The columns of pictures and classes, which every file has.

    Args:
        image, label: as the user named them.

    Raises:
        UserError: a file cannot be read or lacks a column, or a column is not what its name says.
    """
    status = [file.stat() for file in files]
    schemas = [schema(str(file), own.st_size, own.st_mtime_ns) for file, own in zip(files, status, strict=True)]
    pictures = _image_column(root, schemas, image)
    if label is None:
        classes = "label" if pictures != "label" and any("label" in own.names for own in schemas) else None
    else:
        classes = label
        if not any(label in own.names for own in schemas):
            raise UserError(f"dataset.label={label} is not a column: there are {', '.join(schemas[0].names)}.")
        if label == pictures:
            raise UserError(
                f"dataset.label={label} is the column of the pictures. Name another one of "
                f"{', '.join(schemas[0].names)}."
            )
    named = list(zip(files, schemas, strict=True))
    _check_there(root, named, [name for name in (pictures, classes) if name], classes)
    _check_pictures(named, pictures)
    if classes is not None:
        _check_labels(named, classes)
    return Columns(pictures, classes, _class_names(named, classes))


@lru_cache(maxsize=8192)
def schema(file: str, size: int, time: int) -> Any:
    """What columns a file has, read once for as long as it has this size and time of change.

    Raises:
        UserError: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(file) if file.endswith(".parquet") else opened(file).schema
    except (OSError, pa.ArrowException) as error:
        raise damaged(file, error) from None


def damaged(file: str | Path, error: Exception) -> UserError:
    """A sentence about a file that cannot be read; arrow's reasons have lines and full stops of their own."""
    return UserError(f"{file} cannot be read: {' '.join(str(error).split()).rstrip('.')}. Fetch it again.")


def opened(file: str) -> Any:
    """A reader of an arrow file, mapped into memory, in either of Arrow's formats: streamed, or with random access."""
    import pyarrow as pa

    content = pa.memory_map(file)
    has_foot = content.read(6) == b"ARROW1"
    content.seek(0)
    return pa.ipc.open_file(content) if has_foot else pa.ipc.open_stream(content)


def _features(schema: Any) -> dict[str, Any]:
    """What datasets says of the columns; {} where it says nothing."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _image_column(root: Path, schemas: list[Any], image: str | None) -> str:
    """The column of pictures: the named one, image or img, or the only one whose type can be."""
    first = schemas[0]
    if image is not None:
        if image not in first.names:
            raise UserError(f"dataset.image={image} is not a column: there are {', '.join(first.names)}.")
        return image
    features = _features(first)
    said = [
        name for name in first.names if isinstance(features.get(name), dict) and features[name].get("_type") == "Image"
    ]
    can_be = said or [name for name in first.names if _holds_bytes(first.field(name).type)]
    usual = [name for name in ("image", "img") if name in can_be]
    if not usual and len(can_be) != 1:
        raise UserError(
            f"dataset.path={root} has {len(can_be)} columns that can be pictures, of "
            f"{', '.join(first.names)}. Say which: dataset.image=<column>."
        )
    return (usual or can_be)[0]


def _holds_bytes(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _check_there(root: Path, named: list[tuple[Path, Any]], wanted: list[str], label: str | None) -> None:
    of_parts = parts(root, [file for file, _ in named])
    for (file, own), part in zip(named, of_parts, strict=True):
        if lacking := next((name for name in wanted if name not in own.names), None):
            other = next(file for file, schema in named if lacking in schema.names)
            remedy = (
                "Labels may be hidden there: move the files of the test part away, and dataset.test_share of the "
                "others is judged by."
                if lacking == label and part == "test"
                else "Move files of another kind elsewhere, or name columns that all have: dataset.image=…, "
                "dataset.label=…."
            )
            raise UserError(
                f"{file} has no column {lacking}, as {other} has: there are {', '.join(own.names)}. {remedy}"
            )


def _check_pictures(named: list[tuple[Path, Any]], image: str) -> None:
    import pyarrow as pa

    for file, own in named:
        kind = own.field(image).type
        if not _holds_bytes(kind) and not (pa.types.is_struct(kind) and kind.get_field_index("path") >= 0):
            others = [name for name in own.names if _holds_bytes(own.field(name).type)]
            raise UserError(
                f"dataset.image={image} holds {kind} in {file}, and pictures are the bytes of their files. "
                + (f"Name another column, such as {others[0]}." if others else "No other column of it has them.")
            )


def _check_labels(named: list[tuple[Path, Any]], label: str) -> None:
    """Raise UserError where labels are nothing that classes can be told by, or of two kinds."""
    import pyarrow as pa

    def kind(schema: Any) -> str:
        found = schema.field(label).type
        found = found.value_type if pa.types.is_dictionary(found) else found
        return "a number" if pa.types.is_integer(found) else str(found)

    first, of_first = named[0]
    for file, own in named:
        if pa.types.is_nested(own.field(label).type):
            raise UserError(
                f"dataset.label={label} has several values in a row ({own.field(label).type}), so there is no one "
                f"class. Name another column of {', '.join(own.names)}."
            )
        if kind(own) != kind(of_first):
            raise UserError(
                f"dataset.label={label} is {kind(own)} in {file} and {kind(of_first)} in {first}. Move files "
                "of another kind elsewhere, or name another column."
            )


def _class_names(named: Iterable[tuple[Path, Any]], label: str | None) -> tuple[str, ...]:
    """What the labels 0, 1, … are called.

    Raises:
        UserError: in two files they are called differently, so that one number is two classes.
    """
    known = [(file, names) for file, own in named if (names := tuple(_names_of(own, label)))]
    for file, names in known:
        first, others = known[0]
        if names != others:
            at = next((i for i, (one, two) in enumerate(zip(names, others, strict=False)) if one != two), None)
            differs = (
                f"has {len(names)} classes in {file} and {len(others)} in {first}"
                if at is None
                else f"calls class {at} {names[at]} in {file} and {others[at]} in {first}"
            )
            raise UserError(
                f"dataset.label={label} {differs}. Write the files anew with the same names of classes in one "
                "order (`cast` of datasets does it), or move some elsewhere."
            )
    return known[0][1] if known else ()


def _names_of(schema: Any, label: str | None) -> Iterator[str]:
    feature = _features(schema).get(label or "", {})
    names = feature.get("names") if isinstance(feature, dict) else None
    yield from map(str, names if isinstance(names, list) else [])
