"""Where a run's numbers come from: the code, the command and its place."""

import subprocess
from typing import Any

from hldm import __version__
from hldm.paths import CHECKOUT


def provenance(command: str | None) -> dict[str, Any]:
    """What results.json and the tracker say of the code.

    Args:
        command: the command line that started the run, None where it is not known.

    Returns:
        hldm: the version. commit, dirty: of the checkout, None outside of one. command.
    """
    commit = _git("rev-parse", "HEAD")
    return {
        "hldm": __version__,
        "commit": commit,
        "dirty": None if commit is None else bool(_git("status", "--porcelain", "--untracked-files=no")),
        "command": command,
    }


def _git(*arguments: str) -> str | None:
    """What git says of the checkout, None where there is no git, no checkout or no commit."""
    if CHECKOUT is None or not (CHECKOUT / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
