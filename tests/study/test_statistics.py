"""Means over seeds, their intervals, and differences that are paired by seed: by hand, and against scipy."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hldm.study.statistics import Interval, mean, paired_difference, spread

FIGURES = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))


def test_paired_differences_by_hand() -> None:
    """Differences 1, 2 and 3 have mean 2 and standard error 1/√3, and t(0.975; 2) is 4.3027."""
    found = paired_difference({0: 11.0, 1: 4.0, 2: 33.0, 3: 7.0}, {2: 30.0, 0: 10.0, 1: 2.0})
    assert found is not None
    assert found.mean == 2.0
    assert found.margin == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert found.text() == "+2.00 ± 2.48"
    assert found.text(3) == "+2.000 ± 2.484"


def test_one_seed_has_no_interval_and_none_has_nothing() -> None:
    one = paired_difference({0: 1.0, 1: 5.0}, {0: 2.0})
    assert one == Interval(-1.0, None)
    assert one.text() == "–"
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
    low, high = stats.ttest_rel(*zip(*pairs, strict=True)).confidence_interval(0.95)
    assert found.mean - found.margin == pytest.approx(low, abs=1e-6)
    assert found.mean + found.margin == pytest.approx(high, abs=1e-6)


def test_means_and_spreads_in_words() -> None:
    assert mean([1.0, 2.0], 1) == "1.5"
    assert spread([1.0, 2.5], 1) == "1.8 (1.0, 2.5)"
    assert mean([]) == spread([]) == "–"
