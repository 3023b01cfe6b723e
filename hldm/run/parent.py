"""A run ends with the command that started it, however that one ended: both hold an end of one pipe.

A SIGKILLed parent can tell nobody, but the system closes its end. The run then stops as Ctrl-C would stop it, with its
state saved, so that nothing works on unseen and the same command goes on with it.
"""

import os
import signal
import threading
import time

VARIABLE = "HLDM_LIFELINE"
"""Holds the file descriptor of the run's end."""

PATIENCE = 30.0
"""Seconds that a stopped run has to save its state."""


class Lifeline:
    """The parent's end of the pipe; nothing is ever written to it."""

    def __init__(self) -> None:
        self.run_end, self._own_end = os.pipe()

    def __enter__(self) -> "Lifeline":
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._own_end, self.run_end):
            os.close(end)

    @property
    def environment(self) -> dict[str, str]:
        """What a run has to be told; it needs the file descriptor `run_end` too."""
        return {VARIABLE: str(self.run_end)}


def stop_without_parent(how: signal.Signals = signal.SIGINT, patience: float = PATIENCE) -> None:
    """Have this process stop when the one that started it is gone; nothing happens where no pipe came with it."""
    text = os.environ.pop(VARIABLE, "")  # what this process starts has this one as its parent
    if not text.isdigit():
        return
    end = int(text)
    try:
        os.set_inheritable(end, False)
    except OSError:  # a variable that was inherited without the pipe
        return

    def wait() -> None:
        os.read(end, 1)  # returns when nobody holds the other end
        os.kill(os.getpid(), how)
        time.sleep(patience)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
