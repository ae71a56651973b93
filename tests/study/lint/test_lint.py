"""Every mistake of method is found where it is, and nowhere else."""

import dataclasses
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.trials import Trial, connect, studies, trials
from study.importing import make_study, store
from study.importing.sheet import parse_sheet
from study.lint import CODES, SEVERITIES, Finding, lint
from study.lint.context import Case, lead, standard_error
from study.plans import catalog
from study.plans.plan import Plan, Variant, load_plan
from study.store import location
from tests.support.plans import run, tiny
from trainer.data import ImageData
from trainer.datasets import DATASETS
from trainer.errors import UserError

FIXTURES = Path(__file__).with_name("fixtures")

Mend = Callable[[str], str]


def replaced(*pairs: tuple[str, str]) -> Mend:
    """Make a mend of replacements, each of which must find something to replace."""

    def mend(text: str) -> str:
        for old, new in pairs:
            assert old in text, old
            text = text.replace(old, new)
        return text

    return mend


def results(text: str, *, dataset: str | None = None) -> tuple[dict[str, Any], list[Any]]:
    """Import a table; return its plan and its runs, as `lint` sees them."""
    made = make_study(parse_sheet(Path("a.csv"), text.encode()), name="theirs", dataset=dataset)
    names = ("val_loss", "test_loss", "test_accuracy")
    rows = [
        SimpleNamespace(
            state=own.state,
            value=own.value,
            params=own.params,
            label=own.attributes["variant"],
            seed=own.attributes["seed"],
            changes=own.attributes["changes"],
            config=own.attributes["config"],
            history=own.attributes.get("history", []),
            **{name: own.attributes.get(name) for name in names},
        )
        for own in made.trials
    ]
    return made.plan, rows


def examined(name: str, text: str, dataset: str | None = None) -> list[Finding]:
    """Lint a plan or a table of results."""
    if name.endswith(".toml"):
        return lint(Plan.from_dict(tomllib.loads(text)).to_dict(), [])
    return lint(*results(text, dataset=dataset))


def found(findings: Iterable[Finding], code: str) -> list[tuple[str, str]]:
    return [(own.severity, own.where) for own in findings if own.code == code]


def three_seeds(text: str) -> str:
    head, *rows = text.splitlines()
    again = [f"{seed},{row[:-1]}{seed}" for seed in range(3) for row in rows]
    return "\n".join([f"seed,{head}", *again]) + "\n"


def times_batch_size(text: str) -> str:
    head, *rows = text.splitlines()
    cells = [row.split(",") for row in rows]
    mended = [[b, s, a, f"{float(loss) * int(b):.4f}"] for b, s, a, loss in cells]
    return "\n".join([head, *map(",".join, mended)])


# A fixture with the mistake, what is said of it, and how it is mended.
MISTAKES: list[tuple[str, str, tuple[str, str], Mend]] = [
    (
        "test-selection.csv",
        "test-selection",
        ("error", "results"),
        replaced(("test_acc", "val_acc")),
    ),
    (
        "test-selection-epochs.csv",
        "test-selection",
        ("error", "results"),
        replaced((",best_test_acc", ",index")),
    ),
    (
        "test-selection-source.toml",
        "test-selection",
        ("note", "source"),
        replaced(('"test"', '"validation"')),
    ),
    ("single-run.toml", "single-run", ("error", "plan"), replaced(("seeds = 1", "seeds = 3"))),
    ("single-run.csv", "single-run", ("warning", "results"), three_seeds),
    (
        "single-run-source.toml",
        "single-run",
        ("note", "source"),
        replaced(("runs = 1", "runs = 5")),
    ),
    (
        "confounded.toml",
        "confounded",
        ("error", "variants of optimiser"),
        replaced((', augmentation = "flip"', "")),
    ),
    (
        "confounded-base.toml",
        "confounded",
        ("warning", "variants of width"),
        replaced(("width = 64 }", "width = 64 }\nagainst = { residual = true }")),
    ),
    (
        "confounded-recipe.toml",
        "confounded",
        ("note", "variants of recipe"),
        replaced((", label_smoothing = 0.1", "")),
    ),
    (
        "confounded.csv",
        "confounded",
        ("error", "results"),
        lambda text: text + "adam,yes,0,0.93\nadam,yes,1,0.93\nadam,yes,2,0.93\n",
    ),
    (
        "confounded-base.csv",
        "confounded",
        ("warning", "results"),
        lambda text: text + "32,yes,3,0,0.93\n32,yes,3,1,0.93\n32,yes,3,2,0.93\n",
    ),
    ("loss-scale.csv", "loss-scale", ("error", "results"), times_batch_size),
    ("softmax-loss.csv", "softmax-loss", ("error", "results"), replaced((",1.5", ",0.3"))),
    (
        "no-nonlinearity.toml",
        "no-nonlinearity",
        ("note", "plan"),
        replaced(("conv_pairs", "convnet")),
    ),
    (
        "not-training.csv",
        "not-training",
        ("warning", "results"),
        replaced((",3,2.30", ",3,0.30"), (",0.0998,0.1000", ",0.8998,0.8800"),
                 (",0.0999,0.1000", ",0.8999,0.8800"), (",0.1003,0.1000\nconv", ",0.9,0.88\nconv")),
    ),
    (
        "contradicted-claim.toml",
        "contradicted-claim",
        ("note", "claims.1"),
        replaced(('best = "flip+erase"', 'best = "flip"')),
    ),
    (
        "edge-of-range.csv",
        "edge-of-range",
        ("warning", "factors.lr"),
        lambda text: text + "0.03,0,0.92\n0.03,1,0.92\n0.03,2,0.92\n",
    ),
    (
        "edge-of-range-source.toml",
        "edge-of-range",
        ("note", "source"),
        replaced(("test_accuracy = 0.94", "test_accuracy = 0.91")),
    ),
    (
        "variance-as-std.toml",
        "variance-as-std",
        ("error", "baseline.normalization"),
        replaced(("0.286/0.126", "0.286/0.353")),
    ),
    (
        "variance-as-std.csv",
        "variance-as-std",
        ("error", "baseline.std"),
        replaced(("0.126", "0.353")),
    ),
    (
        "bias-under-batchnorm.toml",
        "bias-under-batchnorm",
        ("note", "plan"),
        replaced(("true", "false")),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "code", "said", "mend"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_found_and_its_mended_form_is_not(
    name: str, code: str, said: tuple[str, str], mend: Mend
) -> None:
    text = (FIXTURES / name).read_text(encoding="utf-8")
    findings = examined(name, text, dataset="fashion-mnist")
    assert found(findings, code) == [said]
    # A fixture has one mistake: what else is graver than a note would be another.
    others = [own for own in findings if own.code != code and own.severity != "note"]
    assert others == []
    assert found(examined(name, mend(text), dataset="fashion-mnist"), code) == []


def test_every_code_has_a_fixture_and_every_fixture_a_test() -> None:
    assert {code for _, code, _, _ in MISTAKES} == set(CODES)
    files = {own.name for own in FIXTURES.iterdir()} - {"README.md"}
    assert {name for name, _, _, _ in MISTAKES} == files


def test_every_code_is_explained() -> None:
    page = (Path(__file__).parents[3] / "docs" / "methodology.md").read_text(encoding="utf-8")
    headings = [line[4:] for line in page.splitlines() if line.startswith("### ")]
    assert headings == list(CODES)
    assert page.count("\n*What*: ") == page.count("\n*Mend*: ") == len(CODES)


def test_findings_are_sentences_with_numbers_gravest_first() -> None:
    text = (FIXTURES / "single-run.csv").read_text(encoding="utf-8")
    findings = examined("a.csv", text.replace("val_acc", "test_acc"), dataset="mnist")
    ranks = [SEVERITIES.index(own.severity) for own in findings]
    assert ranks == sorted(ranks)
    (single,) = [own for own in findings if own.code == "single-run"]
    assert "6 of 6 settings have fewer than 3 runs (mostly one)" in single.message
    assert "leads the next by 0.11 points, and 3 of the 5 others" in single.message
    assert "tests of 10,000 images (0.72 points)" in single.message
    assert single.as_dict() == {
        "code": "single-run",
        "severity": "warning",
        "where": "results",
        "message": single.message,
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        single.code = "x"  # type: ignore[misc]


# Nothing fires without a cause.


@pytest.mark.parametrize("name", catalog.names())
@pytest.mark.parametrize("dataset", [None, "digits"])
def test_the_catalogue_has_no_error_and_no_warning(name: str, dataset: str | None) -> None:
    findings = lint(load_plan(name, dataset=dataset).to_dict(), [])
    assert [own for own in findings if own.severity != "note"] == []


def test_the_catalogue_notes_what_its_sources_did() -> None:
    noted = {name: {own.code for own in lint(load_plan(name).to_dict(), [])}
             for name in catalog.names()}  # fmt: skip
    assert noted["lenet"] >= {"variance-as-std", "single-run"}
    assert noted["pooling"] >= {"test-selection", "single-run"}
    assert noted["recipes"] >= {"test-selection", "confounded", "bias-under-batchnorm"}
    assert noted["structure"] >= {"test-selection", "contradicted-claim", "edge-of-range"}
    assert noted["batchnorm-lr"] >= {"test-selection", "no-nonlinearity"}
    assert noted["ablation"] == noted["search"] == noted["baseline"] == set()
    (claim,) = [
        own
        for own in lint(load_plan("structure").to_dict(), [])
        if own.code == "contradicted-claim"
    ]
    assert "flip+erase has 92.53 %, the lowest of all 8; flip has 93.47 %" in claim.message


def stored_trials(file: Path) -> tuple[dict[str, Any], list[Trial]]:
    engine = connect(location.locate(str(file)))
    (study,) = studies(engine)
    return study.plan, trials(engine, study.id)


def test_a_study_of_ours_is_clean_when_it_is_done(tmp_path: Path) -> None:
    plan = tiny(seeds=3)
    run(plan, tmp_path / "a.db")
    assert lint(*stored_trials(tmp_path / "a.db")) == []


@pytest.mark.slow
def test_the_ablation_s_own_results_raise_no_alarm(tmp_path: Path) -> None:
    plan = load_plan("ablation", dataset="digits").override(seeds=3, epochs=1, subset=300)
    run(plan, tmp_path / "a.db")
    findings = lint(*stored_trials(tmp_path / "a.db"))
    # After a single epoch the smallest batches and the highest rates may well be the best.
    assert {own.code for own in findings if own.severity != "note"} <= {"edge-of-range"}


def ours(**changes: Any) -> dict[str, Any]:
    return Plan.from_dict({"name": "ours", "dataset": "digits", **changes}).to_dict()


def row(
    changes: Mapping[str, Any],
    seed: int,
    value: float | None,
    *,
    state: str = "COMPLETE",
    **more: Any,
) -> Any:
    """Make a trial of ours."""
    known: dict[str, Any] = {"config": {}, "history": [], "val_loss": None, "test_loss": None}
    known |= {"test_accuracy": None, "params": changes}
    label = Variant(tuple(changes.items())).label
    return SimpleNamespace(
        **{**known, **more}, state=state, label=label, value=value, seed=seed, changes=dict(changes)
    )


def level_rows(factor: str, values: Mapping[Any, Sequence[float]], base: Any) -> list[Any]:
    return [
        row({} if level == base else {factor: level}, seed, value)
        for level, own in values.items()
        for seed, value in enumerate(own)
    ]


# Single runs.


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


# Test selection.


def test_an_accuracy_of_unknown_images_is_a_warning() -> None:
    text = (FIXTURES / "test-selection.csv").read_text(encoding="utf-8")
    findings = examined("a.csv", text.replace("test_acc", "accuracy"))
    assert found(findings, "test-selection") == [("warning", "results")]


def test_a_test_accuracy_of_the_best_validation_epoch_is_right() -> None:
    text = (FIXTURES / "test-selection-epochs.csv").read_text(encoding="utf-8")
    honest = text.replace(",0.86\n", ",0.83\n").replace(",0.85\n0.1,2", ",0.84\n0.1,2")
    assert honest != text
    assert found(examined("a.csv", honest), "test-selection") == []


# Confounding.


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


# Figures.


def test_losses_that_follow_the_accuracy_are_no_matter_of_scale() -> None:
    """Larger batches that train worse have larger losses, or far smaller ones that train better."""
    text = "batch_size,seed,val_acc,val_loss\n" + "".join(
        f"{batch},{seed},{acc},{loss}\n"
        for batch, acc, loss in ((32, 0.70, 0.80), (64, 0.85, 0.41), (128, 0.93, 0.2))
        for seed in range(3)
    )
    assert found(examined("a.csv", text), "loss-scale") == []


def test_a_smoothed_training_loss_may_stay_high() -> None:
    text = "smooth,seed,val_acc,train_acc,train_loss\n" + "".join(
        f"0.5,{seed},0.9,0.9{seed},1.48\n" for seed in range(3)
    )
    assert found(examined("a.csv", text), "softmax-loss") == [("error", "results")]
    renamed = text.replace("smooth,", "label_smoothing,")
    assert found(examined("a.csv", renamed), "softmax-loss") == []


def test_a_loss_of_many_classes_may_be_high() -> None:
    text = (FIXTURES / "softmax-loss.csv").read_text(encoding="utf-8")
    assert found(examined("a.csv", text, dataset="cifar100"), "softmax-loss") == []


def test_an_overconfident_network_s_loss_is_no_softmax_s() -> None:
    text = (FIXTURES / "softmax-loss.csv").read_text(encoding="utf-8")
    assert found(examined("a.csv", text.replace("1.541", "1.9")), "softmax-loss") == []


def test_a_learning_rate_too_high_is_noted_in_a_study_of_ours() -> None:
    plan = ours(seeds=3, factors={"learning_rate": [3e-3, 50.0]})
    still = [{"epoch": e, "train_loss": 2.3, "train_accuracy": 0.1, "val_accuracy": 0.1}
             for e in (1, 2, 3)]  # fmt: skip
    moving = [{**own, "val_accuracy": 0.3 * own["epoch"]} for own in still]
    rows = [
        row(changes, seed, 0.5, history=history)
        for changes, history in (({}, moving), ({"learning_rate": 50.0}, still))
        for seed in range(3)
    ]
    (finding,) = lint(plan, rows)
    assert (finding.code, finding.severity) == ("not-training", "note")
    assert "3 of 6 runs" in finding.message
    assert "learning_rate=50" in finding.message


def test_figures_that_stand_still_are_found_without_knowing_the_classes() -> None:
    text = "model,seed,epoch,train_loss,val_acc\n" + "".join(
        f"a,{seed},{epoch},1.100,0.4{seed}\n" for seed in range(3) for epoch in range(1, 5)
    )
    assert found(examined("a.csv", text), "not-training") == [("error", "results")]
    done = text.replace(",0.4", ",0.995")  # a pretrained network may begin where it ends
    assert found(examined("a.csv", done), "not-training") == []


# Claims and ranges.


CLAIM = {
    "source": {"name": "someone", "selected_on": "validation", "test_images": 9, "runs": 3},
    "claims": [{"text": "avg is best", "factor": "pooling", "best": "avg"}],
}


@pytest.mark.parametrize(
    ("avg", "contradicted"),
    [([0.80, 0.82, 0.81], True), ([0.80, 0.99, 0.81], False), ([0.95, 0.96, 0.97], False)],
)
def test_only_a_proven_difference_of_ours_contradicts_a_claim(
    avg: list[float], contradicted: bool
) -> None:
    plan = ours(seeds=3, factors={"pooling": ["max", "avg"]}, **CLAIM)
    rows = level_rows("pooling", {"max": [0.9, 0.91, 0.92], "avg": avg}, "max")
    assert bool(found(lint(plan, rows), "contradicted-claim")) == contradicted


def test_a_factorial_s_claim_is_judged_over_all_its_cells() -> None:
    factors = {"pooling": ["max", "avg"], "batchnorm": [True, False]}
    plan = ours(design="factorial", seeds=3, factors=factors, **CLAIM)
    rows = [
        row({"pooling": p, "batchnorm": b}, seed, 0.9 - 0.1 * (p == "avg") + 0.01 * seed * b)
        for p in ("max", "avg") for b in (True, False) for seed in range(3)
    ]  # fmt: skip
    rows[0].value += 0.001
    (finding,) = [own for own in lint(plan, rows) if own.code == "contradicted-claim"]
    assert "max is ahead of it by 10.02 points" in finding.message


def test_a_factorial_s_reported_cells_are_averaged_by_level() -> None:
    factors = {"pooling": ["max", "avg"], "batchnorm": [True, False]}
    reported = [
        {"changes": {"pooling": p, "batchnorm": b}, "test_accuracy": own}
        for p, b, own in (("max", True, 0.9), ("max", False, 0.8), ("avg", True, 0.7),
                          ("avg", False, 0.81))
    ]  # fmt: skip
    plan = ours(design="factorial", seeds=3, factors=factors, reported=reported, **CLAIM)
    (finding,) = lint(plan, [])
    assert "avg has 75.50 %, the lowest of all 2; max has 85.00 %" in finding.message
    fewer = ours(design="factorial", seeds=3, factors=factors, reported=reported[1:], **CLAIM)
    assert lint(fewer, []) == []


@pytest.mark.parametrize(
    ("factor", "values", "said"),
    [
        ("dropout", {0.0: [0.9, 0.91, 0.92], 0.2: [0.8, 0.82, 0.81], 0.5: [0.7, 0.71, 0.72]}, []),
        ("kernel_size", {1: [0.9, 0.91, 0.92], 3: [0.8, 0.82, 0.81], 5: [0.7, 0.71, 0.73]}, []),
        ("dropout", {0.0: [0.7, 0.7, 0.7], 0.2: [0.8, 0.82, 0.81], 0.5: [0.9, 0.91, 0.93]},
         [("warning", "factors.dropout")]),
        ("dropout", {0.0: [0.7, 0.7, 0.7], 0.2: [0.8, 0.82, 0.81], 0.5: [0.8, 0.83, 0.80]}, []),
        ("dropout", {0.0: [0.7, 0.7, 0.7], 0.2: [0.8, 0.82, 0.81], 0.5: [0.8, 0.84, 0.80]},
         [("note", "factors.dropout")]),
        ("width", {32: [0.9, 0.91, 0.92], 16: [0.8, 0.8, 0.8]}, []),
    ],
)  # fmt: skip
def test_only_an_end_that_could_move_and_is_ahead_is_told(
    factor: str, values: Mapping[Any, Sequence[float]], said: list[tuple[str, str]]
) -> None:
    base = {"dropout": 0.2, "kernel_size": 3, "width": 32}[factor]
    plan = ours(seeds=3, factors={factor: list(values)})
    assert found(lint(plan, level_rows(factor, values, base)), "edge-of-range") == said


def test_the_winner_of_a_search_at_the_end_of_its_range_is_noted() -> None:
    space = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}, "width": [16, 32, 64],
             "dropout": {"low": 0.0, "high": 0.6}}  # fmt: skip
    plan = ours(design="search", seeds=3, search={"trials": 3, "space": space})
    good = {"learning_rate": 0.09, "width": 32, "dropout": 0.001}
    rows = [row(good, seed, 0.9) for seed in range(3)]
    rows += [row({"learning_rate": 0.01, "width": 64, "dropout": 0.1}, 0, 0.95)]  # seen once
    assert found(lint(plan, rows), "edge-of-range") == [("note", "search.space.learning_rate")]
    rows = [row({**good, "width": 64, "learning_rate": 0.05}, seed, 0.9) for seed in range(3)]
    assert found(lint(plan, rows), "edge-of-range") == [("note", "search.space.width")]


# Constants.


@pytest.mark.parametrize(
    ("normalization", "factors", "severity"),
    [
        ("0.286/0.126", {}, "error"),
        ("0.29/0.125", {}, "error"),
        ("dataset", {"normalization": ["dataset", "0.286/0.126"]}, "note"),
        ("0.286/0.353", {"normalization": ["0.286/0.353", "0.286/0.126"]}, "note"),
        ("none", {"normalization": ["none", "0.286/0.126"]}, "warning"),
        ("0.285/0.7046", {}, None),
        ("0.5/0.5", {}, None),
        ("none", {}, None),
    ],
)
def test_a_variance_is_told_from_a_standard_deviation(
    normalization: str, factors: dict[str, list[str]], severity: str | None
) -> None:
    baseline = {"normalization": normalization}
    plan = ours(dataset="fashion-mnist", seeds=3, baseline=baseline, factors=factors)
    found_ = [own.severity for own in lint(plan, []) if own.code == "variance-as-std"]
    assert found_ == ([severity] if severity else [])


def test_what_is_known_of_digits_is_what_they_are(digits: ImageData) -> None:
    known = DATASETS["digits"]
    mean, std = digits.normalisation
    assert [known.mean, known.std] == pytest.approx([mean, std], abs=1e-4)
    sizes = (len(digits.train_labels), len(digits.test_labels), len(digits.classes))
    assert sizes == (known.train_images, known.test_images, len(known.classes))


@pytest.mark.real
def test_what_is_known_of_fashion_mnist_is_what_it_is(fashion_mnist_dir: Path) -> None:
    from trainer.data import load

    data = load("fashion-mnist", fashion_mnist_dir, download=False)
    known = DATASETS["fashion-mnist"]
    assert data.normalisation == pytest.approx((known.mean, known.std), abs=1e-4)


def test_biases_are_found_among_all_combinations() -> None:
    factors = {"architecture": ["resnet_like", "convnet"], "conv_bias": [False, True]}
    plan = ours(design="factorial", seeds=3, factors=factors)
    assert found(lint(plan, []), "bias-under-batchnorm") == [("note", "plan")]
    space = {"trials": 5, "space": {"architecture": ["conv_pairs", "lenet"]}}
    base = {"architecture": "lenet", "conv_bias": True, "batchnorm": True}
    searched = ours(design="search", seeds=3, baseline=base, search=space)
    assert {own.code for own in lint(searched, [])} == {"bias-under-batchnorm", "no-nonlinearity"}


# The arithmetic, and anything at all.


def test_the_lead_is_scipy_s_paired_t() -> None:
    from scipy import stats

    a, b = [0.91, 0.93, 0.92, 0.95], [0.90, 0.90, 0.93, 0.91]
    expected = stats.ttest_rel(a, b)
    low, high = expected.confidence_interval(0.95)
    found_ = lead(dict(enumerate(a)), dict(enumerate(b)))
    assert found_.p_value == pytest.approx(expected.pvalue)
    assert [found_.low, found_.high] == pytest.approx([low, high])
    assert standard_error(0.93, 10_000) == pytest.approx(0.00255, abs=1e-5)
    assert lead({0: 0.9}, {1: 0.8}).low is None


def test_another_tool_s_study_is_examined_without_a_plan() -> None:
    assert lint({}, [row({"x": 1.0}, i, 0.9) for i in range(3)]) == []
    with pytest.raises(UserError, match="key = 'theirs'"):
        lint({"theirs": 1}, [])


COLUMNS = ["val_acc", "test_acc", "val_loss", "lr", "batch_size", "std", "seed", "epoch", "model"]


@given(
    st.lists(st.sampled_from(COLUMNS), min_size=2, max_size=6, unique=True).filter(
        lambda own: "val_acc" in own or "test_acc" in own
    ),
    st.data(),
)
def test_no_imported_table_crashes_the_lint(columns: list[str], data: st.DataObject) -> None:
    cell = st.sampled_from(["0", "1", "0.5", "0.126", "", "nan", "2"])
    rows = data.draw(st.lists(st.lists(cell, min_size=len(columns), max_size=len(columns)),
                              min_size=1, max_size=12))  # fmt: skip
    text = "\n".join(",".join(own) for own in [columns, *rows])
    try:
        plan, own_rows = results(text, dataset=data.draw(st.sampled_from([None, "mnist", "x"])))
    except UserError:
        return
    for own in lint(plan, own_rows):
        assert own.code in CODES
        assert own.message.endswith(".")
        json.dumps(own.as_dict())


# The command.


def command(*args: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "study.cli", *args],
        capture_output=True, text=True, check=False, cwd=cwd, timeout=120,
    )  # fmt: skip


def test_the_command_exits_with_1_for_an_error_only(tmp_path: Path) -> None:
    hasty = FIXTURES / "single-run.toml"
    done = command("lint", str(hasty), cwd=tmp_path)
    assert done.returncode == 1
    assert "hasty, the plan, without results: 1 error, no warnings, no notes" in done.stdout
    assert "error: single-run (plan)\n  1 seed: a single test of" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    clean = command("lint", "structure", "--json", cwd=tmp_path)
    assert clean.returncode == 0, clean.stderr
    told = json.loads(clean.stdout)
    assert (told["study"], told["trials"]) == ("structure", 0)
    assert {own["severity"] for own in told["findings"]} == {"note"}
    assert command("lint", "nothing", cwd=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_the_commands_import_and_examine_a_file(tmp_path: Path) -> None:
    url = ("--storage", str(tmp_path / "a.db"))
    csv = str(FIXTURES / "test-selection.csv")
    done = command("import", csv, "--study-name", "theirs", *url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lr        factor: 0.01, 0.1" in done.stdout
    assert "study theirs in a.db: ablation, 2 settings, 6 runs" in done.stdout
    assert "note: test_acc is measured on test images" in done.stdout
    examined_ = command("lint", *url, cwd=tmp_path)
    assert examined_.returncode == 1
    assert "theirs, the plan and 6 trials: 1 error" in examined_.stdout
    again = command("import", csv, "--study-name", "theirs", *url, cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "is taken" in again.stderr
    refused = command("run", "theirs", *url, cwd=tmp_path)
    assert refused.returncode == 2
    assert (
        refused.stderr
        == "fmnist-study: error: study 'theirs': was imported; it has nothing to run\n"
    )
    assert "theirs" in command("report", *url, cwd=tmp_path).stdout
    assert command("best", "theirs", *url, cwd=tmp_path).returncode == 0


def test_a_plan_file_is_examined_with_the_results_of_its_own_study(tmp_path: Path) -> None:
    plan = tiny(seeds=3)
    run(plan, tmp_path / "a.db", name="tiny")
    file = tmp_path / "tiny.toml"
    text = (
        'name = "tiny"\ndataset = "digits"\nseeds = 3\nepochs = 1\nsubset = 200\n'
        '[baseline]\nwidth = 4\nbatch_size = 32\nprecision = "fp32"\n'
        '[factors]\npooling = ["max", "avg"]\n'
    )
    url = ("--storage", str(tmp_path / "a.db"), "--json")
    for own, count in ((text, 6), (text.replace("width = 4", "width = 5"), 0)):
        file.write_text(own, encoding="utf-8")
        told = json.loads(command("lint", str(file), *url, cwd=tmp_path).stdout)
        assert told["trials"] == count


def test_hostile_names_steer_no_terminal(tmp_path: Path) -> None:
    url = ("--storage", str(tmp_path / "a.db"))
    made = make_study(
        parse_sheet(Path("a.csv"), "a\x1b[31m,b\u202e,val_acc\n1,x,0.9\n2,y,0.8\n".encode()),
        name="theirs",
    )
    store(made, location.locate(url[1]), "import")
    printed = command("lint", *url, cwd=tmp_path).stdout
    assert "\\x1b[31m" in printed
    assert not any(c in printed for c in "\x1b\u202e")


def test_results_of_ours_and_theirs_are_seen_alike(tmp_path: Path) -> None:
    """What `lint` reads of a trial is what the database holds."""
    text = (FIXTURES / "edge-of-range.csv").read_text(encoding="utf-8")
    made = make_study(parse_sheet(Path("a.csv"), text.encode()), name="theirs")
    store(made, location.locate(str(tmp_path / "a.db")), "import")
    plan, rows = stored_trials(tmp_path / "a.db")
    assert lint(plan, rows) == lint(*results(text))
    assert Case(plan, rows).design == "ablation"
