"""The largest of many t statistics: against scipy's integrals, and at its limits."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics import dunnett
from analysis.statistics.dunnett import critical, exceedance, loadings, two_sided_tail

EQUAL = 0.5**0.5


def by_scipy(threshold: float, loadings: np.ndarray, freedom: float) -> float:
    """By quasi Monte Carlo, good to about 1e-4."""
    m = len(loadings)
    shape = np.outer(loadings, loadings)
    np.fill_diagonal(shape, 1)
    t: Any = stats.multivariate_t(np.zeros(m), shape, freedom)  # type: ignore[arg-type]
    limit = np.full(m, threshold)
    inside = t.cdf(limit, lower_limit=-limit, maxpts=50_000 * m, random_state=1)
    return float(1 - inside)


@pytest.mark.parametrize("freedom", [2, 4, 13.5, 84])
@pytest.mark.parametrize("m", [2, 4, pytest.param(21, marks=pytest.mark.slow)])
def test_the_integral_is_that_of_the_multivariate_t(m: int, freedom: float) -> None:
    unequal = np.linspace(0.3, 0.9, m)
    for threshold in (2.0, 3.0, 4.5):
        ours = float(exceedance([threshold], [unequal], freedom)[0])
        assert ours == pytest.approx(by_scipy(threshold, unequal, freedom), abs=3e-4)


def test_p_values_are_those_of_dunnetts_test() -> None:
    rng = np.random.default_rng(1)
    control, *levels = rng.normal(0, 1, (6, 8))
    levels = [level + shift for level, shift in zip(levels, (0, 0.5, 1, 1.5, 2), strict=True)]
    theirs = stats.dunnett(*levels, control=control, random_state=1)
    ours = exceedance(np.abs(theirs.statistic), [np.full(5, EQUAL)], 42)
    assert ours == pytest.approx(theirs.pvalue, abs=1e-3)


def test_critical_values_are_those_of_the_tables() -> None:
    # Dunnett 1964, two-sided, 5 %: comparisons, degrees of freedom.
    for m, freedom, value in ((2, 5, 3.03), (5, 10, 2.99), (9, 20, 2.95), (9, np.inf, 2.69)):
        assert critical([np.full(m, EQUAL)], freedom, 0.05) == pytest.approx(value, abs=0.006)


def test_a_single_comparison_is_students_t() -> None:
    for freedom in (1, 2, 7.3, 100):
        for threshold in (0.5, 3.0, 12.0):
            ours = float(exceedance([threshold], [np.zeros(1)], freedom)[0])
            assert ours == pytest.approx(2 * stats.t.sf(threshold, freedom), rel=2e-3)


def test_independent_controls_multiply() -> None:
    both = float(exceedance([2.5], [np.full(3, EQUAL), np.full(2, EQUAL)], np.inf)[0])
    each = (
        exceedance([2.5], [np.full(3, EQUAL)], np.inf),
        exceedance([2.5], [np.full(2, EQUAL)], np.inf),
    )
    assert both == pytest.approx(1 - (1 - float(each[0][0])) * (1 - float(each[1][0])), abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(0, 0.98), min_size=1, max_size=8),
    st.floats(1.5, 200),
    st.floats(0.001, 0.3),
)
def test_the_critical_value_has_the_chance_it_is_asked_for(
    own: list[float], freedom: float, alpha: float
) -> None:
    groups = [np.array(own)]
    threshold = critical(groups, freedom, alpha)
    assert float(exceedance([threshold], groups, freedom)[0]) == pytest.approx(alpha, rel=1e-6)
    # More than a single one, less than Bonferroni.
    single = float(two_sided_tail(threshold, freedom))
    assert alpha / len(own) * 0.995 <= single <= alpha * 1.005


def test_loadings_of_a_common_control_are_found_exactly() -> None:
    own = np.array([0.9, 0.5, 0.7, 0.3])
    correlation = np.outer(own, own)
    np.fill_diagonal(correlation, 1)
    assert loadings(correlation, np.full(4, 0.5)) == pytest.approx(own, abs=1e-4)
    assert loadings(correlation, own**2) == pytest.approx(own, abs=1e-6)


def test_of_many_comparisons_nearly_equal_loadings_count_as_equal_and_err_on_the_safe_side(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spread = [np.random.default_rng(0).uniform(0.5, 0.9, 300)]
    thresholds = [2.5, 3.5, 4.5]
    quick = dunnett.exceedance(thresholds, spread, math.inf)
    monkeypatch.setattr(dunnett, "MANY", 300)
    exact = dunnett.exceedance(thresholds, spread, math.inf)
    assert np.all(quick >= exact)
    assert quick == pytest.approx(exact, rel=0.02)
