"""Do the joint tests keep their promises? Simulated studies whose truth is known, fixed seeds.

Short by default; `benchmarks/validity.py` prints the tables of docs/statistics.md. A count fails
where so many or more would come once in a thousand times if the promise held.
"""

import pytest
from scipy import stats

from tests.support.simulated import (
    factorial_claims,
    false_claims,
    fixed,
    is_false,
    power,
    until_sure,
)

ALL = [pytest.param(100, id="short"), pytest.param(1_000, id="long", marks=pytest.mark.slow)]


def at_most(count: float, studies: int, rate: float) -> bool:
    return float(stats.binom.sf(count - 1, studies, rate)) > 1e-3


@pytest.mark.parametrize("studies", ALL)
@pytest.mark.parametrize(
    ("scatter", "rate"),
    [
        ("equal", 0.055),
        ("published residuals", 0.055),
        ("published sds", 0.055),
        ("lognormal(0.5) sds", 0.07),
        ("a level's sd x 4", 0.07),
        ("baseline's sd x 2", 0.07),
    ],
)
@pytest.mark.parametrize(("variants", "seeds"), [(5, 3), (5, 10), (22, 5)])
def test_a_study_without_differences_rarely_claims_one(
    scatter: str, rate: float, variants: int, seeds: int, studies: int
) -> None:
    claims = false_claims("joint", scatter, variants, seeds, studies)
    assert at_most(claims, studies, rate)


@pytest.mark.parametrize("scatter", ["a level's sd x 4", "baseline's sd x 2"])
def test_naive_pooling_claims_far_too_much(scatter: str) -> None:
    # What moderation is for.
    assert false_claims("pooled", scatter, 22, 5, 200) > 0.1 * 200


@pytest.mark.parametrize("studies", ALL)
def test_a_difference_is_found_far_more_often_than_by_each_comparison_for_itself(
    studies: int,
) -> None:
    joint = power("joint", "published residuals", 5, 1.0, studies)
    strict = power("strict", "published residuals", 5, 1.0, studies)
    assert joint > 0.7
    assert joint > 2 * strict


@pytest.mark.parametrize("studies", [pytest.param(40, id="short"), ALL[1]])
@pytest.mark.parametrize("spread", [0.0, 0.3])
@pytest.mark.parametrize("seeds", [3, 5])
def test_what_a_factor_does_in_some_seeds_is_not_taken_for_its_effect(
    seeds: int, spread: float, studies: int
) -> None:
    table, variance = factorial_claims(seeds, spread, studies)
    assert at_most(table, studies, 0.06)
    assert at_most(variance, studies, 0.06)


@pytest.mark.parametrize(
    "studies", [pytest.param(25, id="short"), pytest.param(400, id="long", marks=pytest.mark.slow)]
)
def test_stopping_when_sure_saves_a_quarter_of_the_trainings_and_claims_no_more(
    studies: int,
) -> None:
    whole = fixed(15, studies, "published sds")
    early = until_sure(16, studies, "published sds")
    assert at_most(round(early.false * studies), studies, 0.055)
    assert early.correct > whole.correct - 0.04
    assert early.trainings < 0.75 * whole.trainings


def test_what_is_false() -> None:
    assert is_false("better", 0.0)
    assert is_false("worse", 0.5)
    assert not is_false("better", 0.5)
    assert is_false("negligible", 0.5, 0.5)
    assert not is_false("negligible", 0.4, 0.5)
    assert not is_false("undecided", 0.0)
