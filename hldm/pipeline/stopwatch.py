"""What the parts of an evaluation cost. It stands in status.json: nothing in results.json depends on the time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from hldm.run import stop


class Stopwatch:
    """Seconds of each part, in the order in which they began.

    Attributes:
        seconds: part → seconds.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the seconds that the block takes. It is not begun where the process has been asked to stop."""
        stop.check()
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 1)

    @property
    def words(self) -> str:
        """Such as "samples 80 s, curves 20 s", the longest first, without what took less than a second."""
        longest = sorted(self.seconds.items(), key=lambda part: -part[1])
        return ", ".join(f"{name} {seconds:.0f} s" for name, seconds in longest if seconds >= 1)
