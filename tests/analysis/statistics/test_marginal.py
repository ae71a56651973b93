"""Marginal effects of a search: means by value, parts of equally many trials."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.designs import results
from analysis.documents import render
from analysis.statistics.marginal import Marginal, marginals
from analysis.tables.search import SearchTable
from tests.support.studies import SEARCH, read, searched, small_search


def by_name(found: list[Marginal]) -> dict[str, Marginal]:
    return {one.parameter: one for one in found}


def test_levels_are_averaged_over_finished_trials_of_the_search(tmp_path: Path) -> None:
    _, rows = read(tmp_path, small_search(), SEARCH)
    found = by_name(marginals(rows))
    adam, sgd = found["optimizer"].parts
    # Pruned and diverged trials have no accuracy to average, replicates would weigh the survivors.
    assert (adam.first, adam.last, adam.n, sgd.n) == ("adam", "adam", 3, 2)
    values = [0.900, 0.950, 0.880]
    interval = stats.ttest_1samp(values, 0).confidence_interval()
    assert (adam.mean, adam.low, adam.high) == pytest.approx(
        (np.mean(values), interval.low, interval.high)
    )
    assert [part.first for part in found["width"].parts] == [20, 32, 40, 48, 64]
    assert "momentum" not in found  # of the finished, only one value


def test_many_values_are_cut_into_parts_of_equally_many_trials(tmp_path: Path) -> None:
    values = [0.001 * 1.2**number for number in range(20)]
    rows = [
        searched(SEARCH, {**SEARCH["baseline"], "learning_rate": value}, number, 0.9)
        for number, value in enumerate(reversed(values))
    ]
    _, own = read(tmp_path, rows, SEARCH)
    (rate,) = marginals(own)
    assert [part.n for part in rate.parts] == [5, 5, 5, 5]
    assert (rate.parts[0].first, rate.parts[0].last) == (values[0], values[4])
    assert (rate.parts[-1].first, rate.parts[-1].last) == (values[15], values[19])


def test_equal_values_stay_together(tmp_path: Path) -> None:
    widths = [8] * 15 + list(range(20, 30))
    rows = [
        searched(SEARCH, {**SEARCH["baseline"], "width": width}, number, 0.9)
        for number, width in enumerate(widths)
    ]
    (width,) = marginals(read(tmp_path, rows, SEARCH)[1])
    assert width.parts[0].last == 8
    assert width.parts[0].n == 15
    assert sum(part.n for part in width.parts) == 25


def test_json_has_them_and_the_best_so_far(tmp_path: Path) -> None:
    study, rows = read(tmp_path, small_search(), SEARCH)
    table = results(study, rows).table
    assert isinstance(table, SearchTable)
    found = json.loads(render(table, "json"))
    assert {one["parameter"] for one in found["marginal_effects"]} >= {"optimizer", "width"}
    curve = found["best_so_far"]
    assert len(curve["trials"]) == len(curve["epochs"]) == len(curve["val_accuracy"]) == 8
    assert curve["val_accuracy"][-1] == 0.95
    assert curve["epochs"][-1] == 51


def test_nothing_finished_nothing_averaged(tmp_path: Path) -> None:
    study, rows = read(tmp_path, [], SEARCH)
    assert marginals(rows) == []
    assert json.loads(render(results(study, rows).table, "json"))["best_so_far"]["trials"] == []
