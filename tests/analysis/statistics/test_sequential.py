"""A study that stops when it is sure: what is trained next, and what is decided when."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.sequential import Path, follow, looks
from tests.support.simulated import comparisons, values

Study = dict[Any, dict[int, float | None]]
ALL = comparisons(4)


def study(differences: list[float], seeds: int = 20, seed: int = 1) -> Study:
    return dict(values(np.random.default_rng(seed), "equal", differences, seeds))


def first(of: Study, seeds: int) -> Study:
    return {
        variant: {seed: own for seed, own in row.items() if seed < seeds}
        for variant, row in of.items()
    }


def train(truth: Study, **options: Any) -> tuple[Path, Study]:
    """Train what is wanted until nothing is."""
    have: Study = {}
    while not (path := follow(ALL, have, **options)).finished:
        for variant, seed in path.wanted:
            have.setdefault(variant, {})[seed] = truth[variant][seed]
    return path, have


def test_looks_are_fixed_in_advance() -> None:
    assert looks(20) == (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18, 20)
    assert looks(5) == (3, 4, 5)
    assert looks(3) == (3,)
    assert looks(2) == (2,)
    assert looks(6, first=5) == (5, 6)


def test_the_first_round_is_three_seeds_of_all() -> None:
    path = follow(ALL, {})
    assert path.wanted == tuple((variant, seed) for seed in range(3) for variant in range(5))
    assert (path.round, path.looks, path.decisions, path.finished) == (3, (), {}, False)
    assert path.forecast is not None
    assert (path.forecast.trainings, path.forecast.undecided) == (15, 4)
    assert path.forecast.detectable is None


def test_levels_are_decided_one_by_one_and_get_no_further_seeds() -> None:
    path, have = train(study([3.0, -3.0, 0.0, 0.6]), negligible=0.6)
    words = [path.decisions[pair].verdict for pair in ALL]
    assert words[:3] == ["better", "worse", "negligible"]
    for pair in ALL:
        assert len(have[pair[0]]) == path.decisions[pair].seeds
    assert len(have[0]) == max(own.seeds for own in path.decisions.values())
    assert path.decisions[1, 0].seeds < path.decisions[3, 0].seeds
    assert path.looks[0].seeds == 3
    assert path.wanted == ()


def test_a_decision_stands_on_its_interval() -> None:
    path, _ = train(study([1.0, 0.5, 0.0, -0.7], seed=4), negligible=0.5)
    for own in path.decisions.values():
        assert own.low is not None
        assert own.high is not None
        assert own.bound is not None
        if own.verdict == "negligible":
            assert own.bound <= 0.5
        else:
            assert (own.verdict == "better") == (own.low > 0)
            assert (own.verdict == "worse") == (own.high < 0)


def test_what_comes_late_changes_no_decision() -> None:
    truth = study([1.0, 0.5, 0.0, -0.7], seed=5)
    stopped, _ = train(truth, negligible=0.5)
    everything = follow(ALL, truth, negligible=0.5)
    assert everything == stopped


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1_000), st.randoms(use_true_random=False))
def test_a_killed_run_goes_on_as_if_nothing_had_happened(seed: int, order: random.Random) -> None:
    truth = study([1.5, 0.5, 0.0, 0.0], seeds=6, seed=seed)
    straight, _ = train(truth, max_seeds=6, negligible=0.5)
    have: Study = {}
    while not (path := follow(ALL, have, max_seeds=6, negligible=0.5)).finished:
        variant, number = order.choice(path.wanted)  # one training, then all is asked again
        have.setdefault(variant, {})[number] = truth[variant][number]
    assert path == straight


def test_an_incomplete_round_decides_nothing_yet() -> None:
    truth = study([2.0, 0.0, 0.0, 0.0])
    before = follow(ALL, first(truth, 3))
    have = first(truth, 3)
    have[0][3] = truth[0][3]
    now = follow(ALL, have)
    assert (now.looks, now.decisions) == (before.looks, before.decisions)
    assert set(now.wanted) == set(before.wanted) - {(0, 3)}


def test_a_failed_seed_ends_a_level_and_not_its_reference() -> None:
    truth = study([2.0, 0.0, 0.0, 0.0])
    truth[1][1] = None
    truth[0][2] = None
    path = follow(ALL, first(truth, 3))
    assert path.decisions[1, 0].verdict == "failed"
    assert path.decisions[2, 0].n == 2
    assert 1 not in {variant for variant, _ in path.wanted}


def test_at_the_most_seeds_the_study_ends() -> None:
    path, have = train(study([0.0, 0.0, 0.0, 0.0]), max_seeds=4)
    assert all(own.verdict == "undecided" for own in path.decisions.values())
    assert path.reason == "the most seeds are reached (4), with 4 of 4 levels undecided"
    assert all(len(row) == 4 for row in have.values())


def test_a_level_that_never_differs_is_not_trained_for_ever_without_a_margin() -> None:
    truth = study([3.0] * 4)
    for seed, own in truth[0].items():
        truth[1][seed] = own
    path, _ = train(truth, max_seeds=5)
    assert path.decisions[1, 0].verdict == "undecided"
    assert path.decisions[1, 0].delta == pytest.approx(0)


def test_a_level_is_compared_with_what_the_plan_says() -> None:
    pairs = [(1, 0), (2, 1), (3, 1), (1, 0)]
    path = follow(pairs, first(study([3.0, 3.0, 6.0, 0.0]), 4))
    assert set(path.decisions) == {(1, 0), (2, 1), (3, 1)}
    wanted = {variant for variant, _ in path.wanted}
    assert 4 not in wanted
    assert 1 in wanted or path.finished


def test_the_forecast_says_what_a_round_may_find() -> None:
    truth = study([0.0] * 4)
    found = [
        forecast.detectable
        for seeds in (3, 6, 12)
        if (forecast := follow(ALL, first(truth, seeds), max_seeds=20).forecast)
    ]
    assert len(found) == 3
    assert all(own is not None for own in found)
    assert found == sorted(found, key=lambda own: -(own or 0))
