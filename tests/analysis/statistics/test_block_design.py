"""Variants against a common control: against statsmodels, and honest where data are thin."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.formula.api import ols

from analysis.statistics.block_design import BlockDesign, compare, paired
from tests.support.simulated import comparisons, values

Study = dict[Any, dict[Any, float]]


def some(levels: int = 6, seeds: int = 5, seed: int = 1, scatter: str = "equal") -> Study:
    rng = np.random.default_rng(seed)
    return dict(values(rng, scatter, rng.choice([0, 0.5, 1.0], levels).tolist(), seeds))


def without(study: Study, *cells: tuple[int, int]) -> Study:
    return {
        variant: {seed: own for seed, own in row.items() if (variant, seed) not in cells}
        for variant, row in study.items()
    }


def test_without_missing_cells_a_difference_is_the_mean_of_its_pairs() -> None:
    study = some()
    for pair, estimate in compare(comparisons(6), study).items():
        assert estimate.n == 5
        assert estimate.delta == pytest.approx(float(paired(study, pair).mean()), abs=1e-12)


def test_with_missing_cells_differences_are_those_of_least_squares() -> None:
    study = without(some(), (0, 1), (2, 3), (2, 4), (5, 0))
    rows = [
        {"variant": variant, "seed": seed, "y": own}
        for variant, row in study.items()
        for seed, own in row.items()
    ]
    fit = ols("y ~ C(variant) + C(seed)", pd.DataFrame(rows)).fit()
    design = BlockDesign(comparisons(6), study)
    assert design.deltas == pytest.approx(
        [fit.params[f"C(variant)[T.{level}]"] for level in range(1, 7)], abs=1e-10
    )
    assert design.residual_degrees == fit.df_resid
    # The correlations of least squares, were all variances equal.
    theirs = fit.cov_params().iloc[1:7, 1:7].to_numpy() / fit.scale
    assert design.weights @ design.weights.T == pytest.approx(theirs, abs=1e-10)


def test_a_single_comparison_is_the_paired_t_test() -> None:
    study = some(levels=1)
    (estimate,) = compare([(1, 0)], study).values()
    expected = stats.ttest_rel(list(study[1].values()), list(study[0].values()))
    interval = expected.confidence_interval(0.95)
    assert estimate.judgement is not None
    assert estimate.freedom == pytest.approx(4)
    assert estimate.judgement.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert (estimate.judgement.low, estimate.judgement.high) == pytest.approx(
        (interval.low, interval.high), rel=1e-6
    )


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10_000),
    st.integers(1, 8),
    st.integers(2, 6),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5)), max_size=6),
    st.sampled_from(["equal", "lognormal(0.5) sds", "a level's sd x 4", "baseline's sd x 2"]),
)
def test_an_interval_excludes_zero_exactly_where_p_is_at_most_5_percent(
    seed: int, levels: int, seeds: int, missing: list[tuple[int, int]], scatter: str
) -> None:
    study = without(some(max(1, levels), seeds, seed, scatter), *missing)
    for pair, estimate in compare(comparisons(levels), study, negligible=0.5).items():
        own = estimate.judgement
        if own is None:
            continue
        assert own.low <= estimate.delta <= own.high
        assert own.p_single <= own.p_value <= 1
        assert (own.p_value <= 0.05) == (own.low > 0 or own.high < 0)
        assert own.p_negligible is not None
        assert (own.p_negligible <= 0.05) == (own.bound <= 0.5)
        # Never surer than its own pairs.
        deltas = paired(study, pair)
        if estimate.paired and np.ptp(deltas) > 1e-9:
            alone = stats.t.sf(abs(estimate.delta) / stats.sem(deltas), len(deltas) - 1)
            assert own.p_value >= 2 * alone * (1 - 1e-9)


def test_what_others_are_compared_with_hardly_borrows() -> None:
    study = some(levels=20, scatter="baseline's sd x 2", seeds=10)
    variances, freedoms = BlockDesign(comparisons(20), study).scatter
    y = np.array([list(row.values()) for row in study.values()])
    residual = y - y.mean(axis=0) - y.mean(axis=1, keepdims=True) + y.mean()
    unbiased = np.sum(residual[0] ** 2) / (9 * (1 - 1 / 21))
    assert 9 <= freedoms[0] <= 10.8
    assert unbiased / 1.2 < variances[0] < unbiased * 1.2
    assert (freedoms[1:] > 20).sum() > 10


def test_two_references_are_judged_together() -> None:
    study = some(levels=6)
    pairs = [(1, 0), (2, 0), (3, 2), (4, 2), (2, 0)]
    found = compare(pairs, study)
    assert list(found) == [(1, 0), (2, 0), (3, 2), (4, 2)]
    assert [len(group) for group in BlockDesign(pairs, study).groups()] == [2, 2]


def test_a_variant_without_common_seeds_is_judged_by_welch_and_corrected_with_the_others() -> None:
    study = some(levels=3)
    study[4] = {seed + 100: own + 0.4 for seed, own in study[1].items()}
    found = compare(comparisons(4), study)
    apart = found[4, 0]
    expected = stats.ttest_ind(list(study[4].values()), list(study[0].values()), equal_var=False)
    assert (apart.paired, apart.n) == (False, 5)
    assert apart.judgement is not None
    assert apart.judgement.p_single == pytest.approx(expected.pvalue, rel=1e-9)
    assert apart.judgement.p_value > expected.pvalue


def test_too_few_values_have_a_difference_and_no_judgement() -> None:
    study: Study = {0: {0: 1.0, 1: 2.0}, 1: {0: 1.5}, 2: {}, 3: {7: 2.5}}
    found = compare([(1, 0), (2, 0), (3, 0), (5, 0)], study)
    assert {pair: (own.delta, own.judgement) for pair, own in found.items()} == {
        (1, 0): (0.5, None),
        (3, 0): (1.0, None),
    }


def test_a_variant_that_changes_nothing_is_identical() -> None:
    study = some(levels=3)
    study[1] = dict(study[0])
    own = compare(comparisons(3), study)[1, 0]
    assert own.judgement is not None
    assert (own.delta, own.judgement.low, own.judgement.high) == (0, 0, 0)
    assert own.judgement.p_value == 1


def test_the_same_difference_on_all_seeds_is_judged_by_the_others_scatter() -> None:
    study = some(levels=8)
    study[1] = {seed: own + 2 for seed, own in study[0].items()}
    own = compare(comparisons(8), study)[1, 0].judgement
    assert own is not None
    assert 0 < own.p_value <= 0.05
    # With nobody to ask there is nothing to judge it by.
    assert compare([(1, 0)], {0: study[0], 1: study[1]})[1, 0].judgement is None


def test_nothing_at_all_is_no_error() -> None:
    assert compare([], {}) == {}
    assert compare([(1, 0)], {}) == {}
    assert compare([(1, 0)], {0: {}, 1: {}}) == {}


@pytest.mark.parametrize("studies", [pytest.param(300, id="short")])
def test_the_omnibus_test_claims_one_in_5_percent(studies: int) -> None:
    rng = np.random.default_rng(4)
    claims = 0
    for _ in range(studies):
        design = BlockDesign(comparisons(9), values(rng, "equal", [0.0] * 9, 5))
        omnibus = design.omnibus(comparisons(3))
        assert omnibus is not None
        claims += omnibus.p_value <= 0.05
    assert claims <= stats.binom.isf(1e-3, studies, 0.055)
    assert claims >= stats.binom.ppf(1e-3, studies, 0.015)


def test_the_omnibus_test_is_the_f_test_of_the_model_where_scatters_are_pooled() -> None:
    study = some(levels=3, seeds=6)
    design = BlockDesign(comparisons(3), study)
    found = design.omnibus(comparisons(3))
    assert found is not None
    assert found.degrees == 3
    deltas = design.deltas
    assert found.f == pytest.approx(deltas @ np.linalg.solve(design.covariance, deltas) / 3)
    assert list(itertools.islice(design.comparisons, 3)) == comparisons(3)
    assert design.omnibus([(9, 0)]) is None
