"""Requests to stop. A signal sets a flag; what works looks at it where it can stop without losing anything.

SIGTERM is what schedulers and `kill` send, SIGUSR2 what our jobs ask for ahead of their time limit, SIGINT is Ctrl-C
and SIGHUP a terminal that was closed. SIGUSR1 is left alone: NCCL has a use for it.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from hldm.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)

GO_ON = "Stopped, and what was done is saved. The same command goes on from here."
"""What the commands say at the end."""

_asked: signal.Signals | None = None


def requested() -> bool:
    """Whether this process has been asked to stop."""
    return _asked is not None


def check() -> None:
    """Stop here, where that has been asked for.

    Raises:
        Stopped: it has.
    """
    if _asked is not None:
        raise Stopped(_asked.name)


@contextmanager
def handled(numbers: Iterable[signal.Signals], handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Within the block these signals call the handler. What is ignored stays ignored, as under nohup.

    Outside of the main thread, where Python has no signals, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    for number, earlier in before.items():
        if earlier is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)


@contextmanager
def listening() -> Iterator[None]:
    """Within the block, signals set the flag that `requested` and `check` look at.

    A handler that was there before is called too, such as that of a launcher. What is ignored stays ignored (nohup).
    A child that was forked inherits the handler and does nothing: its parent ends it. Ctrl-C for a second time ends the
    block at once, as KeyboardInterrupt. Outside of the main thread, where Python has no signals, nothing is changed.
    """
    global _asked
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def stop(number: int, frame: Any) -> None:
        global _asked
        if os.getpid() != owner:
            return
        if number == _asked == signal.SIGINT:
            raise KeyboardInterrupt
        if _asked is None:
            _asked = signal.Signals(number)
            _say(_asked)
        elif number == signal.SIGINT:
            _asked = signal.SIGINT  # asked for by hand now: the next one ends it
        earlier = before[signal.Signals(number)]
        if callable(earlier) and earlier is not signal.default_int_handler:
            earlier(number, frame)

    outer, _asked = _asked, None
    try:
        with handled(SIGNALS, stop):
            yield
    finally:
        _asked = outer


def _say(number: signal.Signals) -> None:
    """Straight to the terminal: Python's streams may be at work while a signal comes."""
    again = " Ctrl-C again ends it at once." if number == signal.SIGINT else ""
    with suppress(OSError):  # nobody reads it
        os.write(2, f"\n{number.name}: the run stops as soon as what it is at is saved.{again}\n".encode())
