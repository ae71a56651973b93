"""What `fmnist-study status` says."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.progress import Progress, as_dict, progress, render
from tests.support.studies import POOLING, SEARCH, read, running, searched, small_search, trial

AVG = {"pooling": "avg"}


def look(
    folder: Path, rows: Iterable[FrozenTrial], of: dict[str, Any] | None = None, **more: Any
) -> Progress:
    return progress(*read(folder, rows, of, **more))


@pytest.fixture
def halfway(tmp_path: Path) -> Progress:
    rows = [
        trial(POOLING, {}, 0, 0.90),
        trial(POOLING, {}, 1, 0.91, seconds=17.5),
        trial(POOLING, AVG, 0, 0.93),
        trial(POOLING, AVG, 1, None, state=TrialState.FAIL, failure_reason="diverged"),
        # Pruned at a high accuracy, and a test accuracy to be tempted by: neither is a choice.
        trial(POOLING, {"batchnorm": False}, 0, 0.99, state=TrialState.PRUNED),
        trial(POOLING, {"batchnorm": False}, 1, 0.91, test_accuracy=1.0),
        running(POOLING, AVG, 2, epoch=1),
    ]
    return look(tmp_path, rows, POOLING)


def test_counts_and_cells(halfway: Progress) -> None:
    assert halfway.counts == {"finished": 4, "failed": 1, "pruned": 1, "running": 1}
    assert (halfway.planned, halfway.done, halfway.missing) == (9, 4, 5)
    assert halfway.seconds_per_trial == pytest.approx(13.75)


def test_best_is_the_mean_validation_accuracy_of_finished_trials(halfway: Progress) -> None:
    assert halfway.best is not None
    # pooling=avg is higher, on one seed, and has failed on another.
    assert (halfway.best.variant, halfway.best.n) == ("baseline", 2)
    assert halfway.best.mean == pytest.approx(0.905)


def test_running_trials_show_their_last_epoch(halfway: Progress) -> None:
    (found,) = halfway.running
    assert (found.number, found.variant, found.seed, found.epoch) == (6, "pooling=avg", 2, 1)


def test_text(halfway: Progress) -> None:
    assert render(halfway).splitlines() == [
        "test",
        "trials of 9 planned: 4 finished, 1 failed, 1 pruned, 1 running, 5 missing",
        "best so far: baseline, validation accuracy 90.50 %, mean of n = 2",
        "running: pooling=avg seed 2, epoch 1 of 2",
        "a finished trial took 13.8 s on average",
    ]


def test_json_form_has_every_field(halfway: Progress) -> None:
    found = json.loads(json.dumps(as_dict(halfway), allow_nan=False))
    assert found["counts"]["finished"] == 4
    assert found["best"]["mean"] == pytest.approx(0.905)
    assert found["running"][0]["epoch"] == 1


def test_a_study_that_has_not_begun(tmp_path: Path) -> None:
    found = look(tmp_path, [], POOLING)
    assert (found.best, found.seconds_per_trial, found.missing) == (None, None, 9)
    assert render(found) == "test\ntrials of 9 planned: 9 missing"


def test_a_study_of_another_tool_follows_its_own_direction(tmp_path: Path) -> None:
    rows = [create_trial(value=2.5), create_trial(value=0.25), create_trial(value=1.0)]
    found = look(tmp_path, rows, direction="minimize")
    assert found.best is not None
    assert (found.best.variant, found.planned, found.missing) == ("trial 1", None, None)
    assert "best so far: trial 1, objective 0.25" in render(found)


def test_hostile_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    rows = [trial(POOLING, {}, 0, 0.9, variant="\x1b[31mred\u202e\n")]
    text = render(look(tmp_path, rows, POOLING, name="a\x07\rb"))
    assert text.splitlines()[0] == r"a\x07\rb"
    assert r"\x1b[31mred\u202e\n" in text


def test_a_search_counts_settled_trials_and_not_its_replicates(tmp_path: Path) -> None:
    own = {"optimizer": "adam", "learning_rate": 3e-3, "width": 32}
    rows = [
        *small_search(),
        searched(SEARCH, own | {"width": 9}, 12, 0.5, state=TrialState.FAIL),  # killed: runs again
        searched(SEARCH, own | {"width": 10}, 13, 0.5, state=TrialState.RUNNING, epochs=4),
        searched(SEARCH, own, 0, 0.5, seed=3, state=TrialState.RUNNING, epochs=1),
    ]
    found = look(tmp_path, rows, SEARCH)

    assert (found.planned, found.done, found.missing) == (20, 8, 12)
    assert found.counts == {"finished": 9, "failed": 2, "pruned": 2, "running": 2}
    assert found.replicates == {"finished": 4, "running": 1}
    assert found.best is not None
    assert (found.best.variant, found.best.n) == ("#1", 3)
    assert render(found).splitlines() == [
        "test",
        "trials of 20 planned: 5 finished, 2 failed (1 diverged), 2 pruned, 1 running, 12 missing",
        "beside them, replicates of the best on further seeds: 4 finished, 1 running",
        "best so far: #1, validation accuracy 92.53 %, mean of n = 3",
        "running: #13 seed 0, epoch 4 of 9",
        "running: baseline seed 3, epoch 1 of 9",
        "a finished trial took 12.5 s on average",
    ]


def test_a_search_that_has_not_begun(tmp_path: Path) -> None:
    found = look(tmp_path, [], SEARCH)
    assert (found.best, found.replicates) == (None, {})
    assert render(found) == "test\ntrials of 20 planned: 20 missing"
