"""What a few seeds say: means and differences with their 95 % intervals, and how much more seeds would say.

A seed decides initial weights, data order and noise of a run, so two cells of a grid are compared seed by seed: what
both owe to the seed drops out of the difference. All of it is Student's t for the mean of n values.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtr, ndtri, stdtr, stdtrit

NOTHING = "–"
"""What a table shows where there is no figure."""

LEVEL = 0.95
POWER = 0.8
MOST_SEEDS = 10_000
"""More are not counted."""
FEW_SEEDS = 50
"""Of more, a formula says how many are needed, to one or two."""

_NODES = 1000
"""Of the law of a standard deviation, which power is a mean over."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, mean ± margin.

    Attributes:
        mean: of the values.
        margin: t · sd / √n, with t the 0.975 quantile of Student's distribution with n − 1 degrees of freedom; None for
            a single value, which says nothing of its error.
        n: how many values.
        sd: their standard deviation, with n − 1 in the denominator; None for a single value.
        error, freedom: the standard error of the mean and its degrees of freedom; sd/√n and n − 1 but for `with_error`.
        alone: of `with_error`, the interval without that error.
    """

    mean: float
    margin: float | None
    n: int = 1
    sd: float | None = None
    error: float | None = None
    freedom: float = 0.0
    alone: "Interval | None" = None

    @classmethod
    def of(cls, values: Iterable[float]) -> "Interval | None":
        """The interval of these values; None where there are none."""
        known = list(values)
        if not known:
            return None
        n = len(known)
        if n == 1:
            return cls(known[0], None)
        sd = sd_of(known)
        error = sd / math.sqrt(n)
        return cls(fmean(known), quantile(n - 1, LEVEL) * error, n, sd, error, n - 1)

    @property
    def farthest(self) -> float | None:
        """The end of the interval that lies farther from 0: data exclude effects beyond it, either way, at 95 %.

        Two one-sided tests at 2.5 % each, stricter than the usual equivalence test, which takes 5 % each.
        """
        return None if self.margin is None else abs(self.mean) + self.margin

    @property
    def p(self) -> float | None:
        """Two-sided p-value of the t test that the expectation is 0; None where nothing tells the error.

        That is so for one value, and for values that are all equal: shares of n images have few values, and two seeds
        agree in a difference of them in several per cent of cases where there is no effect.
        """
        if not self.error:
            return None
        p = 2 * float(stdtr(self.freedom, -abs(self.mean) / self.error))
        return max(p, self.alone.p or 0.0) if self.alone else p

    def with_error(self, shared: float, freedom: int) -> "Interval":
        """The interval that also holds an error which all of its values share.

        The squares of both errors add up, with the degrees of freedom of Welch (1947) and Satterthwaite (1946). These
        take the spread of a few values for the truth: where it is small by luck, the other error with its many degrees
        of freedom decides, and p falls as an error is added. So margins and p are never less than without it.

        Args:
            shared: its standard error, and `freedom`, the degrees of freedom that this has.
        """
        if self.error is None or shared == 0:
            return self
        own, other = self.error**2, shared**2
        joint = (own + other) ** 2 / (own**2 / self.freedom + other**2 / freedom)
        error = math.sqrt(own + other)
        margin = max(quantile(joint, LEVEL) * error, self.margin or 0.0)
        return replace(self, margin=margin, error=error, freedom=joint, alone=self)

    def simultaneous(self, comparisons: int) -> float | None:
        """The margin with which as many intervals hold all at once with 95 %, by Bonferroni."""
        if self.error is None:
            return None
        margin = quantile(self.freedom, 1 - (1 - LEVEL) / comparisons) * self.error
        return max(margin, self.alone.simultaneous(comparisons) or 0.0) if self.alone else margin

    def text(self, digits: int = 2) -> str:
        """A signed mean with its margin, as "+0.30 ± 0.12"; a dash where the margin is not known."""
        return NOTHING if self.margin is None else f"{self.mean:+.{digits}f} ± {self.margin:.{digits}f}"


def sd_of(values: Sequence[float]) -> float:
    """Standard deviation with n − 1 in the denominator; much quicker than the exact one of the standard library."""
    if min(values) == max(values):
        return 0.0  # the mean may be off in its last bit
    centre = fmean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


@cache
def quantile(freedom: float, level: float) -> float:
    """Margin of a two-sided interval of that level for a mean, in standard errors."""
    return float(stdtrit(freedom, (1 + level) / 2))


def paired_difference(values: Mapping[int, float], others: Mapping[int, float]) -> Interval | None:
    """The interval of values − others, over the seeds that both have; None where they share none.

    Args:
        values: seed → figure.
        others: seed → figure of what is compared with.
    """
    return Interval.of(value - others[seed] for seed, value in values.items() if seed in others)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: those below .05 are shown together, with an error in any of them in 5 % at most.

    p₍ᵢ₎ → max over j ≤ i of min(1, (m − j + 1) p₍ⱼ₎), m values in rising order (Holm 1979). It needs no independence.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def power(effect: float, n: int, comparisons: int = 1) -> float:
    """How often the two-sided t test with n seeds finds an effect, at 5 % divided by the number of comparisons.

    P(|T| > t) for T = (Z + effect · √n)/S with n − 1 degrees of freedom (Cohen 1988), the mean over S of what is known
    given S. Of Holm's steps this is the first, which the smallest of the p-values has to pass.

    Args:
        effect: the expectation of the difference, in standard deviations of the difference between seeds.
        n: seeds, at least 2.
    """
    shift = abs(effect) * math.sqrt(n)
    reach = quantile(n - 1, 1 - (1 - LEVEL) / comparisons) * _deviations(n)
    return float(np.mean(ndtr(shift - reach) + ndtr(-shift - reach)))


@cache
def _deviations(n: int) -> NDArray[np.float64]:
    """As many equally likely values of the standard deviation of n values that are N(0, 1)."""
    share = (np.arange(_NODES) + 0.5) / _NODES
    return np.asarray(np.sqrt(chdtri(n - 1, share) / (n - 1)))


def seeds_to_detect(effect: float, sd: float, comparisons: int = 1) -> int | None:
    """The least number of seeds that find an effect in 80 % of cases; None beyond 10,000, or for no effect.

    Args:
        effect: the expectation of the difference.
        sd: its standard deviation between seeds, here always an estimate from few of them: so is the answer.
        comparisons: see `power`.
    """
    if effect == 0:
        return None

    if sd == 0:
        return 2
    wanted = abs(effect) / sd
    if detectable(FEW_SEEDS, comparisons) > wanted:
        # the normal law, and what Student's adds to it (Guenther 1981)
        tail = float(ndtri(1 - (1 - LEVEL) / (2 * comparisons)))
        n = ((tail + float(ndtri(POWER))) / wanted) ** 2 + tail**2 / 2
        return math.ceil(n) if n <= MOST_SEEDS else None
    low, high = 1, FEW_SEEDS  # too few, and enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if detectable(middle, comparisons) <= wanted else (middle, high)
    return high


@cache
def detectable(n: int, comparisons: int = 1) -> float:
    """The effect that n seeds find in 80 % of cases, in standard deviations of the difference between seeds."""
    low, high = 0.0, 4 * (1 + quantile(n - 1, 1 - (1 - LEVEL) / comparisons)) / math.sqrt(n)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, n, comparisons) >= POWER else (middle, high)
    return high


def sampling_share(differences: Sequence[float], sampling: Sequence[float]) -> float | None:
    """How much of the variance of a difference between training seeds the noise of sampling alone would give.

    The differences vary by s², which estimates var(training) + var(sampling); the second is known from within runs.

    Args:
        differences: one for each training seed.
        sampling: for each, the variance that it has from sampling, with the two trained models as they are.

    Returns:
        From 0 to 1: the estimate of var(training) cannot be negative. None for fewer than two seeds.
    """
    if len(differences) < 2 or not sampling:
        return None
    total = sd_of(differences) ** 2
    return 0.0 if fmean(sampling) == 0 else min(1.0, fmean(sampling) / total) if total else 1.0


@dataclass(frozen=True)
class ImagePairs:
    """What pairing by image says of the difference of two cells.

    Attributes:
        images: how many, the same for all seeds.
        within: seed → standard error of that seed's mean difference, from the spread over images; it holds for the two
            trained models of that seed and says nothing of other trainings.
        common: standard error of the mean over seeds from the choice of images, which all seeds share: the spread
            between seeds does not hold it.
    """

    images: int
    within: dict[int, float]
    common: float

    @classmethod
    def of(cls, values: Mapping[int, Sequence[float]], others: Mapping[int, Sequence[float]]) -> "ImagePairs | None":
        """From seed → value of every image, of both cells; None where no seed has the same images in both."""
        apart = {
            seed: [a - b for a, b in zip(values[seed], others[seed], strict=True)]
            for seed in values
            if seed in others and len(values[seed]) == len(others[seed]) > 1
        }
        if not apart or len({len(images) for images in apart.values()}) > 1:
            return None
        n = len(next(iter(apart.values())))
        over_seeds = [fmean(image) for image in zip(*apart.values(), strict=True)]
        within = {seed: sd_of(images) / math.sqrt(n) for seed, images in apart.items()}
        return cls(n, within, sd_of(over_seeds) / math.sqrt(n))


def mean(values: Iterable[float], digits: int = 2) -> str:
    """The mean in words for a table, a dash for no values."""
    known = list(values)
    return f"{fmean(known):.{digits}f}" if known else NOTHING


def spread(values: Iterable[float], digits: int = 2) -> str:
    """The mean and, in brackets, every value: with two or three seeds they say more than a standard deviation."""
    known = list(values)
    return f"{mean(known, digits)} ({', '.join(f'{value:.{digits}f}' for value in known)})" if known else NOTHING
