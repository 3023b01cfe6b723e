"""A scheduler that takes a machine back: SIGTERM, some seconds, then SIGKILL."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID")
"""Variables by which SLURM, PBS, LSF and Flux say that a process is part of a job."""


def is_scheduled() -> bool:
    """Whether this process is part of a scheduler's job."""
    return any(os.environ.get(name) for name in JOBS)


@contextmanager
def stopped_by_a_scheduler(tell: Callable[[], None]) -> Iterator[None]:
    """Within a scheduler's job SIGTERM ends the block as Ctrl-C does, and `tell` is called before that is seen outside.

    The run is resumed from its last checkpoint by the same command. Who else asks it to stop meanwhile, such as the
    process that started it, changes nothing: it is stopping. Elsewhere SIGTERM is left as it is.
    """
    if not is_scheduled() or threading.current_thread() is not threading.main_thread():
        yield
        return
    was_asked = False

    def stop(number: int, frame: Any) -> None:
        nonlocal was_asked
        was_asked = True
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        if was_asked:  # not in the handler, which may have come while what it calls was at work
            tell()
        raise
    finally:
        if not was_asked:  # otherwise the process is ending, and nothing is to disturb that
            for number, handler in before.items():
                signal.signal(number, handler)
