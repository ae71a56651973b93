"""What a design cannot tell apart is named, and nothing else is."""

import pytest

from study.lint import lint
from tests.support.linting import FIXTURES, examined, found, ours, row


def test_an_architecture_brings_the_fields_that_only_it_reads() -> None:
    changes = {"architecture": "resnet_like", "stem": "7x7"}
    variant = {"factor": "architecture", "level": "resnet", "changes": changes}
    assert lint(ours(variants=[variant]), []) == []


def test_an_optimiser_with_its_own_learning_rate_is_a_note() -> None:
    changes = {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.8}
    variant = {"factor": "optimizer", "level": "sgd", "changes": changes}
    (finding,) = lint(ours(variants=[variant]), [])
    assert (finding.code, finding.severity) == ("confounded", "note")
    assert "comes with its own learning_rate:" in finding.message  # adam reads no momentum


def test_a_row_that_a_source_reported_is_here_on_purpose() -> None:
    text = (FIXTURES / "confounded.toml").read_text(encoding="utf-8")
    text += (
        '[source]\nname = "x"\nselected_on = "validation"\ntest_images = 9\nruns = 3\n'
        '[[reported]]\nchanges = { optimizer = "sgd", augmentation = "flip" }\n'
        "test_accuracy = 0.9\n"
    )
    assert found(examined("a.toml", text), "confounded") == [("note", "variants of optimiser")]


def test_rows_a_single_change_apart_separate_a_composite_one() -> None:
    text = (FIXTURES / "confounded-recipe.toml").read_text(encoding="utf-8")
    step = '[[variants]]\nfactor = "recipe"\nlevel = "half"\nchanges = { augmentation = "flip" }\n'
    assert found(examined("a.toml", text + step), "confounded") == []


def test_columns_drawn_at_random_are_not_called_confounded() -> None:
    rows = "".join(f"{0.1 / (i + 1):.5f},{0.5 - 0.01 * i:.3f},{i % 3},0.9{i}\n" for i in range(9))
    findings = examined("a.csv", f"lr,dropout,seed,val_acc\n{rows}")
    assert found(findings, "confounded") == []


def test_columns_of_another_tool_s_trials_that_move_together_are_found() -> None:
    own = [row({"opt": o, "shuffle": o == "sgd"}, i, 0.9) for i in range(3) for o in ("a", "sgd")]
    assert found(lint({}, own), "confounded") == [("error", "results")]


def columns(**levels: str) -> str:
    """Make a table of one run a character: a level of each column."""
    rows = [
        ",".join([*run, str(number), f"{0.9 + number / 1000}"])
        for number, run in enumerate(zip(*levels.values(), strict=True))
    ]
    return "\n".join([",".join([*levels, "seed", "val_acc"]), *rows]) + "\n"


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("aaaaaaabbbbbbbb", "xxxxxxxyyyyyyyz", True),  # 14 of 15, the last with a level of its own
        ("aaaaabbbbbccccc", "xxxxxyyyyyzzzzx", True),
        ("aaaaaaabbbbbbbb", "xxxxxxxyyyyyyxx", False),  # 2 of 15 tell them apart
        ("aaaaaaaaaaaaabc", "xxxxxxxxxxxxyxz", False),  # a baseline, and a run beside it
        ("aaaaaaaaaabbbbb", "xxxxxyyyyyxxxxx", False),  # one factor at a time
        ("aaaaaaabbbbbbbb", "xyxyxyxyxyxyxyx", False),
    ],
)
def test_settings_that_hardly_ever_change_apart_are_confounded(
    first: str, second: str, said: bool
) -> None:
    findings = examined("a.csv", columns(opt=first, rate=second))
    nearly = [own for own in findings if own.code == "confounded" and "could tell" in own.message]
    assert bool(nearly) == said
    if said:
        assert nearly[0].severity == "warning"
        assert "opt and rate change together in 14 of 15 runs: only 1 run could" in (
            nearly[0].message
        )


def test_factors_that_nothing_reads_are_named_with_what_trains_the_same() -> None:
    plan = ours(seeds=3, baseline={"early_stopping": "none"}, factors={"patience": [3, 9]})
    (finding,) = lint(plan, [])
    assert (finding.code, finding.severity) == ("unread-factor", "warning")
    assert finding.where == "factors.patience"
    assert "only early stopping reads it" in finding.message
    space = {"trials": 5, "space": {"momentum": {"low": 0.5, "high": 0.9}}}
    searched = ours(design="search", seeds=3, baseline={"optimizer": "adam"}, search=space)
    assert found(lint(searched, []), "unread-factor") == [("warning", "search.space.momentum")]
