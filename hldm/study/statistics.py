"""What a few seeds say: means, 95 % intervals, and differences that are paired by seed.

A seed decides initial weights, data order and noise of a run, so two cells of a grid are compared seed by seed: what
both owe to the seed drops out of the difference.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.special import stdtrit

NOTHING = "–"
"""What a table shows where there is no figure."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, mean ± margin.

    Attributes:
        mean: of the values.
        margin: t · s / √n, with the sample standard deviation s of n values and t the 0.975 quantile of Student's
            distribution with n − 1 degrees of freedom; None for a single value, which says nothing of its error.
    """

    mean: float
    margin: float | None

    @classmethod
    def of(cls, values: Iterable[float]) -> "Interval | None":
        """The interval of these values; None where there are none."""
        known = list(values)
        if not known:
            return None
        n = len(known)
        return cls(fmean(known), float(stdtrit(n - 1, 0.975)) * stdev(known) / n**0.5 if n > 1 else None)

    def text(self, digits: int = 2) -> str:
        """A signed mean with its margin, as "+0.30 ± 0.12"; a dash where the margin is not known."""
        return NOTHING if self.margin is None else f"{self.mean:+.{digits}f} ± {self.margin:.{digits}f}"


def paired_difference(values: Mapping[int, float], others: Mapping[int, float]) -> Interval | None:
    """The interval of values − others, over the seeds that both have; None where they share none.

    Args:
        values: seed → figure.
        others: seed → figure of what is compared with.
    """
    return Interval.of(value - others[seed] for seed, value in values.items() if seed in others)


def mean(values: Iterable[float], digits: int = 2) -> str:
    """The mean in words for a table, a dash for no values."""
    known = list(values)
    return f"{fmean(known):.{digits}f}" if known else NOTHING


def spread(values: Iterable[float], digits: int = 2) -> str:
    """The mean and, in brackets, every value: with two or three seeds they say more than a standard deviation."""
    known = list(values)
    return f"{mean(known, digits)} ({', '.join(f'{value:.{digits}f}' for value in known)})" if known else NOTHING
