"""The four files of MNIST, read and compared with the published ones. Without torch: looked at before any work."""

import gzip
import hashlib
import zlib
from pathlib import Path

from hldm.errors import UserError

MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""md5 of each unpacked file: how it is packed does not matter."""


def read_idx(root: Path, name: str) -> bytes:
    """The unpacked content of an idx file.

    Raises:
        UserError: it is missing, cannot be read or is not the published one.
    """
    remedy = "Leave out dataset.folder to use the bundled digits, or name a folder with the four original files."
    path = root / name
    if not path.is_file():
        path = root / f"{name}.gz"
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except FileNotFoundError:
        raise UserError(f"MNIST needs {name} or {name}.gz in {root}, which holds neither. {remedy}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}. {remedy}") from None
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != (md5 := MNIST_MD5[name]):
        raise UserError(f"{path} is not the published MNIST file: its md5 is {found}, it should be {md5}. {remedy}")
    return content
