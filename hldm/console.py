"""How every command of this project starts, fails and reads `key=value`."""

import difflib
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hldm.errors import UserError

INTERRUPTED = 130  # the shell's status of a command that Ctrl-C ended


def run(main: Callable[[], int | None]) -> int:
    """The exit status of `main`: its own (None is 0), 2 after a UserError, 130 after Ctrl-C.

    A UserError becomes one paragraph on stderr, without a traceback; any other exception is our bug and keeps it.
    """
    try:
        return main() or 0
    except UserError as error:
        print(paragraph(str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `python train.py --help | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains while it exits
        return 1


def paragraph(text: str) -> str:
    """The text as one paragraph, wrapped to the terminal; paths and commands are not torn apart."""
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    return textwrap.fill(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be, or None."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def key_values(
    argv: list[str], allowed: Mapping[str, Callable[[str], Any]], usage: str, required: Iterable[str] = ()
) -> dict[str, Any]:
    """`["run=outputs/main/x", "seeds=0,1"]` → `{"run": …, "seeds": …}`, for the commands that Hydra does not parse.

    Args:
        argv: the arguments after the command's name.
        allowed: key → function that makes the value from its text, and raises ValueError for a wrong one.
        usage: what `--help` prints.
        required: keys that must be there.
    """
    if {"-h", "--help"} & set(argv):
        print(usage.strip())
        raise SystemExit(0)
    values: dict[str, Any] = {}
    for argument in argv:
        key, equals, text = argument.partition("=")
        if not equals or key not in allowed:
            guess = closest(key.lstrip("-"), allowed)
            hint = f" Did you mean {guess}={text or '…'}?" if guess else ""
            raise UserError(f"{argument} is not understood.{hint} Allowed are {', '.join(f'{k}=…' for k in allowed)}.")
        if key in values:
            raise UserError(f"{key}= is given twice: {key}={values[key]} and {argument}. Give it once.")
        try:
            values[key] = allowed[key](text)
        except ValueError as error:
            raise UserError(f"{argument}: {error}") from error
    for key in required:
        if values.get(key, "") == "":
            raise UserError(f"{key}=… is missing. {usage.strip().splitlines()[-1].strip()}")
    return values


def whole(text: str) -> int:
    """A whole number ≥ 0, for `key_values`."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a whole number ≥ 0, such as 3.")
    return int(text)


def wholes(text: str) -> list[int]:
    """Different whole numbers ≥ 0 with commas between them, for `key_values`."""
    numbers = [whole(part.strip()) for part in text.strip("[]").split(",")]
    if len(set(numbers)) < len(numbers):
        raise ValueError("one number is there twice; each counts once.")
    return numbers
