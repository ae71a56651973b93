"""Candidates of a search: who is best, and how much of it is luck, checked by simulation."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState
from scipy import integrate, stats

from analysis.statistics.candidates import (
    Candidate,
    WinnersCurse,
    baseline,
    best_so_far,
    epochs,
    expected_maximum,
    first_trials,
    mean_interval,
    noise,
    on_front,
    pooled_std,
    ranked,
    replicates,
    tried,
    validation_images,
    winners_curse,
)
from analysis.statistics.effects import columns
from analysis.trials import Trial, connect, trials
from tests.support.studies import (
    PARETO,
    SEARCH,
    database,
    searched,
    small_pareto,
    small_search,
)

ADAM = {"optimizer": "adam", "learning_rate": 3e-3, "width": 32}


def read(folder: Path, rows: list[FrozenTrial], **more: Any) -> list[Trial]:
    return trials(connect(database(folder, rows, of=SEARCH, **more)), 1)


def candidate(number: int, values: list[float]) -> Candidate:
    """A candidate whose first value is of the seed that all were tried on."""
    known = {"n": len(values), "val_accuracy_mean": float(np.mean(values))}
    return Candidate(
        **columns([]) | known,
        number=number,
        variant=f"#{number}",
        changes={},
        config={},
        val_accuracy_low=None,
        val_accuracy_high=None,
        first=values[0],
        later=tuple(values[1:]),
        later_seeds=tuple(range(1, len(values))),
        objectives=(float(np.mean(values)),),
    )


def by_rule(candidates: list[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda own: (-own.n, -(own.val_accuracy_mean or 0)))


@pytest.fixture
def small(tmp_path: Path) -> list[Trial]:
    return read(tmp_path, small_search())


def test_a_candidate_with_more_seeds_comes_before_a_luckier_run(small: list[Trial]) -> None:
    found = ranked(small)

    assert [(own.variant, own.n) for own in found] == [
        ("#1", 3), ("baseline", 3), ("#3", 1), ("#7", 1), ("#6", 1),
    ]  # fmt: skip
    best = found[0]
    assert best.val_accuracy_mean == pytest.approx((0.930 + 0.921 + 0.925) / 3)
    assert (best.first, best.later) == (0.930, (0.921, 0.925))
    assert best.test_accuracy_mean == pytest.approx((0.930 + 0.921 + 0.925) / 3 - 0.01)
    assert best.changes["optimizer"] == "sgd"
    assert best.config["momentum"] == 0.5
    assert (best.parameters, best.seconds) == (50_282, 12.5)
    own = baseline(found)
    assert own is not None
    assert (own.number, own.changes) == (0, {})
    assert baseline(found[:1]) is None


def test_the_interval_is_scipys_t_interval(small: list[Trial]) -> None:
    values = [0.930, 0.921, 0.925]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    best = ranked(small)[0]
    assert (best.val_accuracy_low, best.val_accuracy_high) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )
    assert mean_interval([0.9]) == mean_interval([]) == mean_interval([0.9, 0.9]) == (None, None)


def test_the_interval_of_accuracies_ends_where_accuracies_end() -> None:
    low, high = mean_interval([0.995, 0.999, 0.985])
    assert low is not None
    assert (low < 0.993, high) == (True, 1.0)
    assert mean_interval([0.01, 0.0, 0.02])[0] == 0.0


def test_pruned_and_diverged_trials_are_in_no_mean(tmp_path: Path) -> None:
    rows = [
        searched(SEARCH, ADAM, 0, 0.90),
        searched(SEARCH, {**ADAM, "width": 8}, 1, 0.99, state=TrialState.PRUNED, epochs=3),
        searched(SEARCH, {**ADAM, "width": 9}, 2, 0.99, state=TrialState.FAIL, outcome="diverged"),
        searched(SEARCH, ADAM, 0, 0.99, seed=1, state=TrialState.PRUNED, epochs=3),
    ]
    (found,) = ranked(read(tmp_path, rows))
    assert (found.number, found.n, found.val_accuracy_mean) == (0, 1, 0.90)


def test_a_crashed_trial_that_ran_again_is_no_replicate(tmp_path: Path) -> None:
    rows = [
        searched(SEARCH, ADAM, 0, 0.1, state=TrialState.FAIL, failure_reason="killed"),
        searched(SEARCH, ADAM, 0, 0.9),
        searched(SEARCH, ADAM, 0, 0.8, seed=1),
    ]
    found = read(tmp_path, rows)
    assert [trial.number for trial in first_trials(found)] == [0, 1]
    assert [trial.number for trial in replicates(found)] == [2]
    (own,) = ranked(found)
    assert (own.first, own.later) == (0.9, (0.8,))


def test_replicates_and_tried_candidates_are_counted(small: list[Trial]) -> None:
    assert [trial.number for trial in replicates(small)] == [8, 9, 10, 11]
    assert tried(small) == 7  # 5 finished, 2 pruned; not the diverged one


def test_epochs_against_a_search_without_stopping(small: list[Trial]) -> None:
    found = epochs(SEARCH, small)
    assert found is not None
    assert found.spent == 5 * 9 + 1 + 3 + 2
    assert found.full == 8 * 9
    assert found.saved_by_pruning == 8 + 6
    assert found.replicates == 4 * 9
    assert epochs({}, small) is None


def test_epochs_are_known_without_intermediate_values(tmp_path: Path) -> None:
    found = epochs(PARETO, read(tmp_path, small_pareto(), directions=["maximize", "minimize"]))
    assert found is not None
    assert found.spent == found.full == 36


def test_best_so_far_rises_with_finished_trials_only(small: list[Trial]) -> None:
    curve = best_so_far(small)
    assert curve.trials.tolist() == list(range(8))
    assert curve.epochs.tolist() == [9, 18, 19, 28, 30, 33, 42, 51]
    assert curve.best.tolist() == [0.9, 0.93, 0.93, *[0.95] * 5]
    assert best_so_far([]).best.shape == (0,)


def test_best_so_far_is_unknown_before_the_first_result(tmp_path: Path) -> None:
    rows = [
        searched(SEARCH, ADAM, 0, 0.5, state=TrialState.PRUNED, epochs=1),
        searched(SEARCH, {**ADAM, "width": 9}, 1, 0.9),
    ]
    best = best_so_far(read(tmp_path, rows)).best
    assert math.isnan(best[0])
    assert best[1] == 0.9


def test_the_front_of_several_objectives(tmp_path: Path) -> None:
    found = read(tmp_path, small_pareto(), directions=["maximize", "minimize"])
    assert found[1].values == (0.93, 4000.0)
    front = on_front(ranked(found), ("MAXIMIZE", "MINIMIZE"))
    assert [(own.variant, own.objectives) for own in front] == [
        ("#1", (0.93, 4000.0)),
        ("#3", (0.85, 900.0)),
    ]
    assert on_front([], ("MAXIMIZE", "MINIMIZE")) == []


@pytest.mark.parametrize("m", [1, 2, 3, 10, 200, 10_000])
def test_the_expected_maximum_is_exact(m: int) -> None:
    known = {1: 0.0, 2: 1 / math.sqrt(math.pi), 3: 1.5 / math.sqrt(math.pi)}
    exact, _ = integrate.quad(
        lambda z: z * m * stats.norm.pdf(z) * stats.norm.cdf(z) ** (m - 1), -12, 12, epsabs=1e-13
    )
    assert expected_maximum(m) == pytest.approx(known.get(m, exact), abs=1e-11)
    assert exact == pytest.approx(known.get(m, exact), abs=1e-9)


def curse(candidates: list[Candidate], count: int) -> WinnersCurse:
    found = winners_curse(by_rule(candidates), count, None)
    assert found is not None
    return found


def test_the_correction_takes_off_what_luck_adds_when_all_are_equal() -> None:
    # 50 equally good candidates; the binomial standard error is all their noise.
    rng = np.random.default_rng(1)
    images, truth, off, corrected = 400, 0.8, [], []
    for _ in range(2000):
        values = rng.binomial(images, truth, 50) / images
        best = candidate(0, [float(values.max())])
        found = winners_curse([best, *(candidate(1, [float(v)]) for v in values)], 50, images)
        assert found is not None
        assert found.noise_source == "binomial"
        off.append(found.val_accuracy_mean - truth)
        corrected.append(found.corrected - truth)
    assert np.mean(off) > 0.04
    # The noise is judged at the winner's accuracy, where the binomial one is 7 % smaller.
    assert np.mean(corrected) == pytest.approx(0, abs=0.1 * float(np.mean(off)))


def halving(
    rng: np.random.Generator, truths: np.ndarray, sd: float
) -> tuple[list[Candidate], float]:
    """Repeat the best 8 on a second seed, the best 4 of these on a third; return the truth too."""
    values = {index: [float(rng.normal(own, sd))] for index, own in enumerate(truths)}
    for keep in (8, 4):
        order = sorted(values, key=lambda i: (-len(values[i]), -np.mean(values[i])))
        for index in order[:keep]:
            values[index].append(float(rng.normal(truths[index], sd)))
    found = by_rule([candidate(index, own) for index, own in values.items()])
    return found, float(truths[found[0].number])


@pytest.mark.slow
def test_the_correction_is_an_upper_bound_after_halving_over_seeds() -> None:
    rng = np.random.default_rng(2)
    sd, off, corrected, later, later_bound, noises = 0.01, [], [], [], [], []
    for _ in range(1000):
        own, truth = halving(rng, np.full(60, 0.9), sd)
        found = curse(own, 60)
        assert (found.n, found.repeated, found.later_n) == (3, 8, 2)
        assert found.later_mean is not None
        assert found.later_overestimate is not None
        off.append(found.val_accuracy_mean - truth)
        corrected.append(found.corrected - truth)
        later.append(found.later_mean - truth)
        later_bound.append(found.later_overestimate)
        noises.append(found.noise)
    assert np.mean(noises) == pytest.approx(sd, rel=0.1)
    # Overestimated by more than the standard error of a mean of 3, and never after correction.
    assert np.mean(off) > sd
    assert -0.5 * sd < np.mean(corrected) <= 0
    # The further seeds took part in no choice but those among the 8.
    assert 0 < np.mean(later) < np.mean(later_bound) < np.mean(off)


@pytest.mark.slow
def test_where_candidates_differ_luck_adds_less_than_the_correction() -> None:
    rng = np.random.default_rng(3)
    truths = np.linspace(0.80, 0.92, 60)
    results = [halving(rng, truths, 0.01) for _ in range(300)]
    off = np.mean([curse(own, 60).val_accuracy_mean - truth for own, truth in results])
    assert 0 < off < np.mean([curse(own, 60).overestimate for own, _ in results]) / 2


def test_the_noise_says_where_it_comes_from() -> None:
    def known(candidates: list[Candidate], images: int | None = None) -> tuple[float, str]:
        found = noise(candidates, images)
        assert found is not None
        return round(found[0], 12), found[1]

    thrice = [candidate(0, [0.99, 0.90, 0.92]), candidate(1, [0.9])]
    assert known(thrice) == (round(math.sqrt(2e-4), 12), "later seeds")
    twice = [candidate(0, [0.92, 0.90]), candidate(1, [0.9])]
    assert known(twice) == (round(math.sqrt(2e-4), 12), "all seeds")
    once = [candidate(0, [0.9]), candidate(1, [0.8])]
    assert known(once, 900) == (0.01, "binomial")
    assert noise(once, None) is None
    assert winners_curse(once, 2, None) is None
    assert winners_curse([], 0, 900) is None


def test_the_luck_that_all_candidates_share_is_no_noise() -> None:
    # Seeds differ by 0.02; beside that candidates scatter by 0.001.
    rng = np.random.default_rng(1)
    seeds = rng.normal(0, 0.02, 6)
    candidates = [
        candidate(number, (0.9 + seeds + rng.normal(0, 0.001, 6)).tolist()) for number in range(8)
    ]
    found = noise(candidates, None)
    assert found is not None
    assert found[0] == pytest.approx(0.001, rel=0.3)
    assert found[1] == "residual"


def test_the_pooled_standard_deviation_weighs_by_degrees_of_freedom() -> None:
    a, b = [0.1, 0.2, 0.4], [0.5, 0.6]
    expected = math.sqrt((2 * np.var(a, ddof=1) + np.var(b, ddof=1)) / 3)
    assert pooled_std([a, b]) == pytest.approx(expected)
    assert pooled_std([]) is None


def test_validation_images_are_a_fraction_of_those_drawn(small: list[Trial]) -> None:
    best = ranked(small)[0]
    assert validation_images(SEARCH, {"train_images": 1437}, best) == 287
    assert validation_images(SEARCH | {"subset": 500}, {"train_images": 1437}, best) == 100
    assert validation_images(SEARCH, {}, best) is None
    assert validation_images(SEARCH, {"train_images": 1437}, None) is None
