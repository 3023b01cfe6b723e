"""The process of one run."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from hldm.paths import import_path
from hldm.run.directory import now
from hldm.run.parent import Lifeline
from hldm.run.ranks import alone
from hldm.study.plan import Point

WORKER = ("-P", "-m", "hldm", "worker")
"""Arguments of Python, before the run directory. -P: a file of the user's folder must not hide a module."""


@dataclass(frozen=True)
class Job:
    """A worker and what it writes to: `log.txt` of its run."""

    point: Point
    threads: int
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    @classmethod
    def start(cls, point: Point, variables: Mapping[str, str], threads: int, lifeline: Lifeline) -> "Job":
        """Start the worker of a run directory.

        Args:
            variables: of its environment, beside those of this process.
        """
        environment = {**os.environ, **alone(), **variables, **lifeline.environment, **import_path()}
        log = (point.run.path / "log.txt").open("ab")
        try:
            log.write(f"--- {now()}\n".encode())
            log.flush()
            process = subprocess.Popen(
                [sys.executable, *WORKER, str(point.run.path)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(lifeline.run_end,),
                start_new_session=True,  # Ctrl-C reaches this process only, which then stops the runs in order
            )
        except BaseException:
            log.close()
            raise
        return cls(point, threads, process, log)

    def poll(self) -> int | None:
        """The status it ended with; None while it works."""
        code = self.process.poll()
        if code is not None:
            self.log.close()
        return code

    def signal(self, number: signal.Signals) -> None:
        """Ask it to end."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it with all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()

    @staticmethod
    def what(code: int) -> str:
        """Why it ended, by its status alone."""
        if code < 0:
            name = signal.Signals(-code).name
            hint = ", which the system does where memory runs out" if code == -signal.SIGKILL else ""
            return f"ended by {name}{hint}"
        return f"ended with status {code}" if code else "ended without results"
