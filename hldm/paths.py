"""Where the project's own folders are: in a checkout beside the package, in an installed one inside it."""

import os
from pathlib import Path

from hldm.errors import UserError

PACKAGE = Path(__file__).resolve().parent

CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "conf" / "config.yaml").is_file() else None
"""The folder that holds train.py and conf/, or None where hldm was installed without one."""

CONF = CHECKOUT / "conf" if CHECKOUT else PACKAGE / "conf"
"""The options that come with the project."""


def root() -> Path:
    """Where outputs/ lies by default, and relative paths are looked for: the checkout, or the working directory."""
    return CHECKOUT or Path.cwd()


def import_path() -> dict[str, str]:
    """PYTHONPATH for processes that this one starts: they import this package, wherever they work."""
    return {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])}


def expanded(path: str | Path) -> Path:
    """The path with a leading ~ as the home folder that it means.

    Raises:
        UserError: there is no such user, or no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path} names a home folder, and there is none. Type the whole path.") from error
