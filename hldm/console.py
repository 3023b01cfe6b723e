"""How every command of this project starts, fails and reads `key=value`."""

import difflib
import io
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from hldm.errors import DISK, UserError, disk_error
from hldm.paths import CHECKOUT

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130  # the shell's status of a command that Ctrl-C ended
REFUSED = 2  # the status after a UserError


def run(main: Callable[[], int | None]) -> int:
    """The exit status of `main`: its own (None is 0), 2 after a UserError, 130 after Ctrl-C.

    A UserError becomes a paragraph for each of its lines on stderr, without a traceback; any other exception is our
    bug and keeps it. What the output cannot show, or that nobody reads it, never decides about a run.
    """
    _make_output_harmless()
    try:
        return main() or 0
    except UserError as error:
        print(paragraphs(str(error)), file=sys.stderr)
        return REFUSED
    except Exception as error:
        if (sentence := disk_trouble(error)) is None:
            raise
        print(paragraphs(sentence), file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return INTERRUPTED


def disk_trouble(error: BaseException) -> str | None:
    """A sentence where a file could not be written for want of room or permission; None for any other error."""
    if (found := disk_error(error)) is None:
        return None
    number, file = found
    return (
        f"{file or 'A file'} cannot be written or read: {DISK[number]}. Mend that, or name another "
        "folder with paths.outputs=…; the same command goes on from what is there."
    )


class _Forgiving:
    """An output whose reader may go away, whose disk may be full, and whose encoding may lack a character."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """Let everything else that is written go nowhere; Python would complain while it exits otherwise."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _make_output_harmless() -> None:
    """What nobody can read never decides about a run: see `_Forgiving`; a closed output becomes an empty one."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, _Forgiving):
            continue
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open as long as the process runs
        setattr(sys, name, _Forgiving(stream))


def here(text: str) -> str:
    """The text with the commands that there are here: an installed package has no train.py."""
    if CHECKOUT is None:
        for name in ("train", "evaluate"):
            text = text.replace(f"python {name}.py", f"hldm {name}")
    return text


def paragraphs(text: str) -> str:
    """A paragraph for each line of the text, wrapped to the terminal; paths and commands are not torn apart."""
    text = here(text)
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    return "\n".join(
        textwrap.fill(
            " ".join(line.split()),
            width,
            break_long_words=False,
            break_on_hyphens=False,
            subsequent_indent="  " if line.startswith("- ") else "",
        )
        for line in text.splitlines()
    )


def terminal() -> "Console":
    """A console that prints user text as it is; where nobody watches, as wide as COLUMNS says, otherwise 100 columns.

    What a terminal cannot show (its encoding has no −, say) is replaced, never an error.
    """
    from rich.console import Console

    width = None if sys.stdout.isatty() else shutil.get_terminal_size((100, 24)).columns
    return Console(width=width, markup=False, highlight=False, soft_wrap=False)


def shown(value: Any) -> str:
    """A value as it is typed."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ",".join(shown(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str) and _looks_like_another_type(value):
        return f"'{value}'"
    return str(value)


def _looks_like_another_type(text: str) -> bool:
    try:
        return not isinstance(json.loads(text), str)
    except ValueError:
        return False


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be, or None."""
    alike = {other.lower(): other for other in known}
    return next((alike[other] for other in difflib.get_close_matches(name.lower(), alike, n=1, cutoff=0.6)), None)


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
        print(here(usage.strip()))
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
        if not text and allowed[key] is not str:  # an empty path would be this folder
            raise UserError(f"{key}= has no value. Type {key}=… with one, or leave it out.")
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


def yes_or_no(text: str) -> bool:
    """true or false, for `key_values`."""
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false.")
    return text.lower() == "true"


def wholes(text: str) -> list[int]:
    """Different whole numbers ≥ 0 with commas between them, for `key_values`."""
    numbers = [whole(part.strip()) for part in text.strip("[]").split(",")]
    if len(set(numbers)) < len(numbers):
        raise ValueError("one number is there twice; each counts once.")
    return numbers
