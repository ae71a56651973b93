"""Pruning rules, as pure functions of what was reported."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.run.pruners import AshaPruner, HyperbandPruner, MedianPruner, NoPruner, Pruner, make


def run(pruner: Pruner, curves: list[list[float]]) -> list[int]:
    """Run trials one after the other; return how many epochs each trained."""
    lengths = []
    for number, curve in enumerate(curves):
        for step, value in enumerate(curve, 1):
            if pruner.report(number, step, value):
                break
        lengths.append(step)
    return lengths


def flat(values: list[float], epochs: int) -> list[list[float]]:
    return [[value] * epochs for value in values]


def test_without_a_pruner_every_trial_runs_to_its_end() -> None:
    assert run(NoPruner(), flat([0.1, 0.9, 0.5], 7)) == [7, 7, 7]


def test_asha_keeps_the_best_third_at_each_rung() -> None:
    pruner = AshaPruner(1, 9)
    assert sorted(pruner.rungs) == [1, 3]
    # Ascending values: each is the best so far, so nobody stops; descending: few go on.
    assert run(AshaPruner(1, 9), flat([v / 100 for v in range(30)], 9)) == [9] * 30
    lengths = run(AshaPruner(1, 9), flat([1 - v / 100 for v in range(30)], 9))
    assert lengths[:3] == [9, 9, 1]
    assert sum(length == 1 for length in lengths) >= 18


def test_asha_spares_whoever_is_among_the_best_third_of_its_rung() -> None:
    pruner = AshaPruner(1, 9)
    for number, value in enumerate([0.5, 0.4, 0.3, 0.2, 0.1]):
        pruner.report(number, 1, value)
    assert pruner.report(5, 1, 0.45)  # second of six, but two have gone on already
    for number, value in enumerate([0.1, 0.1, 0.1], 6):
        pruner.report(number, 1, value)
    assert not pruner.report(9, 1, 0.46)  # second of ten, and the third that goes on


def test_a_sampler_that_learns_does_not_send_everybody_through() -> None:
    rng = random.Random(0)
    learning = [0.5 + number / 200 + rng.gauss(0, 0.1) for number in range(100)]
    lengths = run(AshaPruner(1, 9), flat(learning, 9))
    assert sum(lengths) < 0.4 * 100 * 9
    assert lengths[learning.index(max(learning))] == 9


def test_of_equals_the_earlier_ones_go_on() -> None:
    lengths = run(AshaPruner(1, 9), flat([0.5] * 30, 9))
    assert lengths.count(1) >= 18


def test_the_median_rule_stops_who_never_reached_the_others_median() -> None:
    pruner = MedianPruner(startup_trials=3, warmup_steps=1)
    run(pruner, [[0.5, 0.6, 0.7]] * 3)
    assert not pruner.report(3, 1, 0.1)  # warm-up
    assert pruner.report(3, 2, 0.2)
    assert not pruner.report(4, 1, 0.9)
    assert not pruner.report(4, 2, 0.1)  # its best value so far is above the median


def test_hyperband_deals_about_the_same_budget_to_each_bracket() -> None:
    pruner = HyperbandPruner(81)
    brackets = [pruner.bracket(number) for number in range(3000)]
    shares = [brackets.count(b) / 3000 for b in range(4)]
    expected = [27 / 4, 9 / 3, 3 / 2, 1]
    assert shares == pytest.approx([own / sum(expected) for own in expected], abs=0.03)


def test_hyperband_lets_slow_starters_live_in_patient_brackets() -> None:
    pruner = HyperbandPruner(27)
    slow = [[0.1] * 5 + [0.9] * 22] * 60
    fast = [[0.5] * 27] * 60
    lengths = run(pruner, [curve for pair in zip(fast, slow, strict=True) for curve in pair])
    assert 27 in lengths[1::2]


def test_a_rung_needs_three_values_before_it_stops_anyone() -> None:
    pruner = AshaPruner(1, 9)
    assert not pruner.report(0, 1, 0.9)
    assert not pruner.report(1, 1, 0.1)
    assert pruner.report(2, 1, 0.1)


@given(
    st.sampled_from(["hyperband", "asha", "median"]),
    st.lists(st.floats(0, 1), min_size=1, max_size=40),
    st.integers(1, 30),
)
def test_the_best_trial_so_far_is_never_stopped(
    name: str, values: list[float], epochs: int
) -> None:
    pruner = make(name, epochs)
    best = -1.0
    for number, curve in enumerate(flat(values, epochs)):
        stopped = any(pruner.report(number, step, v) for step, v in enumerate(curve, 1))
        assert not (stopped and curve[0] > best)
        best = max(best, curve[0])


def test_successive_halving_spends_less_than_half_and_keeps_the_best() -> None:
    rng = random.Random(0)
    values = [rng.random() for _ in range(100)]
    for name in ("asha", "hyperband"):
        lengths = run(make(name, 9), flat(values, 9))
        assert sum(lengths) < 100 * 9 / 2
        assert lengths[values.index(max(values))] == 9
