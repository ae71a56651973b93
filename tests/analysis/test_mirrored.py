"""What is of image and mirror image is marked in the tables of every design."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis import hiplot_page, mirrored, reported
from analysis.dashboard import trial_note
from analysis.designs import results
from analysis.documents import render
from analysis.ensemble import Member
from analysis.exports.records import trial_records
from analysis.exports.tensorboard import EventFiles
from analysis.first_screen import first_screen
from analysis.mirrored import MARK, NOTE, WORDS
from analysis.trials import Study, Trial
from tests.support.studies import POOLING, SEARCH, ablation_trials, plan, read, small_search, trial

VALUES = {"baseline": [0.90, 0.91, 0.92], "pooling=avg": [0.63, 0.645, 0.649]}


def flipped(trials: list[Trial], *labels: str) -> list[Trial]:
    """The trials, those of some variants with `test_time_flip`."""
    return [
        replace(trial, config={**trial.config, "test_time_flip": trial.label in labels})
        for trial in trials
    ]


@pytest.fixture
def ablation(tmp_path: Path) -> tuple[Study, list[Trial]]:
    study, trials = read(tmp_path, ablation_trials(POOLING, VALUES), POOLING)
    return study, flipped(trials, "baseline")


def test_cells_without_the_mark_stay_in_line() -> None:
    rows = [Member(0, "a", 0, 0.9, 1, True), Member(1, "b", 0, 0.9, 1, False)]
    assert mirrored.marked(["99.10", "9.10"], rows) == [f"99.10 {MARK}", " 9.10  "]
    assert mirrored.marked(["1", "2"], rows[1:] * 2) == ["1", "2"]
    assert mirrored.marked(["", ""], rows) == ["", ""]  # no figure, no mark


@pytest.mark.parametrize("format", ["text", "markdown"])
def test_a_search_marks_its_candidates(format: str, tmp_path: Path) -> None:
    study, trials = read(tmp_path, small_search(), SEARCH)
    text = render(results(study, flipped(trials, "#1")).table, format)
    (row,) = [line for line in text.splitlines() if re.search(rf"\d {MARK}", line)]
    assert "#1" in row
    assert NOTE in " ".join(text.split())
    screen = " ".join(line.text for line in first_screen(results(study, flipped(trials, "#1"))))
    assert f"{MARK}: the mean over" in screen
    assert MARK not in render(results(study, trials).table, format)


def test_ours_beside_a_reported_figure_is_marked(tmp_path: Path) -> None:
    source = {"name": "they", "selected_on": "test", "test_images": 10_000, "runs": 1}
    of = plan({"pooling": ["max", "avg"]}, {"pooling": "max"}, source=source,
              reported=[{"changes": {}, "test_accuracy": 0.9}, {"changes": {"pooling": "avg"},
                                                                "test_accuracy": 0.9}])  # fmt: skip
    rows = [
        trial(of, changes, seed, 0.9 + seed / 100)
        for changes in ({}, {"pooling": "avg"})
        for seed in range(2)
    ]
    study, trials = read(tmp_path, rows, of)
    compared = reported.compare_reported(study, flipped(trials, "baseline"))
    assert [row.test_time_flip for row in compared] == [True, False]
    accuracies, *_ = reported.blocks(compared, source)
    assert [cell.endswith(MARK) for cell in accuracies.columns["ours"]] == [True, False]
    assert not any(MARK in cell for cell in accuracies.columns["reported"])
    assert NOTE in reported.notes(compared, source)


def test_trials_say_it_wherever_they_go(ablation: tuple[Study, list[Trial]]) -> None:
    study, trials = ablation
    made: Any = hiplot_page.experiment(study, trials)
    lines = [point.values for point in made.datapoints]
    flips = [line.get("test_time_flip") for line in lines]
    assert flips == ["true" if line["variant"] == "baseline" else None for line in lines]
    records = trial_records(study, trials)
    assert records.columns[-1] == "test_time_flip"
    assert [row["test_time_flip"] for row in records.rows] == [
        trial.label == "baseline" for trial in trials
    ]
    assert "test_time_flip" not in trial_records(study, flipped(trials)).columns
    base = next(trial for trial in trials if trial.label == "baseline")
    assert WORDS in trial_note(base)
    assert WORDS not in trial_note(next(t for t in trials if t.label != "baseline"))
    effects = json.loads(render(results(study, trials).table, "json"))
    assert (effects["baseline"]["test_time_flip"], effects["effects"][0]["test_time_flip"]) == (
        True,
        False,
    )


def test_tensorboard_has_it_among_the_settings(
    ablation: tuple[Study, list[Trial]], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    files = EventFiles(tmp_path / "logs")
    files.follow(*ablation)
    files.close()
    flips = {}
    for file in (tmp_path / "logs").glob("*/*/events.out.tfevents.*"):
        events = EventAccumulator(str(file.parent))
        events.Reload()
        told = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        settings = HParamsPluginData.FromString(told).session_start_info.hparams
        flips[file.parent.name] = settings["test_time_flip"].bool_value
    assert len(flips) == 6
    assert all(flip == ("baseline" in name) for name, flip in flips.items())
