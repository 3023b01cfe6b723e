"""Limits on processor time, in seconds of the machine that they were written on."""

import json
import time

REFERENCE = 0.06
"""Seconds that `_work` takes there, on a quiet core."""


def _work() -> None:
    """Objects are made, written and read, as in what is measured."""
    made = [{str(number): [float(number)] * 8} for number in range(20_000)]
    json.loads(json.dumps(made))


def allowed(seconds: float) -> float:
    """The seconds of a processor that this machine may take for what took the other one at most `seconds`.

    Other work on the same cores makes a processor slow as well: ask beside what is measured.
    """
    begin = time.process_time()
    _work()
    return seconds * max(1.0, (time.process_time() - begin) / REFERENCE)
