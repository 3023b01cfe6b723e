"""Where a run's numbers come from: the code, the command and its place."""

import subprocess
from collections.abc import Mapping
from functools import cache
from typing import Any

from hldm import __version__
from hldm.files import content_digest
from hldm.paths import CHECKOUT, PACKAGE


@cache
def code() -> dict[str, Any]:
    """hldm, commit and dirty of `provenance`; asked once."""
    commit = _git("rev-parse", "HEAD")
    return {
        "hldm": __version__,
        "commit": commit,
        "dirty": None if commit is None else bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


@cache
def source_digest() -> str:
    """A hash of what the code computes with: the package's modules, also as far as they are not committed."""
    files = sorted(PACKAGE.rglob("*.py"))
    return content_digest(files)[:16]


def provenance(command: str | None) -> dict[str, Any]:
    """What results.json and the tracker say of the code.

    Args:
        command: the command line that started the run, None where it is not known.

    Returns:
        hldm: the version. commit, dirty: of the checkout, None outside of one. command.
    """
    return {**code(), "command": command}


def differs(recorded: Mapping[str, Any]) -> str | None:
    """A sentence where the version or commit that a run was made with is not the one that runs now; None where it is.

    Args:
        recorded: what `provenance` gave then; {} or without these where it is not known.
    """
    now = code()
    then = [recorded.get(key) for key in ("hldm", "commit")]
    if then[0] is None or then == [now["hldm"], now["commit"]]:
        return None
    return f"made with hldm {_words(*then)}; this is {_words(now['hldm'], now['commit'])}"


def begun_with(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What results.json says beside `provenance` where a run was begun by other code: `begun_with`; else nothing."""
    return {"begun_with": dict(recorded)} if differs(recorded) else {}


def _words(version: Any, commit: Any) -> str:
    return f"{version}" + (f" ({str(commit)[:8]})" if commit else "")


def _git(*arguments: str) -> str | None:
    """What git says of the checkout, None where there is no git, no checkout or no commit."""
    if CHECKOUT is None or not (CHECKOUT / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
