"""Published archives: from a folder, or fetched; nothing in them is read before their checksum is right."""

import gzip
import hashlib
import http.client
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.error import URLError

from torchvision.datasets.utils import download_url

from hldm.errors import UserError
from hldm.files import write_atomically


@dataclass(frozen=True)
class Archive:
    """A file as it was published.

    Attributes:
        name: of the file; md5: of its content.
        urls: where it can be fetched, as torchvision does.
        kept: folder below its root into which torchvision puts it.
    """

    name: str
    md5: str
    urls: tuple[str, ...]
    kept: str = ""

    def content(self, option: str, folder: str | None, cache: Path) -> bytes:
        """What is in the file.

        Args:
            option: the data set, for messages.
            folder: where the user has it; None: in the cache, to which it is fetched where it is not there.

        Raises:
            UserError: it is neither there nor to be fetched, or not the published one.
        """
        remedy = f"Fetch {self.urls[0]} (md5 {self.md5}) to a folder, and type dataset=… dataset.folder=<that folder>."
        remedy = remedy.replace("dataset=…", f"dataset={option}")
        path = self._found(Path(folder)) if folder is not None else cache / option / self.name
        if path is None:
            raise UserError(f"dataset.folder={folder} has no {self.name}. {remedy}")
        if folder is None and not path.is_file():
            self._fetch(path, option, remedy)
        content = path.read_bytes()
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != self.md5:
            if folder is None:
                path.unlink()  # the next command fetches it again
            raise UserError(f"{path} is not the published file: its md5 is {found}, it should be {self.md5}. {remedy}")
        return content

    def _found(self, folder: Path) -> Path | None:
        places = (folder / self.name, folder / self.kept / self.name)
        return next((place for place in places if place.is_file()), None)

    def _fetch(self, path: Path, option: str, remedy: str) -> None:
        print(f"    fetching {self.name} for dataset={option}", flush=True)
        reason = ""
        for url in self.urls:
            try:
                # another process may fetch it too: the name is there when the file is whole
                write_atomically(path, partial(self._download, url))
                return
            # no net, no such file, a wrong checksum (RuntimeError), a connection that breaks off
            except (URLError, OSError, RuntimeError, http.client.HTTPException) as error:
                reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"dataset={option} needs {self.name}, which cannot be fetched here ({reason}). {remedy}")

    def _download(self, url: str, path: Path) -> None:
        download_url(url, path.parent, path.name, self.md5)


def of_mirrors(resources: Iterable[tuple[str, str]], mirrors: Iterable[str], kept: str) -> list[Archive]:
    """The archives in torchvision's lists of (name, md5) and of places."""
    places = tuple(mirrors)
    return [Archive(name, md5, tuple(place + name for place in places), kept) for name, md5 in resources]


def unpacked(content: bytes, name: str) -> bytes:
    """The content of a gzip file.

    Raises:
        UserError: it cannot be unpacked.
    """
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{name} cannot be unpacked: {error}.") from None
