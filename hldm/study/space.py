"""What a search is over: the arguments of a command → searches, seeds, and the settings that are tuned.

Intervals, ranges and choice(a,b) are tuned. Values with commas between them are a search for each, with the same
trials, seeds and space, so that geometries are searched alike. Seeds are not searched: a trial is judged by their mean.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from hldm.config.arguments import refuse_too_many
from hldm.config.overrides import parsed
from hldm.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

DIGITS = 4
"""Significant digits of a number that is tried: finer ones change nothing, and make commands hard to read."""

COMPARED = ("geometry",)
"""What searches are compared by, and so never tuned within one: it would give most trials to what leads."""

JUDGES = ("metrics", "dataset")
"""Sections that say what trials are judged by."""


@dataclass(frozen=True)
class Setting:
    """A setting that is tuned.

    Attributes:
        key: as an override of Hydra's names it.
        low, high: ends of an interval, both included; whole numbers where only those are meant.
        is_log: whether the interval is searched by orders of magnitude.
        values: instead of an interval, the texts of all values.
        is_ordered: whether these are numbers in order.
    """

    key: str
    low: float = 0
    high: float = 0
    is_log: bool = False
    values: tuple[str, ...] = ()
    is_ordered: bool = False

    @property
    def distribution(self) -> "BaseDistribution":
        """As Optuna describes it; values in order are searched by their number."""
        from optuna import distributions  # late: only a search needs it

        if self.values and self.is_ordered:
            return distributions.IntDistribution(0, len(self.values) - 1)
        if self.values:
            return distributions.CategoricalDistribution(self.values)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return distributions.IntDistribution(self.low, self.high, log=self.is_log)
        return distributions.FloatDistribution(self.low, self.high, log=self.is_log)

    def text(self, value: Any) -> str:
        """The value that Optuna proposes, as an override writes it."""
        if self.values:
            return self.values[value] if self.is_ordered else str(value)
        if isinstance(value, int):
            return str(value)
        short = f"{value:.{DIGITS}g}"
        return short if self.low <= float(short) <= self.high else repr(value)

    def override(self, value: Any) -> str:
        """The same with the setting's name."""
        return f"{self.key}={self.text(value)}"

    @property
    def probes(self) -> tuple[str, ...]:
        """Texts that are composed before any work: the ends and something between them, or all values."""
        if self.values:
            return self.values
        return self.text(self.low), self.middle, self.text(self.high)

    @property
    def middle(self) -> str:
        """A value inside, which is no whole number unless only those are meant."""
        if self.values:
            return self.values[len(self.values) // 2]
        inside = math.sqrt(self.low * self.high) if self.is_log else self.low + 0.4142 * (self.high - self.low)
        return self.text(round(inside) if isinstance(self.low, int) else inside)

    @property
    def words(self) -> str:
        """As a table shows the space, such as "0.1 to 10, by orders of magnitude"."""
        if self.values:
            return ", ".join(self.values)
        return f"{self.low:g} to {self.high:g}" + (", by orders of magnitude" if self.is_log else "")


@dataclass(frozen=True)
class Space:
    """What a command searches.

    Attributes:
        fixed: overrides that all trials have.
        searches: overrides of each search.
        seeds: overrides of each seed.
        settings: what is tuned.
    """

    fixed: tuple[str, ...]
    searches: tuple[tuple[str, ...], ...]
    seeds: tuple[str, ...]
    settings: tuple[Setting, ...]

    @classmethod
    def of(cls, overrides: Sequence[str]) -> "Space":
        """Read from overrides in Hydra's form.

        Raises:
            UserError: nothing is tuned, or something that cannot be.
        """
        fixed: list[str] = []
        axes: list[list[str]] = []
        seeds = ["seed=0"]
        settings: list[Setting] = []
        wrong: list[str] = []
        for text in overrides:
            override = parsed(text)
            value = override.value()
            name = override.get_key_element()
            try:
                if override.key_or_group == "seed":
                    seeds = _seeds(text, override)
                elif not override.is_sweep_override():
                    fixed.append(text)
                elif isinstance(value, ChoiceSweep) and len(value.list) == 1:
                    fixed.append(f"{name}={next(iter(override.sweep_string_iterator()))}")
                elif isinstance(value, ChoiceSweep) and value.simple_form:
                    axes.append([f"{name}={one}" for one in override.sweep_string_iterator()])
                else:
                    settings.append(_setting(text, override))
            except UserError as error:
                wrong += error.problems
        if not settings and not wrong:
            wrong = [
                "A search needs an interval to search, and there is none. Type for example `python train.py -m "
                "search=tpe 'curvature=interval(0.1,10)'`; orders of magnitude are tag(log,interval(1e-4,1e-2)), whole "
                "numbers int(interval(2,8)), words choice(a,b)."
            ]
        if wrong:
            raise UserError.of(wrong)
        refuse_too_many([*axes, seeds])
        return cls(tuple(fixed), tuple(itertools.product(*axes)), tuple(seeds), tuple(settings))

    @property
    def shared(self) -> str:
        """What all searches have in common, for a digest."""
        return repr((self.seeds, self.settings))


def _seeds(text: str, override: Override) -> list[str]:
    if isinstance(override.value(), IntervalSweep):
        raise UserError(f"{text}: seeds are not searched, trials are judged by their mean. Type seed=0,1.")
    if not override.is_sweep_override():
        return [text]
    return [f"seed={one}" for one in override.sweep_string_iterator()]


def _setting(text: str, override: Override) -> Setting:
    key, value = override.get_key_element(), override.value()
    section = override.key_or_group.partition(".")[0]
    assert isinstance(value, ChoiceSweep | RangeSweep | IntervalSweep)
    if unknown := value.tags - {"log"}:
        raise UserError(f"{text}: the only tag that means something is log, and this one is {', '.join(unknown)}.")
    if override.key_or_group in COMPARED:
        several = ",".join(override.sweep_string_iterator())
        raise UserError(
            f"{text} would tune the geometry, and give most trials to the one that leads. Type {key}={several} for a "
            "search of each, with the same trials, seeds and space."
        )
    if section in JUDGES:
        raise UserError(f"{text} would tune what trials are judged by. Give {override.key_or_group} one value.")
    if not isinstance(value, IntervalSweep):
        if value.tags:
            raise UserError(f"{text}: orders of magnitude are of an interval, tag(log,interval(1e-4,1e-2)).")
        return Setting(key, values=tuple(override.sweep_string_iterator()), is_ordered=isinstance(value, RangeSweep))
    low, high = value.start, value.end
    assert low is not None
    assert high is not None
    if not low < high:
        raise UserError(f"{text} is empty: an interval goes from its smaller end to its larger one.")
    if value.tags and low <= 0:
        raise UserError(f"{text}: orders of magnitude begin above 0. Type a small number instead of {low:g}.")
    return Setting(key, low, high, bool(value.tags))
