"""Captions of the pictures of a folder, in the form of Hugging Face's imagefolder. Without torch."""

import csv
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from hldm.config.picture_files import METADATA, SUFFIXES
from hldm.errors import UserError

COLUMNS = ("text", "caption")
"""Columns of captions, the first one of them that is filled."""

RULE = f'It must have "file_name", relative to the folder, and "{COLUMNS[0]}" or "{COLUMNS[1]}" for each picture.'


def captions(root: Path) -> dict[str, str]:
    """Picture → caption, from metadata.csv or metadata.jsonl in the folder, not to be written to; {} for neither.

    Raises:
        UserError: such a file cannot be read, or it is not clear from it which caption a picture has.
    """
    file = next((root / name for name in METADATA if (root / name).is_file()), None)
    if file is None:
        return {}
    status = file.stat()
    return _read(str(file), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=2)
def _read(file: str, size: int, time: int) -> dict[str, str]:
    """`captions`, once for as long as the file has this size and time of change."""
    found: dict[str, str] = {}
    for number, row in enumerate(_rows(Path(file)), start=1):
        if None in row:  # what csv has beyond the headings
            raise UserError(
                f"{file} has more columns than headings in its entry {number}. Write a caption with commas between "
                'quotation marks: "red, and more".'
            )
        name = row.get("file_name")
        caption = next(
            (text for column in COLUMNS if isinstance(text := row.get(column), str) and text.strip()),
            None,
        )
        if not isinstance(name, str) or not name or caption is None:
            raise UserError(f"{file} lacks a name or a caption in its entry {number}. {RULE} {_there_are(list(row))}")
        if "\n" in name or any(_is_row(line) for line in caption.splitlines()[1:]):
            raise UserError(
                f"{file} has a quotation mark in its entry {number} that is not closed there, so that further lines "
                'belong to it. Write "" for a quotation mark inside of a caption.'
            )
        name = name.replace("\\", "/").removeprefix("./")
        if found.setdefault(name, caption) != caption:
            raise UserError(
                f"{file} has two captions for {name}, the second in its entry {number}. Leave one of them out."
            )
    if not found:
        raise UserError(f"{file} has no entries. {RULE}")
    return found


def _is_row(line: str) -> bool:
    """Whether a line of a caption is called like a picture up to its comma."""
    name, comma, _ = line.partition(",")
    return bool(comma) and Path(name).suffix.lower() in SUFFIXES


def _there_are(columns: Sequence[object]) -> str:
    said = f"There are {', '.join(map(str, columns))}."
    if len(columns) == 1 and any(mark in str(columns[0]) for mark in ";\t"):
        said += " Separate columns by commas."
    return said


def _rows(file: Path) -> Iterator[dict[object, object]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            if file.suffix == ".csv":
                for row in csv.DictReader(lines, strict=True):
                    yield dict(row)
            else:
                for line in filter(str.strip, lines):
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError(f"a line is {line.strip()[:40]!r}, and must be an object in braces")
                    yield row
    except UnicodeDecodeError as error:
        raise UserError(f"{file} cannot be read: {error}. Save it as UTF-8.") from None
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {error}. {RULE}") from None
