"""The first screen: the page's words, one table, at most 45 lines of 80 columns."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from analysis.designs import results
from analysis.designs.base import Results
from analysis.first_screen import PAGES, SCREEN, first_screen, whole_summary
from tests.support import studies
from tests.support.studies import (
    PARETO,
    PUBLISHED,
    SEARCH,
    ablation_trials,
    plan,
    published_names,
    read,
    trial,
)

LEVELS = [f"level-{index:02}-of-a-long-name" for index in range(60)]


def shown(found: Results[Any]) -> list[str]:
    return [line.text for line in first_screen(found)]


@cache
def published(name: str) -> Results[Any]:
    from analysis import trials

    connection = trials.connect(f"sqlite:///{PUBLISHED}")
    (study,) = (study for study in trials.studies(connection) if study.name == name)
    return results(study, trials.trials(connection, study.id))


@pytest.mark.parametrize("name", published_names())
def test_a_published_study_fits_a_screen(name: str) -> None:
    lines = shown(published(name))
    assert len(lines) <= SCREEN - PAGES
    assert max(map(len, lines)) <= 80


def test_its_words_are_those_of_the_summary() -> None:
    found = published("reference/ablation")
    told = " ".join(" ".join(shown(found)).split())
    summary = found.summary()
    assert summary.headline in told
    (how_much,) = (a for a in summary.answers if a.question == "By how much")
    assert f"By how much: {' '.join(how_much.sentences)}" in told
    everything = " ".join(" ".join(line.text for line in whole_summary(summary)).split())
    for answer in summary.answers:
        assert f"{answer.question}: {' '.join(answer.sentences)}" in everything


def test_a_study_that_varies_nothing_shows_what_its_baseline_reaches_and_costs(
    tmp_path: Path,
) -> None:
    of = plan({}, {"pooling": "max"})
    trained = [trial(of, {}, seed, 0.9, test_accuracy=0.89) for seed in range(3)]
    *_, title, heading, row = shown(results(*read(tmp_path, trained, of)))
    assert title == "What the baseline reaches, in %"
    cells = dict(zip(heading.split(), row.split()[1:], strict=True))
    assert (cells["validation"], cells["test"]) == ("90.00", "89.00")
    assert {"params", "seconds"} <= cells.keys()


def test_a_row_has_both_differences_size_and_seconds_and_its_verdict_as_a_sign(
    tmp_path: Path,
) -> None:
    of = plan({"kernel_size": [1, 3, 5, 7]}, {"kernel_size": 3}, seeds=5)
    scatter = [0.001, -0.0004, 0.0006, 0.0, -0.0009]
    means = {"baseline": 0.9, "kernel_size=1": 0.85, "kernel_size=5": 0.92, "kernel_size=7": 0.9}
    values = {
        name: [mean + scatter[(seed + shift) % 5] for seed in range(5)]
        for shift, (name, mean) in enumerate(means.items())
    }
    lines = first_screen(results(*read(tmp_path, ablation_trials(of, values), of)))
    (worse,) = (line for line in lines if line.text.startswith("- kernel_size "))
    mark, factor, level, delta, _, _, test, size, seconds = worse.text.split()
    assert (mark, factor, level, delta) == ("-", "kernel_size", "1", "-5.00")
    assert (test, size, seconds, worse.tone) == ("-5.00", "50,282", "12.5", "worse")
    (better,) = (line for line in lines if line.text.startswith("+ "))
    assert (better.text.split()[1:3], better.tone) == (["5", "+2.00"], "better")
    (open_,) = (line for line in lines if line.text.split()[:2] == ["7", "+0.00"])
    assert open_.tone == "not proven"


def test_many_levels_still_fit_and_are_counted(tmp_path: Path) -> None:
    of = plan({"pooling": ["max", *LEVELS]}, {"pooling": "max"})
    values = {level: [0.8, 0.81, 0.79] for level in LEVELS} | {LEVELS[3]: [0.5, 0.51, 0.48]}
    named = {f"pooling={level}": accuracies for level, accuracies in values.items()}
    lines = shown(
        results(*read(tmp_path, ablation_trials(of, {"baseline": [0.8, 0.81, 0.78], **named}), of))
    )
    assert len(lines) <= SCREEN - PAGES
    assert "and 59 more levels, which --all shows" in lines
    assert any(line.startswith("- ") and LEVELS[3] in line for line in lines)


@pytest.mark.parametrize("of", [SEARCH, PARETO])
def test_a_search_shows_its_best_and_what_makes_it(of: dict[str, Any], tmp_path: Path) -> None:
    rows = studies.small_pareto() if of is PARETO else studies.small_search()
    found = results(*read(tmp_path, rows, of))
    lines = shown(found)
    best = found.table.candidates[0]
    assert len(lines) <= SCREEN - PAGES
    assert any(line.split()[:2] == ["1", best.variant] for line in lines)
    assert "params" in "\n".join(lines)


def test_a_study_without_results_says_so(tmp_path: Path) -> None:
    of = plan({"pooling": ["max", "avg"]}, {"pooling": "max"})
    assert "Nothing has been run yet." in shown(results(*read(tmp_path, [], of)))
