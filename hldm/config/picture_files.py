"""Folders of pictures, listed and parted without opening a picture. Without torch: looked at before any work."""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from hldm.config.row_files import PART_OF

SUFFIXES = frozenset(
    ".avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()  # noqa: SIM905
)
"""Names that end so are taken for pictures, in small or capital letters. Their format is told by their content."""

PARTS = {**PART_OF, "validate": "validation"}
"""What folders are called that are parts of a data set, not classes → which part."""

METADATA = ("metadata.csv", "metadata.jsonl")
"""Where captions stand, in the form of Hugging Face's imagefolder."""

READ_OF_EACH = 256
"""Files whose content counts for a folder's identity, evenly spaced over all: the others count by name and size."""


@dataclass(frozen=True)
class Listing:
    """The files of a folder that are called like pictures, in the order of their names.

    Attributes:
        root: the folder.
        names: of the files below it, with / between folders.
        sizes: in bytes; times: of their last change, in nanoseconds.
    """

    root: Path
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    times: tuple[int, ...]

    @property
    def signature(self) -> str:
        """Another one where a file was added, removed or changed."""
        return _digest(repr((self.names, self.sizes, self.times)))

    @property
    def identity(self) -> str:
        """Equal for folders with the same pictures, wherever they lie: names, sizes, the content of some of them."""
        return _identity(self)


def listed(folder: str | Path) -> Listing:
    """The pictures in a folder and below it. Names that begin with a dot are left out, links are followed.

    Raises:
        OSError: the folder cannot be read.
    """
    root = Path(folder)
    found: list[tuple[str, int, int]] = []
    seen: set[tuple[int, int]] = set()

    def walk(here: Path, prefix: str) -> None:
        status = here.stat()
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(here) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    walk(Path(entry.path), f"{prefix}{entry.name}/")
                elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file():
                    found.append((prefix + entry.name, entry.stat().st_size, entry.stat().st_mtime_ns))

    walk(root, "")
    found.sort()
    names, sizes, times = zip(*found, strict=True) if found else ((), (), ())
    return Listing(root, names, sizes, times)


@lru_cache(maxsize=4)
def known(folder: str) -> Listing | None:
    """`listed`, once in this process; None where the folder cannot be read."""
    try:
        return listed(folder)
    except OSError:
        return None


@lru_cache(maxsize=4)
def _identity(listing: Listing) -> str:
    digest = hashlib.sha256(repr((listing.names, listing.sizes)).encode())
    step = max(1, -(-len(listing.names) // READ_OF_EACH))
    for name in listing.names[::step]:
        try:
            digest.update((listing.root / name).read_bytes())
        except OSError:  # it is named with the damaged ones when the pictures are looked through
            digest.update(b"unreadable")
    for name in METADATA:
        if (file := listing.root / name).is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


BLOCKS, BLOCK = 64, 4096
"""Of each large file, so many blocks of so many bytes count for identity, evenly spaced: reading all takes minutes."""


def sampled_digest(files: list[Path], root: Path | None = None) -> str:
    """A hash over the names, sizes and blocks of the content of large files, wherever they lie.

    Args:
        root: what their names are relative to; None: the folder of each.
    """
    times = tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    return _sampled(times, None if root is None else str(root))


@lru_cache(maxsize=4)
def _sampled(files: tuple[tuple[str, int, int], ...], root: str | None) -> str:
    digest = hashlib.sha256()
    for file, _, size in files:
        name = Path(file).name if root is None else Path(file).relative_to(root).as_posix()
        digest.update(f"{name} {size} ".encode(errors="surrogateescape"))
        with open(file, "rb") as content:
            for start in range(0, size, max(BLOCK, size // BLOCKS)):
                content.seek(start)
                digest.update(content.read(BLOCK))
    return digest.hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


# ------------------------------------------------------------------------------------------------------------- classes


def class_of(name: str) -> str:
    """The first folder on the way to a picture; "" for one that lies in none."""
    return name.partition("/")[0] if "/" in name else ""


# --------------------------------------------------------------------------------------------------------------- splits


def place(name: str) -> bytes:
    """Where a picture stands in the order that parts are cut from: random, but its own, whatever others there are."""
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()


def parts(total: int, validation_share: float, test_share: float) -> tuple[int, int, int]:
    """How many of a class's images are to train on, for choices, and to judge by. One at least, where there are 3."""
    least = 1 if total >= 3 else 0
    validation, test = (max(least, int(share * total)) if share else 0 for share in (validation_share, test_share))
    return total - validation - test, validation, test


def parted(
    names: list[str], labels: list[int], validation_share: float, test_share: float
) -> tuple[list[int], list[int], list[int]]:
    """Indices of the images to train on, for choices, and to judge by: of each class its share, each list mixed.

    A picture's part hangs on its name, so that one more picture moves few others.
    """
    places = [place(name) for name in names]
    of_class: dict[int, list[int]] = {}
    for index in sorted(range(len(names)), key=places.__getitem__):
        of_class.setdefault(labels[index], []).append(index)
    found: tuple[list[int], ...] = ([], [], [])
    for members in of_class.values():
        train, validation, test = parts(len(members), validation_share, test_share)
        ends = (0, test, test + validation, len(members))
        assert ends[-1] == train + validation + test
        for part, (start, end) in zip((found[2], found[1], found[0]), pairwise(ends), strict=True):
            part += members[start:end]
    for part in found:
        part.sort(key=places.__getitem__)
    return found[0], found[1], found[2]


def drawable(train: list[int], test: list[int]) -> int:
    """How many images can be drawn with classes as often as the test images have them, from counts of each class."""
    total = sum(test)
    # of each class its share and one more, as remainders are dealt out
    return max(0, min(((have - 1) * total // want for have, want in zip(train, test, strict=True) if want), default=0))
