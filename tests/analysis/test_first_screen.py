"""The first screen: the page's words, one table, at most 45 lines of 80 columns."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from analysis.designs import results
from analysis.designs.base import Results
from analysis.first_screen import PAGES, SCREEN, first_screen, whole_summary
from tests.support import studies
from tests.support.simulated import DATABASE
from tests.support.studies import PARETO, SEARCH, ablation_trials, plan, read

LEVELS = [f"level-{index:02}-of-a-long-name" for index in range(60)]


def shown(found: Results[Any]) -> list[str]:
    return [line.text for line in first_screen(found)]


@cache
def published(name: str) -> Results[Any]:
    from analysis import trials

    connection = trials.connect(f"sqlite:///{DATABASE}")
    (study,) = (study for study in trials.studies(connection) if study.name == name)
    return results(study, trials.trials(connection, study.id))


@pytest.mark.parametrize("name", ["reference/ablation", "reference/pooling"])
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


def test_a_row_has_both_differences_size_and_seconds_and_its_verdict_as_a_sign() -> None:
    found = published("reference/ablation")
    tones = {line.text: line.tone for line in first_screen(found)}
    (worse,) = (text for text in tones if "kernel_size   1 " in text)
    assert worse.split() == [
        "-",
        "kernel_size",
        "1",
        "-4.49",
        "[-5.75,",
        "-3.23]",
        "-4.87",
        "33,642",
        "10.2",
    ]
    assert tones[worse] == "worse"
    (better,) = (text for text in tones if " 0.01 " in text and "[0.02, 1.28]" in text)
    assert (better[0], tones[better]) == ("+", "better")
    (open_,) = (text for text in tones if " 128 " in text)
    assert (open_[0], tones[open_]) == (" ", "not proven")


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
