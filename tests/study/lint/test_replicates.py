"""How many runs are behind a figure, what chose it, and which runs are none."""

import pytest

from study.lint import lint
from tests.support.linting import FIXTURES, examined, found, level_rows, ours, row


@pytest.mark.parametrize(
    ("design", "seeds", "severity"),
    [("ablation", 1, "error"), ("ablation", 2, "warning"), ("factorial", 1, "warning"),
     ("factorial", 2, "warning"), ("ablation", 3, None)],
)  # fmt: skip
def test_few_seeds_are_graver_where_no_other_runs_help(
    design: str, seeds: int, severity: str | None
) -> None:
    plan = ours(design=design, seeds=seeds, factors={"pooling": ["max", "avg"]})
    expected = [(severity, "plan")] if severity else []
    assert found(lint(plan, []), "single-run") == expected


def test_a_search_that_repeats_nothing_is_told() -> None:
    space = {"trials": 5, "space": {"width": [16, 32]}}
    assert found(lint(ours(design="search", seeds=1, search=space), []), "single-run") == [
        ("warning", "plan")
    ]


def test_missing_runs_of_ours_are_told_unless_they_are_running() -> None:
    plan = ours(seeds=3, factors={"pooling": ["max", "avg"]})
    done = level_rows("pooling", {"max": [0.9, 0.91, 0.92], "avg": [0.8, 0.81]}, "max")
    lost = row({"pooling": "avg"}, 2, None, state="FAIL")
    assert found(lint(plan, [*done, lost]), "single-run") == [("warning", "results")]
    running = row({"pooling": "avg"}, 2, None, state="RUNNING")
    assert found(lint(plan, [*done, running]), "single-run") == [("note", "results")]


def test_an_accuracy_of_unknown_images_is_a_warning() -> None:
    text = (FIXTURES / "test-selection.csv").read_text(encoding="utf-8")
    findings = examined("a.csv", text.replace("test_acc", "accuracy"))
    assert found(findings, "test-selection") == [("warning", "results")]


def test_a_test_accuracy_of_the_best_validation_epoch_is_right() -> None:
    text = (FIXTURES / "test-selection-epochs.csv").read_text(encoding="utf-8")
    honest = text.replace(",0.86\n", ",0.83\n").replace(",0.85\n0.1,2", ",0.84\n0.1,2")
    assert honest != text
    assert found(examined("a.csv", honest), "test-selection") == []


# Runs that are none.


def table(columns: str, *rows: str) -> str:
    return "\n".join([columns, *rows]) + "\n"


def test_copies_leave_a_setting_with_the_runs_that_it_really_has() -> None:
    text = (FIXTURES / "copied-runs.csv").read_text(encoding="utf-8")
    (single,) = [own for own in examined("a.csv", text) if own.code == "single-run"]
    assert "1 of 2 settings have fewer than 3 runs" in single.message
    (copied,) = [own for own in examined("a.csv", text) if own.code == "copied-runs"]
    assert "2 of 6 runs have every figure of another run" in copied.message


def test_whole_courses_that_are_copied_are_found_without_a_loss() -> None:
    courses = {0: (0.81, 0.87, 0.89), 1: (0.81, 0.87, 0.89), 2: (0.80, 0.86, 0.90)}
    rows = [
        f"{lr},{seed},{epoch},{accuracy}"
        for lr in (0.1, 0.2)
        for seed, course in courses.items()
        for epoch, accuracy in enumerate(course, 1)
    ]
    findings = examined("a.csv", table("lr,seed,epoch,val_acc", *rows))
    assert found(findings, "copied-runs") == [("error", "results")]


def test_accuracies_that_agree_by_chance_are_no_copies() -> None:
    """Of two decimals, of some runs only, or where networks answer one class for all."""
    coarse = [f"{lr},{seed},0.93" for lr in (0.1, 0.2) for seed in range(3)]
    some = [f"{lr},{seed},{0.9312 + (seed == 2) / 1000}" for lr in (0.1, 0.2) for seed in range(3)]
    chance = [f"{lr},{seed},0.1" for lr in (0.1, 0.2) for seed in range(3)]
    for rows in (coarse, some, chance):
        assert found(examined("a.csv", table("lr,seed,val_acc", *rows)), "copied-runs") == []
    equal = [f"{lr},{seed},{0.9312 + lr / 100}" for lr in (0.1, 0.2) for seed in range(3)]
    findings = examined("a.csv", table("lr,seed,val_acc", *equal))
    assert found(findings, "copied-runs") == [("warning", "results")]


def test_a_level_that_diverged_on_some_seeds_is_told_from_one_that_lacks_runs() -> None:
    plan = ours(seeds=5, factors={"learning_rate": [3e-3, 0.5]})
    base = [row({}, seed, 0.90 + seed / 1000) for seed in range(5)]
    left = [row({"learning_rate": 0.5}, seed, 0.93 + seed / 1000) for seed in range(3)]
    lost = [
        row({"learning_rate": 0.5}, seed, None, state="FAIL", outcome="diverged") for seed in (3, 4)
    ]
    findings = lint(plan, [*base, *left, *lost])
    assert found(findings, "survivors") == [("warning", "results")]
    (finding,) = [own for own in findings if own.code == "survivors"]
    assert "learning_rate=0.5 on 2 of 5" in finding.message
    assert found(findings, "single-run") == []


def test_what_becomes_of_a_source_s_setting_is_a_result_to_be_known() -> None:
    source = {"name": "someone", "selected_on": "test", "test_images": 10_000, "runs": 1}
    base = [row({}, seed, 0.90 + seed / 1000) for seed in range(5)]
    high = [row({"learning_rate": 0.5}, seed, 0.93 + seed / 1000) for seed in range(3)]
    lost = [row({"learning_rate": 0.5}, seed, None, state="FAIL", outcome="diverged")
            for seed in (3, 4)]  # fmt: skip
    fell = [row({"learning_rate": 0.5}, seed, value) for seed, value in ((3, 0.1), (4, 0.93))]
    for reported, severity in (({}, "warning"), ({"learning_rate": 0.5}, "note")):
        told = [{"changes": reported, "test_accuracy": 0.9}]
        plan = ours(seeds=5, factors={"learning_rate": [3e-3, 0.5]}, source=source, reported=told)
        assert found(lint(plan, [*base, *high, *lost]), "survivors") == [(severity, "results")]
        assert found(lint(plan, [*base, *high, *fell]), "collapsed-run") == [(severity, "results")]


def test_a_level_that_diverged_on_every_seed_has_its_result() -> None:
    plan = ours(seeds=3, factors={"learning_rate": [3e-3, 50.0]})
    base = [row({}, seed, 0.90 + seed / 1000) for seed in range(3)]
    lost = [
        row({"learning_rate": 50.0}, seed, None, state="FAIL", outcome="diverged")
        for seed in range(3)
    ]
    (finding,) = lint(plan, [*base, *lost])
    assert (finding.code, finding.severity) == ("survivors", "note")
    assert "learning_rate=50" in finding.message
    assert "again: it goes on" not in finding.message
    crashed = [row({"learning_rate": 50.0}, 2, None, state="FAIL", outcome="crashed")]
    findings = lint(plan, [*base, *lost[:2], *crashed])  # that one may still be trained
    assert found(findings, "single-run") == [("warning", "results")]


def test_a_collapse_needs_a_run_far_behind_all_others() -> None:
    plan = ours(seeds=5, factors={"learning_rate": [3e-3, 1e-2]})
    base = {3e-3: [0.90, 0.91, 0.90, 0.92, 0.91]}

    def said(values: list[float]) -> list[tuple[str, str]]:
        rows = level_rows("learning_rate", {**base, 1e-2: values}, 3e-3)
        return found(lint(plan, rows), "collapsed-run")

    assert said([0.91, 0.92, 0.10, 0.91, 0.93]) == [("warning", "results")]
    assert said([0.91, 0.92, 0.85, 0.91, 0.93]) == []
    base[3e-3] = [0.50, 0.62, 0.31, 0.41, 0.73]
    assert said([0.55, 0.60, 0.29, 0.47, 0.70]) == []  # trainings that spread as a whole
