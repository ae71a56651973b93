"""Power: against statsmodels, and the words of its note."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.power import TTestPower

from analysis.statistics.power import MOST_SEEDS, detectable, needed, note, power


@pytest.mark.parametrize("n", [2, 3, 5, 15, 100, 3000])
@pytest.mark.parametrize("shift", [1e-3, 0.5, 2, 5])  # theirs is NaN for many larger ones
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 22])
def test_power_is_that_of_statsmodels(n: int, shift: float, alpha: float) -> None:
    effect = shift / n**0.5
    theirs = TTestPower().power(effect, n, alpha)
    assert power(effect, n, alpha) == pytest.approx(theirs, abs=1e-9)


def test_known_powers() -> None:
    assert power(0, 7, 0.01) == pytest.approx(0.01, abs=1e-10)
    assert power(40, 50) == pytest.approx(1, abs=1e-12)
    # Cohen (1988), table 2.3.5: two-sided 5 %, 80 % power, d = 0.5 takes 33 or 34 pairs.
    assert needed(0.5) == 34


@pytest.mark.parametrize("n", [2, 5, 20])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_the_smallest_detectable_difference_has_the_wanted_power(n: int, alpha: float) -> None:
    effect = detectable(n, alpha)
    assert effect is not None
    assert power(effect, n, alpha) == pytest.approx(0.8, abs=1e-8)
    assert detectable(1) is None


@given(st.floats(0.05, 20), st.sampled_from([0.05, 0.005]))
def test_so_many_pairs_detect_it_and_one_less_does_not(effect: float, alpha: float) -> None:
    n = needed(effect, alpha)
    assert n is not None
    assert power(effect, n, alpha) >= 0.8
    assert n == 2 or power(effect, n - 1, alpha) < 0.8
    assert needed(-effect, alpha) == n


def test_what_no_number_of_seeds_detects() -> None:
    assert needed(0) is None
    assert needed(0.01) is None
    assert power(0.01, MOST_SEEDS) < 0.8


def test_the_note_before_a_run() -> None:
    assert note(None, 5).startswith("5 seeds: 0.42 points; for 0.2: 15 seeds (80 % power at 5 %")
    assert "0.25 points, assumed" in note(None, 5)
    measured = note(0.005, 10)
    assert measured.startswith("10 seeds: 0.5 points; for 0.2: 52 seeds")
    assert "0.5 points, of the trials so far" in measured
    assert note(0.16, 2).startswith("2 seeds: 185 points; ")
    assert note(None, 1).startswith("1 seed: no difference, as it has no spread")
    assert "more than 10,000 seeds" in note(0.1, 5)
