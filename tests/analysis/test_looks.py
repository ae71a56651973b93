"""A study that is run until it is sure: its table rests on the looks, and shows them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState

from analysis.designs import results
from analysis.designs.base import Results
from analysis.documents import FORMATS, render
from analysis.looks import seed_path
from tests.support.studies import plan, read, trial

ADAPTIVE = plan({"width": [8, 4, 16, 32]}, {"width": 8}, seeds=3, max_seeds=10, negligible=0.5)
TRUTH = {8: 0.0, 4: -0.03, 16: 0.0, 32: 0.004}


def cells(
    seeds: dict[int, int], lost: tuple[tuple[int, int], ...] = (), generator: int = 0
) -> list[FrozenTrial]:
    """Make the trials of so many seeds by width; those `lost` diverged."""
    rng = np.random.default_rng(generator)
    shift, noise = rng.normal(0, 0.008, 10), rng.normal(0, 0.001, (4, 10))
    rows = []
    for row, (width, effect) in enumerate(TRUTH.items()):
        changes = {} if width == 8 else {"width": width}
        for seed in range(seeds[width]):
            value = 0.9 + effect + shift[seed] + noise[row, seed]
            if (width, seed) in lost:
                rows.append(trial(ADAPTIVE, changes, seed, None, state=TrialState.FAIL,
                                  outcome="diverged"))  # fmt: skip
            else:
                rows.append(trial(ADAPTIVE, changes, seed, value))
    return rows


def adaptive(folder: Path, seeds: dict[int, int], **more: Any) -> Results[Any]:
    return results(*read(folder, cells(seeds, **more), ADAPTIVE))


def verdicts(found: Results[Any]) -> dict[int, str]:
    return {effect["level"]: effect["verdict"] for effect in found.table.as_dict()["effects"]}


def test_nothing_is_claimed_before_the_first_look(tmp_path: Path) -> None:
    found = adaptive(tmp_path, {8: 3, 4: 3, 16: 3, 32: 2})
    assert set(verdicts(found).values()) <= {"not proven", "too few"}
    assert found.table.as_dict()["looks"]["looks"] == []


def test_a_decided_level_keeps_its_verdict(tmp_path: Path) -> None:
    found = adaptive(tmp_path, {8: 10, 4: 3, 16: 10, 32: 10})
    assert verdicts(found)[4] == "worse"
    table = found.table.as_dict()
    first = table["looks"]["looks"][0]
    assert first["seeds"] == 3
    assert {"width": 4} in [decision["changes"] for decision in first["decided"]]
    (effect,) = [effect for effect in table["effects"] if effect["level"] == 4]
    assert (effect["decided_at"], effect["p_adjusted"]) == (3, None)
    assert table["method"] == "sequential"
    text = render(found.table, "text")
    assert "Looks: how many levels were judged" in text
    assert "width 4: worse" in text
    assert "epochs, up to 10 seeds" in text
    assert "The study was looked at after 3" in " ".join(
        sentence for answer in found.summary().answers for sentence in answer.sentences
    )


def test_the_next_round_and_its_cost_are_told(tmp_path: Path) -> None:
    study, trials = read(tmp_path, cells({8: 3, 4: 3, 16: 3, 32: 3}), ADAPTIVE)
    path = seed_path(study.plan, trials)
    assert path is not None
    assert not path.finished
    assert path.forecast is not None
    notes = " ".join(results(study, trials).table.notes)
    assert f"takes {path.forecast.trainings} more training" in notes


def test_a_level_that_failed_on_a_seed_is_failed(tmp_path: Path) -> None:
    found = adaptive(tmp_path, {8: 3, 4: 3, 16: 3, 32: 3}, lost=((32, 1),))
    assert verdicts(found)[32] == "failed"


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_can_be_written_at_any_time(tmp_path: Path, format: str) -> None:
    for seeds in (0, 1, 3, 5):
        folder = tmp_path / str(seeds)
        folder.mkdir()
        text = render(adaptive(folder, dict.fromkeys(TRUTH, seeds)).table, format)
        assert format != "json" or json.loads(text)["method"] == "sequential"


def test_strict_takes_the_study_for_one_with_fixed_seeds(tmp_path: Path) -> None:
    study, trials = read(tmp_path, cells(dict.fromkeys(TRUTH, 3)), ADAPTIVE)
    assert results(study, trials, strict=True).table.as_dict()["method"] == "strict"
