"""Means over seeds, their intervals, and differences that are paired by seed: by hand, against scipy, by simulation."""

import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hldm.study.statistics import (
    FEW_SEEDS,
    ImagePairs,
    Interval,
    detectable,
    holm,
    mean,
    paired_difference,
    power,
    sampling_share,
    seeds_to_detect,
    spread,
)

FIGURES = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))


def test_paired_differences_by_hand() -> None:
    """Differences 1, 2 and 3 have mean 2 and standard error 1/√3, and t(0.975; 2) is 4.3027."""
    found = paired_difference({0: 11.0, 1: 4.0, 2: 33.0, 3: 7.0}, {2: 30.0, 0: 10.0, 1: 2.0})
    assert found is not None
    assert (found.mean, found.n, found.sd) == (2.0, 3, 1.0)
    assert found.margin == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert found.farthest == pytest.approx(2 + 4.302653 / math.sqrt(3), rel=1e-6)
    assert found.text() == "+2.00 ± 2.48"
    assert found.text(3) == "+2.000 ± 2.484"


def test_one_seed_has_no_interval_and_none_has_nothing() -> None:
    one = paired_difference({0: 1.0, 1: 5.0}, {0: 2.0})
    assert one == Interval(-1.0, None)
    assert one.text() == "–"
    assert (one.p, one.farthest, one.simultaneous(3)) == (None, None, None)
    assert paired_difference({0: 1.0}, {1: 2.0}) is None
    assert Interval.of([]) is None


@given(st.lists(st.tuples(FIGURES, FIGURES), min_size=2, max_size=12))
def test_the_interval_is_that_of_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    apart = [a - b for a, b in pairs]
    found = paired_difference({i: a for i, (a, _) in enumerate(pairs)}, {i: b for i, (_, b) in enumerate(pairs)})
    assert found is not None
    assert found.margin is not None
    if max(apart) - min(apart) < 1e-9:
        assert found.margin == pytest.approx(0.0, abs=1e-8)
        return
    test = stats.ttest_rel(*zip(*pairs, strict=True))
    low, high = test.confidence_interval(0.95)
    assert found.mean - found.margin == pytest.approx(low, abs=1e-6)
    assert found.mean + found.margin == pytest.approx(high, abs=1e-6)
    assert found.p == pytest.approx(test.pvalue, abs=1e-6)
    low, _ = test.confidence_interval(1 - 0.05 / 7)
    assert found.mean - (found.simultaneous(7) or 0) == pytest.approx(low, rel=1e-6, abs=1e-6)


def test_what_is_the_same_in_every_seed_has_no_error() -> None:
    same, apart = Interval.of([0.0, 0.0]), Interval.of([0.975] * 5)
    assert same is not None
    assert apart is not None
    assert (same.p, apart.p) == (None, None)


def test_an_error_that_all_seeds_share_is_in_the_interval() -> None:
    """Images are the same in every seed: without the error of their choice a test at 5 % errs in a third of cases."""
    generator = np.random.default_rng(0)
    images = generator.normal(0.0, 0.2, 2000)
    of_seeds = images[:, None] + generator.normal(0.0, 0.3, (2000, 5))
    found = [Interval.of(values) for values in of_seeds.tolist()]
    plain = np.mean([(one.p or 1) < 0.05 for one in found if one])
    held = np.mean([(one.with_error(0.2, 199).p or 1) < 0.05 for one in found if one])
    assert plain > 0.2
    assert 0.03 < held < 0.06
    assert found[0] is not None
    assert found[0].with_error(0.0, 199) == found[0]
    assert Interval(1.0, None).with_error(0.5, 199) == Interval(1.0, None)


def test_an_error_that_is_added_makes_nothing_surer() -> None:
    """A small spread of three seeds is luck: p < 10⁻⁶ with the error of images must not follow from .006 without."""
    seeds = Interval.of([-2.498, -3.154, -3.219])
    assert seeds is not None
    both = seeds.with_error(0.363, 199)
    assert seeds.p == pytest.approx(0.006, abs=5e-4)
    assert both.p == seeds.p
    assert (both.error or 0) > (seeds.error or 0)
    assert (both.margin or 0) >= (seeds.margin or 0)
    assert (both.simultaneous(14) or 0) >= (seeds.simultaneous(14) or 0)
    # at the strictest of Holm's steps: three seeds, an error of images of twice their standard error
    generator, level = np.random.default_rng(0), 0.05 / 14
    values = generator.normal(0, 1, (20_000, 3)) + generator.normal(0, 2 / math.sqrt(3), (20_000, 1))
    held = [Interval.of(row).with_error(2 / math.sqrt(3), 199).p or 1 for row in values.tolist()]
    assert np.mean(np.array(held) < level) < 1.3 * level


def test_intervals_cover_and_the_excluded_effect_is_excluded() -> None:
    """Of 4,000 comparisons over 5 seeds, 95 % cover the truth; an effect is excluded wrongly in 5 % at most."""
    draws = np.random.default_rng(0).normal(0.3, 1.0, (4000, 5))
    found = [Interval.of(row.tolist()) for row in draws]
    covered = fmean(abs(i.mean - 0.3) <= (i.margin or 0) for i in found if i)
    excluded = fmean((i.farthest or 0) < 0.3 for i in found if i)
    assert covered == pytest.approx(0.95, abs=0.011)  # three standard errors
    assert excluded < 0.05


def test_holm_by_hand_and_errors_of_a_family() -> None:
    """.01, .02, .03, .04 → 4 · .01, 3 · .02, then never less than a smaller one's."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    nothing = np.random.default_rng(1).normal(0, 1, (1500, 8, 5))
    p = [[Interval.of(row).p or 0.0 for row in family] for family in nothing.tolist()]
    assert fmean(min(family) < 0.05 for family in p) > 0.25  # without a correction: 1 − .95⁸ = .34
    assert fmean(min(holm(family)) < 0.05 for family in p) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1500)


def test_power_is_that_of_scipy_and_of_tables() -> None:
    """Cohen's classical case: d = .5 needs 34 pairs at 5 % and 80 %."""
    assert seeds_to_detect(0.5, 1.0) == 34
    assert seeds_to_detect(-1.0, 2.0) == 34
    assert seeds_to_detect(100.0, 1.0) == seeds_to_detect(1.0, 0.0) == 2
    assert seeds_to_detect(1e-6, 1.0) is seeds_to_detect(0.0, 1.0) is None
    for n in (2, 5, 34):
        shift = 0.5 * math.sqrt(n)
        t = stats.t.ppf(0.975, n - 1)
        assert power(0.5, n) == pytest.approx(stats.nct.sf(t, n - 1, shift) + stats.nct.cdf(-t, n - 1, shift), rel=1e-4)
        strict = stats.t.ppf(1 - 0.025 / 26, n - 1)
        exact = stats.nct.sf(strict, n - 1, shift) + stats.nct.cdf(-strict, n - 1, shift)
        assert power(0.5, n, 26) == pytest.approx(exact, rel=0.02)
    assert power(0.0, 5) == pytest.approx(0.05, rel=1e-3)
    assert 0.98 < power(1e9, 2) <= 1


@pytest.mark.parametrize("n", [2, 3, 5, 12, 200])
def test_the_detectable_effect_is_detected_in_four_of_five(n: int) -> None:
    effect = detectable(n)
    assert power(effect, n) == pytest.approx(0.8, abs=1e-6)
    assert seeds_to_detect(effect * (1 + 1e-9), 1.0) == pytest.approx(n, abs=1 if n > FEW_SEEDS else 0)
    assert power(detectable(n, 26), n, 26) == pytest.approx(0.8, abs=1e-6)
    assert detectable(n, 26) > effect
    draws = np.random.default_rng(n).normal(effect, 1.0, (2000, n))
    found = [Interval.of(row.tolist()) for row in draws]
    assert fmean((i.p or 0) < 0.05 for i in found if i) == pytest.approx(0.8, abs=0.028)


def test_sampling_has_its_share_of_the_spread() -> None:
    """Differences vary by 1 + .25, of which .25 is sampling."""
    rng = np.random.default_rng(0)
    differences = rng.normal(0, 1, 4000) + rng.normal(0, 0.5, 4000)
    assert sampling_share(differences.tolist(), [0.25] * 4000) == pytest.approx(0.2, abs=0.02)
    assert sampling_share([1.0, 1.1], [4.0, 4.0]) == 1.0
    assert sampling_share([1.0, 1.0], [0.1, 0.1]) == 1.0
    assert sampling_share([1.0, 2.0], [0.0, 0.0]) == 0.0
    assert sampling_share([1.0], [1.0]) is sampling_share([1.0, 2.0], []) is None


def test_pairs_of_images_by_hand() -> None:
    """Seed 0: 1, 3 apart, error 1; seed 1: 1, 1 apart, error 0; means over seeds 1, 2 with error ½."""
    ours, theirs = {0: [2.0, 5.0], 1: [4.0, 4.0], 2: [1.0, 1.0]}, {0: [1.0, 2.0], 1: [3.0, 3.0], 3: [0.0, 0.0]}
    assert ImagePairs.of(ours, theirs) == ImagePairs(2, {0: 1.0, 1: 0.0}, 0.5)
    assert ImagePairs.of(ours, {0: [1.0, 2.0, 3.0]}) is None
    assert ImagePairs.of({0: [1.0, 2.0], 1: [1.0] * 3}, {0: [1.0, 2.0], 1: [1.0] * 3}) is None


def test_the_spread_between_seeds_counts_where_images_are_paired() -> None:
    """Trainings differ by 1 and images by 3, over 400 of them: what images alone say would cover a third."""
    rng = np.random.default_rng(3)
    by_images = by_seeds = 0
    for _ in range(1000):
        apart = rng.normal(0, 1, (5, 1)) + rng.normal(0, 3, (5, 400))
        over_seeds = Interval.of(apart.mean(1).tolist())
        assert over_seeds is not None
        by_seeds += abs(over_seeds.mean) <= (over_seeds.margin or 0)
        by_images += abs(over_seeds.mean) <= 1.96 * apart.mean(0).std(ddof=1) / 20
    assert by_seeds / 1000 == pytest.approx(0.95, abs=0.021)
    assert by_images / 1000 < 0.5


def test_means_and_spreads_in_words() -> None:
    assert mean([1.0, 2.0], 1) == "1.5"
    assert spread([1.0, 2.5], 1) == "1.8 (1.0, 2.5)"
    assert mean([]) == spread([]) == "–"
