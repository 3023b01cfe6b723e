"""What a run prints stands in log.txt of its directory, whatever started it.

A grid starts each run with log.txt as its output. A job of SLURM has a file for its output, and log.txt names it. In
every other process that works on a run, `logged` writes what it prints into log.txt too.
"""

import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TextIO

from hldm.console import disk_trouble, paragraphs
from hldm.errors import UserError
from hldm.run.directory import now
from hldm.run.ranks import RENDEZVOUS, place

LOG = "log.txt"

OF_JOB = "HLDM_RUN"
"""Holds the directory that a job of SLURM runs; its output goes into a file already."""

COLOURS = re.compile(r"\x1b\[[\d;]*[A-Za-z]")
"""What a terminal takes for a colour."""


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Within the block, what this process prints stands in log.txt of `folder` as well, and so does what it raises.

    Nothing is written where the output is that file already, or a job's, where this is not the first rank of the run,
    and where the file cannot be written: that never decides about a run. What is printed past Python, as by a signal's
    handler or a library in C, is not seen.
    """
    log = None if not place().is_first or os.environ.get(OF_JOB) == str(folder) else _opened(folder)
    if log is None:
        yield
        return
    before = sys.stdout, sys.stderr
    with log:
        if RENDEZVOUS not in os.environ:  # else the process that started the ranks has said so
            _write(log, f"--- {now()}\n")
        sys.stdout, sys.stderr = (_Copied(stream, log) for stream in before)
        try:
            yield
        except BaseException as error:
            sentence = str(error) if isinstance(error, UserError) else disk_trouble(error)
            _write(log, f"{paragraphs(sentence)}\n" if sentence else traceback.format_exc())
            raise
        finally:
            sys.stdout, sys.stderr = before


def note(folder: Path, line: str) -> None:
    """A line in log.txt, where that can be written."""
    with suppress(OSError), (folder / LOG).open("ab", buffering=0) as log:
        _write(log, f"{line}\n")


def _opened(folder: Path) -> IO[bytes] | None:
    """log.txt, None where nothing is to be written into it."""
    try:
        if not (folder / "config.yaml").is_file():
            return None
        log = (folder / LOG).open("ab", buffering=0)
    except OSError:
        return None
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # an output that is no file
            if os.path.samestat(os.fstat(stream.fileno()), os.fstat(log.fileno())):
                log.close()
                return None
    return log


def _write(log: IO[bytes], text: str) -> None:
    with suppress(OSError):
        log.write(COLOURS.sub("", text).encode("utf-8", "replace"))


class _Copied:
    """A stream whose text is written into a file as well."""

    def __init__(self, stream: TextIO, log: IO[bytes]) -> None:
        self._stream, self._log = stream, log

    def write(self, text: str) -> int:
        written = self._stream.write(text)
        if not self._log.closed:  # who has kept this stream for longer than the block
            _write(self._log, text)
        return written

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
