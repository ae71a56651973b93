"""Intervals of proportions and of their paired differences, against published figures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_of_statsmodels
from statsmodels.stats.proportion import proportion_confint

from analysis.statistics.proportions import compare, mcnemar, tango, wilson


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_is_that_of_statsmodels(counts: tuple[int, int]) -> None:
    right, images = counts
    low, high = wilson(right, images)
    assert 0 <= low <= right / images <= high <= 1
    assert (low, high) == pytest.approx(proportion_confint(right, images, method="wilson"))


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemars_exact_test_is_that_of_statsmodels(only_first: int, only_second: int) -> None:
    theirs = mcnemar_of_statsmodels([[5, only_first], [only_second, 5]], exact=True)
    assert mcnemar(only_first, only_second) == pytest.approx(theirs.pvalue)


def test_mcnemars_exact_test_of_a_published_table() -> None:
    # Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014): 1 against 7 of 21.
    assert mcnemar(1, 7) == pytest.approx(0.0703, abs=5e-5)


@pytest.mark.parametrize(
    ("only_first", "only_second", "images", "low", "high"),
    [
        (1, 7, 21, -0.517, -0.026),  # Fagerland, Lydersen and Laake 2014
        (16, 8, 86, -0.020, 0.207),  # Agresti and Min, Statistics in Medicine 24 (2005)
    ],
)
def test_tangos_interval_of_published_tables(
    only_first: int, only_second: int, images: int, low: float, high: float
) -> None:
    assert tango(only_first, only_second, images) == pytest.approx((low, high), abs=5e-4)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_tangos_interval_holds_the_difference_and_mirrors_when_they_change_places(
    only_first: int, only_second: int, agreed: int
) -> None:
    images = max(1, only_first + only_second + agreed)
    low, high = tango(only_first, only_second, images)
    assert -1 <= low <= (only_first - only_second) / images <= high <= 1
    assert low < high
    assert tango(only_second, only_first, images) == pytest.approx((-high, -low), abs=1e-9)
    # It leaves out no difference exactly where McNemar's score test rejects it.
    rejects = (only_first - only_second) ** 2 > 1.959963984540054**2 * (only_first + only_second)
    assert (low > 0 or high < 0) == rejects


def test_classifiers_that_never_disagree_have_an_interval_with_a_width() -> None:
    low, high = tango(0, 0, 1000)
    assert (low, high) == pytest.approx((-0.00383, 0.00383), abs=1e-5)  # z^2 / (n + z^2)
    assert mcnemar(0, 0) == 1.0


def test_two_classifiers_are_compared_image_by_image() -> None:
    first = np.array([True] * 90 + [False] * 10)
    second = np.array([True] * 80 + [False] * 18 + [True] * 2)
    found = compare(first, second)
    assert (found.images, found.only_first, found.only_second) == (100, 10, 2)
    assert found.difference == pytest.approx(0.08)
    assert (found.low, found.high) == tango(10, 2, 100)
    assert found.p_value == mcnemar(10, 2)


def test_the_interval_holds_the_true_difference_in_19_of_20_experiments() -> None:
    rng = np.random.default_rng(7)
    shares = [0.88, 0.05, 0.03, 0.04]  # both right, only first, only second, neither
    counts = rng.multinomial(500, shares, size=2000)
    held = [
        low <= 0.02 <= high for low, high in (tango(int(b), int(c), 500) for _, b, c, _ in counts)
    ]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)
