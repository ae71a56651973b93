"""Survivors are no evidence: a variant that failed on a seed is neither better nor best."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState

from analysis.designs import results
from analysis.documents import render
from analysis.failures import failures
from analysis.progress import progress
from analysis.ranking import adjusted_means, leader
from tests.support.studies import ablation_trials, plan, read, running, trial

FIVE = plan(
    {"learning_rate": [0.003, 0.3], "pooling": ["max", "avg"]},
    {"learning_rate": 0.003, "pooling": "max"},
    seeds=5,
)
BASE = [0.900, 0.910, 0.905, 0.912, 0.903]
FAST = {"learning_rate": 0.3}


def diverged(seed: int, changes: dict[str, Any] = FAST, **more: Any) -> FrozenTrial:
    told = {"outcome": "diverged", "failure_reason": "loss is NaN in epoch 2"} | more
    return trial(FIVE, changes, seed, None, state=TrialState.FAIL, **told)


def survivors(lost: int) -> list[FrozenTrial]:
    """A level that is two points better on the seeds that it survives."""
    gains = [0.020, 0.021, 0.019, 0.0205, 0.0195]
    return [
        *ablation_trials(FIVE, {"baseline": BASE, "pooling=avg": [v - 0.002 for v in BASE]}),
        *(trial(FIVE, FAST, seed, BASE[seed] + gains[seed]) for seed in range(lost, 5)),
        *(diverged(seed) for seed in range(lost)),
    ]


def words(folder: Path, rows: list[FrozenTrial]) -> dict[Any, str]:
    report = results(*read(folder, rows, FIVE)).table.as_dict()
    return {effect["level"]: effect["verdict"] for effect in report["effects"]}


def test_a_level_without_failures_is_better(tmp_path: Path) -> None:
    assert words(tmp_path, survivors(0))[0.3] == "better"


def test_the_survivors_of_a_level_do_not_make_it_better(tmp_path: Path) -> None:
    rows = survivors(2)
    assert words(tmp_path / "a", rows)[0.3] == "failed"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / name).mkdir()


def test_the_share_that_failed_is_in_every_format(tmp_path: Path) -> None:
    found = results(*read(tmp_path, survivors(2), FIVE))
    for format in ("text", "markdown", "latex"):
        assert "failed 2/5" in render(found.table, format)
    effect = found.table.as_dict()["effects"][0]
    assert (effect["failed"], effect["diverged"], effect["n"]) == (2, 2, 3)
    told = " ".join(s for answer in found.summary().answers for s in answer.sentences)
    assert "learning_rate = 0.3 (2 of 5) failed" in told
    assert "gains" not in found.summary().headline


def test_a_level_that_diverged_on_every_seed_has_run(tmp_path: Path) -> None:
    rows = survivors(5)
    assert words(tmp_path / "a", rows)[0.3] == "diverged"
    found = results(*read(tmp_path / "b", rows, FIVE))
    assert "diverged" in render(found.table, "text")
    assert "not run" not in render(found.table, "text")


def test_what_was_interrupted_has_not_failed(tmp_path: Path) -> None:
    rows = [diverged(1, outcome=None, failure_kind="interrupted"), running(FIVE, FAST, 2, 1)]
    rows += [diverged(2, failure_kind="error"), diverged(3), diverged(3)]
    _, trials = read(tmp_path, rows, FIVE)
    assert [row.seed for row in failures(FIVE, trials)] == [3]


def test_a_level_is_not_called_worse_than_a_reference_that_failed(tmp_path: Path) -> None:
    rows = [
        *(trial(FIVE, {}, seed, BASE[seed]) for seed in range(1, 5)),
        diverged(0, {}),
        *(trial(FIVE, FAST, seed, BASE[seed] - 0.02 - seed / 10_000) for seed in range(5)),
    ]
    assert words(tmp_path / "a", rows)[0.3] == "not proven"
    assert words(tmp_path / "b", rows[:4] + rows[5:])[0.3] == "worse"


def test_the_best_has_failed_on_no_seed(tmp_path: Path) -> None:
    study, trials = read(tmp_path, survivors(2), FIVE)
    best = progress(study, trials).best
    assert best is not None
    assert best.variant == "baseline"


def test_the_easiest_split_does_not_make_a_variant_best(tmp_path: Path) -> None:
    """A level that has only finished on the seed where all are high."""
    rows = [*ablation_trials(FIVE, {"baseline": BASE}), trial(FIVE, FAST, 3, 0.911)]
    study, trials = read(tmp_path, rows, FIVE)
    best = progress(study, trials).best
    assert best is not None
    assert best.variant == "baseline"


def test_means_are_adjusted_for_seeds_as_long_as_none_has_all() -> None:
    values = {"a": {0: 0.80, 1: 0.90}, "b": {1: 0.95, 2: 0.86}, "c": {2: 0.85}}
    assert leader(values, planned=5) == "b"
    easy = {"a": {0: 0.90, 1: 0.92}, "b": {1: 0.91, 2: 0.99}, "c": {0: 0.89, 2: 0.98}}
    # b is worse than a on the seed that both have, and c shows that seed 2 is easy.
    assert max(easy, key=lambda name: sum(easy[name].values())) == "b"
    assert leader(easy, planned=5) == "a"


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=5),
    st.lists(st.floats(-1, 1), min_size=1, max_size=4),
)
def test_adjusted_means_are_means_where_no_cell_is_missing(
    variants: list[float], seeds: list[float]
) -> None:
    values = {
        name: {seed: effect + shift for seed, shift in enumerate(seeds)}
        for name, effect in enumerate(variants)
    }
    means = adjusted_means(values)
    assert means == pytest.approx({k: sum(v.values()) / len(v) for k, v in values.items()})


def test_nothing_is_ranked_where_all_failed() -> None:
    assert leader({"a": {0: 1.0}}, failed=["a"]) is None
    assert leader({}) is None
