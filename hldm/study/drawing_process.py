"""Drawing in a process of its own: matplotlib takes 40 MB and more that what compares a thousand runs can do without.

`draw` starts `python -m hldm.study.drawing_process`, which reads a function and its arguments from its stdin and says
on its stdout what became of them.
"""

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hldm.paths import import_path

Function = Callable[..., list[Path]]
"""It writes files and returns them. It is known by the name of its module and its own."""

Answer = list[Path] | OSError | str
"""The files, why they could not be written, or the traceback of our bug."""


class NotDrawn(Exception):
    """Why there are no files, in words that follow "cannot be written"."""


def draw(function: Function, *arguments: Any) -> list[Path]:
    """What the function returns in a process of its own.

    Raises:
        NotDrawn: its files cannot be written, or the process ended before it had drawn.
        RuntimeError: it raised anything else, whose traceback this has.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "hldm.study.drawing_process"],
        env={**os.environ, **import_path()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            with suppress(BrokenPipeError), process.stdin as pipe:  # it has ended: how is said below
                pickle.dump((function, arguments), pipe)
            said = process.stdout.read()
        except BaseException:  # Ctrl-C
            process.kill()
            raise
    if process.returncode:
        raise NotDrawn(_end(process.returncode))
    answer: Answer = pickle.loads(said)
    if isinstance(answer, OSError):
        raise NotDrawn(answer.strerror or str(answer))
    if isinstance(answer, str):
        raise RuntimeError(f"the process that draws says:\n{answer}")
    return answer


def _end(code: int) -> str:
    how = f"with {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
    return f"the process that draws ended {how}" + (", as where memory is used up" if code == -signal.SIGKILL else "")


def main() -> None:
    """What the other process does."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answer:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
        function, arguments = pickle.load(sys.stdin.buffer)
        pickle.dump(_done(function, arguments), answer)


def _done(function: Function, arguments: tuple[Any, ...]) -> Answer:
    try:
        return function(*arguments)
    except OSError as error:  # outputs that are only read
        return error
    except Exception:  # a fault of ours, which `draw` raises where somebody sees it
        return traceback.format_exc()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
