"""The bootstrap and sign flips: against scipy's, and at their limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics.resampling import MOST_EXACT, RESAMPLES, bca_interval, sign_flip

SKEWED = np.array([0.1, -0.2, 0.05, 1.9, 0.4, 0.0, 0.3, 0.7, -0.1, 0.2])


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("n", [2, 5, 10])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_bootstrap_is_scipys(n: int, confidence: float) -> None:
    expected = stats.bootstrap(
        (SKEWED[:n],),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="BCa",
        rng=rng(),
    ).confidence_interval
    assert bca_interval(SKEWED[:n], rng(), confidence) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


def test_the_bootstrap_follows_the_skew() -> None:
    low, high = bca_interval(SKEWED, rng()) or (0, 0)
    assert high - SKEWED.mean() > 1.5 * (SKEWED.mean() - low)


def test_many_values_are_drawn_in_parts() -> None:
    many = np.random.default_rng(1).normal(size=20_000)
    low, high = bca_interval(many, rng()) or (0, 0)
    error = many.std(ddof=1) / many.size**0.5
    assert (low, high) == pytest.approx(
        (many.mean() - 1.96 * error, many.mean() + 1.96 * error), abs=0.5 * error
    )


@pytest.mark.parametrize("values", [[], [0.1], [0.1, 0.1, 0.1]])
def test_without_a_spread_there_is_no_bootstrap_interval(values: list[float]) -> None:
    assert bca_interval(values, rng()) is None


@pytest.mark.parametrize("n", [2, 5, 10])
def test_few_pairs_are_flipped_in_every_way_as_scipys(n: int) -> None:
    expected = stats.permutation_test(
        (SKEWED[:n],), np.mean, permutation_type="samples", n_resamples=2**n
    )
    assert sign_flip(SKEWED[:n], rng()) == pytest.approx(expected.pvalue, abs=1e-12)


def test_many_pairs_are_flipped_at_random() -> None:
    own = np.tile(SKEWED, 2) - 0.1
    assert own.size > MOST_EXACT
    patterns = 1 - 2.0 * (np.arange(2**20)[:, None] >> np.arange(20) & 1)
    exact = np.mean(np.abs(patterns @ own) >= abs(own.sum()) - 1e-9)
    # Three standard errors of 10,000 draws.
    assert sign_flip(own, rng()) == pytest.approx(exact, abs=3 * (exact * (1 - exact) / 1e4) ** 0.5)
    assert sign_flip(own, rng()) == sign_flip(own, rng())
    assert sign_flip(own + 5, rng()) == 1 / (RESAMPLES + 1)


def test_the_limits_of_sign_flips() -> None:
    assert sign_flip([0.5], rng()) is None
    assert sign_flip([0.0, 0.0], rng()) == 1
    # All of one sign: two of 2**5 patterns.
    assert sign_flip([0.1, 0.1, 0.1, 0.1, 0.1], rng()) == pytest.approx(2 / 32)


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=9))
def test_sign_flips_know_no_direction_nor_scale(values: list[int]) -> None:
    own = np.array(values) / 1000
    found = sign_flip(own, rng())
    assert found is not None
    assert 2 / 2**own.size <= found <= 1
    assert found == sign_flip(-own, rng()) == sign_flip(own * 3, rng())
