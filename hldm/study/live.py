"""What a command shows of its runs while they work: a table that changes on a terminal, a line per change elsewhere."""

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hldm.study.plan import Estimate, Point, makespan
from hldm.study.progress import Pace, in_words, progress_of

EVERY = 0.5
"""Seconds between looks at the runs."""


class Row:
    """One run at work.

    Args:
        number: of the run in this command, counted from 1.
        note: what is to be said of it beside its progress.
    """

    def __init__(self, point: Point, number: int, estimate: Estimate, note: str = "") -> None:
        self.point, self.number, self.note = point, number, note
        self.pace = Pace(estimate, point.config)

    @property
    def name(self) -> str:
        return self.point.run.path.name


class Display:
    """The runs of one command.

    Args:
        total: how many there are.
        slots: at a time. The output of a run that has the machine to itself is shown as it comes.
        outputs: folder whose finished runs say how long stages take.
    """

    def __init__(self, console: Console, total: int, slots: int, outputs: Path) -> None:
        self.console, self.total, self.slots, self.outputs = console, total, slots, outputs
        self.rows: dict[Path, Row] = {}
        self.finished = self.failed = 0
        self.waiting: list[Point] = []
        self._read: dict[Path, int] = {}  # log → how much of it was shown
        self._looked = 0.0
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._estimate: Estimate | None = None
        self._minutes: dict[Path, float] = {}

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    @property
    def estimate(self) -> Estimate:
        """How long stages take here."""
        if self._estimate is None:
            self._estimate = Estimate.from_finished_runs(self.outputs)
        return self._estimate

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, soft_wrap=True)

    def began(self, point: Point, number: int, note: str = "") -> None:
        """A run works now."""
        self.console.rule(f"run {number} of {self.total}: {point.identity.name}" + (f" ({note})" if note else ""))
        self.rows[point.run.path] = Row(point, number, self.estimate, note)
        log = point.run.path / "log.txt"
        with suppress(OSError):
            self._read[log] = log.stat().st_size  # what an earlier attempt wrote was shown then

    def ended(self, point: Point, what: str) -> None:
        """A run works no longer."""
        self._show_log(point)
        self.rows.pop(point.run.path, None)
        self.say(what)

    def update(self, waiting: Iterable[Point]) -> None:
        """Look at the runs, now and then."""
        if time.monotonic() - self._looked < EVERY:
            return
        self._looked = time.monotonic()
        self.waiting = list(waiting)
        for row in self.rows.values():
            self._show_log(row.point)
            is_new_stage = row.pace.see(progress_of(row.point.run))
            if is_new_stage and self._live is None:
                self.say(f"{row.name}: {row.pace.progress}, about {in_words(row.pace.minutes)} left")
        if self._live:
            self._live.update(self._table(), refresh=True)

    def _show_log(self, point: Point) -> None:
        """What the only run at work wrote since the last look, without a line that is not whole."""
        log = point.run.path / "log.txt"
        if self.slots > 1:
            return
        with suppress(OSError), log.open("rb") as file:
            file.seek(self._read.get(log, 0))
            whole, newline, _ = file.read().rpartition(b"\n")
            self._read[log] = self._read.get(log, 0) + len(whole) + len(newline)
            if newline:
                self.console.out(whole.decode("utf-8", "replace"), highlight=False)

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(overflow="ellipsis", no_wrap=True, ratio=3)
        table.add_column(no_wrap=True)
        table.add_column(width=12)
        table.add_column(justify="right", no_wrap=True)
        for row in self.rows.values():
            progress = row.pace.progress
            bar = ProgressBar(total=1.0, completed=progress.share, width=12) if progress and progress.steps else ""
            table.add_row(row.name, row.note or str(progress or "starts"), bar, f"{in_words(row.pace.minutes)} left")
        return Group(table, Text(self.summary, style="dim"))

    @property
    def summary(self) -> str:
        """Such as "2 of 9 finished, 1 failed, 3 wait, about 12 min left"."""
        at_work = sorted(row.pace.minutes for row in self.rows.values())
        for point in self.waiting:
            if point.run.path not in self._minutes:
                self._minutes[point.run.path] = self.estimate.minutes(point.config)
        minutes = (self._minutes[point.run.path] for point in self.waiting)
        left = makespan([*at_work, *minutes], max(self.slots, len(at_work)))
        failed = f", {self.failed} failed" if self.failed else ""
        wait = f", {len(self.waiting)} wait" if self.waiting else ""
        return f"{self.finished} of {self.total} finished{failed}{wait}, about {in_words(left)} left"
