"""What is looked at before anything else is imported: this file has to be read by every Python, however old."""

import sys

NEEDED = ("yaml", "pydantic", "omegaconf", "hydra", "rich", "PIL", "torch")
"""Packages that tell an environment of this project from a bare Python."""


def check_python():
    # type: () -> None
    """End with a sentence where this Python is too old, or lacks the packages."""
    remedy = "Type `make setup` once in the checkout, then .venv/bin/python in place of python."
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever starts us may have any
        sys.exit("Python 3.11 or newer is needed, and this is %s. %s" % (sys.version.split()[0], remedy))  # noqa: UP031
    from importlib.util import find_spec

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        words = (sys.executable, ", ".join(missing), remedy)
        sys.exit("This Python (%s) lacks the packages %s. %s" % words)  # noqa: UP031 - as above
