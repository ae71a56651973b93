"""Further figures of a difference: against scipy and statsmodels, and where they do not exist."""

import numpy as np
import pytest
from scipy import special, stats
from statsmodels.stats.proportion import proportion_confint

from analysis.statistics.effect_sizes import (
    NO_EVIDENCE,
    evidence,
    paired_improvement,
    paired_standardized,
    unpaired_improvement,
    unpaired_standardized,
)
from analysis.statistics.resampling import bca_interval, sign_flip

A = {0: 0.912, 1: 0.921, 2: 0.915, 3: 0.908, 4: 0.917}
B = {0: 0.918, 1: 0.925, 2: 0.914, 3: 0.916, 4: 0.924}
DELTAS = np.array([B[seed] - A[seed] for seed in A])


def test_pairs_are_described_by_their_differences() -> None:
    found = evidence(A, B)
    rng = np.random.default_rng(0)
    assert (found.delta_bca_low, found.delta_bca_high) == bca_interval(np.sort(DELTAS), rng)
    assert found.p_permutation == sign_flip(DELTAS, rng)
    assert found.improvement == 0.8
    assert found.standardized == pytest.approx(paired_standardized(DELTAS))
    # 1.682 standard deviations: the effect at which 5 pairs have 80 % power.
    assert found.detectable == pytest.approx(1.6819969 * DELTAS.std(ddof=1), rel=1e-6)


def test_the_order_of_the_seeds_changes_nothing() -> None:
    assert evidence(dict(reversed(A.items())), B) == evidence(A, B)


def test_other_seeds_are_no_pairs() -> None:
    other = {seed + 10: value for seed, value in B.items()}
    found = evidence(A, other)
    assert found.improvement == stats.mannwhitneyu(list(B.values()), list(A.values()))[0] / 25
    assert found.standardized == unpaired_standardized(list(A.values()), list(B.values()))
    assert found.delta_bca_low is found.p_permutation is found.detectable is None


@pytest.mark.parametrize("level", [{}, {0: 0.9}, {7: 0.9}])
def test_of_too_few_values_nothing_is_said(level: dict[int, float]) -> None:
    assert evidence(A, level) == NO_EVIDENCE


def test_differences_without_a_spread_have_no_size_in_spreads() -> None:
    found = evidence(A, A)
    assert (found.improvement, found.p_permutation) == (0.5, 1)
    assert found.standardized is found.detectable is found.delta_bca_low is None


@pytest.mark.parametrize("differences", [[1, 2, -1], [1, 1, 1, 1], [-2, -1], [1, -1, 0, 0, 3]])
def test_the_chance_of_improvement_of_pairs_is_a_share_with_wilsons_interval(
    differences: list[int],
) -> None:
    wins = sum((own > 0) + (own == 0) / 2 for own in differences)
    found = paired_improvement(np.array(differences) / 1000)
    assert found.probability == wins / len(differences)
    expected = proportion_confint(wins, len(differences), method="wilson")
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)


def test_the_chance_of_improvement_without_pairs_is_brunner_and_munzels() -> None:
    a, b = [1, 2, 2, 4, 5, 3.5, 6, 7, 9], [2, 3, 6, 4.5, 8, 2, 7.5]
    found = unpaired_improvement(a, b)
    theirs = stats.brunnermunzel(a, b)
    assert found.low is not None
    assert found.high is not None
    # Their statistic is (probability - 1/2) / error, and its p-value tells the degrees of freedom.
    error = (found.probability - 0.5) / float(theirs.statistic)
    on_logit = error / (found.probability * (1 - found.probability))
    half = (special.logit(found.high) - special.logit(found.low)) / 2
    assert found.probability == pytest.approx(
        np.mean([(y > x) + (y == x) / 2 for x in a for y in b])
    )
    critical = half / on_logit
    freedom = next(
        f
        for f in np.linspace(2, 16, 140_001)
        if 2 * special.stdtr(f, -abs(theirs.statistic)) < theirs.pvalue
    )
    assert critical == pytest.approx(special.stdtrit(freedom, 0.975), rel=1e-3)


def test_samples_that_do_not_overlap_have_no_interval_of_improvement() -> None:
    found = unpaired_improvement([1, 2, 3], [4, 5])
    assert (found.probability, found.low, found.high) == (1, None, None)


def test_a_standardised_effect_is_unbiased() -> None:
    # The mean over many samples of five differences of true size 0.8.
    samples = np.random.default_rng(3).normal(0.8, 1, (20_000, 5))
    found = [paired_standardized(own) for own in samples]
    assert np.mean(np.array(found, float)) == pytest.approx(0.8, abs=0.02)
    raw = samples.mean(axis=1) / samples.std(axis=1, ddof=1)
    assert raw.mean() > 0.95  # what the correction is for


def test_a_standardised_difference_by_hand() -> None:
    # Means 1 and 4, variances 1 and 4; Hedges' correction for 4 degrees of freedom: 0.79788.
    found = unpaired_standardized([0, 1, 2], [2, 4, 6])
    assert found == pytest.approx(0.797885 * 3 / 2.5**0.5, rel=1e-5)
    assert unpaired_standardized([1, 1], [2, 2]) is None
