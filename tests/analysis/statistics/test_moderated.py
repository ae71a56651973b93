"""Variances that borrow from each other: alike, unlike, and one that is far out."""

import numpy as np
import pytest

from analysis.statistics.moderated import fit_prior, moderate


def test_equal_variances_become_nearly_one() -> None:
    rng = np.random.default_rng(1)
    drawn = rng.chisquare(4, 40) / 4
    found = moderate(drawn, np.full(40, 4.0))
    assert np.std(np.delete(found.variances, drawn.argmax())) < 0.2 * np.std(drawn)
    assert found.prior.scale == pytest.approx(1, abs=0.25)
    assert found.prior.freedom > 20
    assert (found.freedoms > 20).sum() >= 25


def test_unlike_variances_keep_their_differences() -> None:
    rng = np.random.default_rng(2)
    true = np.exp(rng.normal(0, 1.5, 40))
    drawn = true * rng.chisquare(10, 40) / 10
    found = moderate(drawn, np.full(40, 10.0))
    assert found.prior.freedom < 5
    assert np.std(np.log(found.variances)) > 0.7 * np.std(np.log(drawn))


def test_the_prior_is_found_where_variances_follow_it() -> None:
    rng = np.random.default_rng(3)
    true = 2.0 * 8 / rng.chisquare(8, 2_000)
    prior = fit_prior(true * rng.chisquare(4, 2_000) / 4, np.full(2_000, 4.0))
    assert prior.scale == pytest.approx(2, rel=0.1)
    assert prior.freedom == pytest.approx(8, rel=0.3)


def test_an_erratic_group_keeps_its_own_variance() -> None:
    variances = np.ones(20)
    variances[3] = 25
    found = moderate(variances, np.full(20, 4.0))
    assert found.variances[3] == pytest.approx(25, rel=0.02)
    assert found.freedoms[3] == pytest.approx(4, rel=0.02)
    assert (np.delete(found.variances, 3) < 3).all()


def test_a_group_that_many_comparisons_share_lends_and_borrows_little() -> None:
    shared = np.zeros(10, bool)
    shared[0] = True
    variances = np.linspace(0.5, 1.5, 10)
    found = moderate(variances, np.full(10, 4.0), shared)
    assert 0.5 < found.variances[0] < 0.6
    assert found.freedoms[0] == pytest.approx(4.8)
    assert found.variances[1] > found.variances[0] + 0.1


def test_a_variance_of_nothing_is_raised_by_the_others() -> None:
    found = moderate([0.0, 1.0, 1.2, 0.8], [4.0, 4.0, 4.0, 4.0])
    assert 0.05 < found.variances[0] < 1
    assert np.isfinite(found.freedoms).all()
