"""Every mistake of method is found where it is, and nowhere else."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.trials import Trial, connect, studies, trials
from study.importing import make_study, store
from study.lint import CODES, SEVERITIES, lint
from study.lint.context import Context
from study.lint.leads import lead, standard_error
from study.plans import catalog
from study.plans.plan import load_plan
from study.store import location
from tests.support.imports import table_of
from tests.support.linting import FIXTURES, examined, found, of_plan, results, row
from tests.support.plans import run, tiny
from trainer.errors import UserError

Mend = Callable[[str], str]


def replaced(*pairs: tuple[str, str]) -> Mend:
    """Make a mend of replacements, each of which must find something to replace."""

    def mend(text: str) -> str:
        for old, new in pairs:
            assert old in text, old
            text = text.replace(old, new)
        return text

    return mend


def three_seeds(text: str) -> str:
    head, *rows = text.splitlines()
    again = [f"{seed},{row[:-1]}{seed}" for seed in range(3) for row in rows]
    return "\n".join([f"seed,{head}", *again]) + "\n"


def times_batch_size(text: str) -> str:
    head, *rows = text.splitlines()
    cells = [row.split(",") for row in rows]
    mended = [[b, s, a, f"{float(loss) * int(b):.4f}"] for b, s, a, loss in cells]
    return "\n".join([head, *map(",".join, mended)])


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
        "copied-runs.csv",
        "copied-runs",
        ("error", "results"),
        replaced(("1,0.9312,0.2134", "1,0.9307,0.2140"), ("2,0.9312,0.2134", "2,0.9305,0.2151")),
    ),
    (
        "survivors.csv",
        "survivors",
        ("warning", "results"),
        replaced((",,diverged", ",0.93,finished")),
    ),
    ("collapsed-run.csv", "collapsed-run", ("warning", "results"), replaced(("0.100", "0.929"))),
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
    (
        "confounded-nearly.csv",
        "confounded",
        ("warning", "results"),
        lambda text: text + "sgd,0.001,1,0.903\nsgd,0.001,2,0.901\n",
    ),
    (
        "unread-factor.toml",
        "unread-factor",
        ("warning", "factors.momentum"),
        replaced(('"adam"', '"sgd"')),
    ),
    ("loss-scale-apart.csv", "loss-scale", ("error", "results"), times_batch_size),
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
        "variance-as-std-torchvision.csv",
        "variance-as-std",
        ("error", "baseline.normalize"),
        replaced(("0.1246", "0.3530")),
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
    # A fixture has one mistake: what else is graver than a note would be another, or follows.
    follows = {"copied-runs.csv": "single-run", "confounded-nearly.csv": "single-run"}.get(name)
    others = [own for own in findings if own.code not in {code, follows}]
    assert [own for own in others if own.severity != "note"] == []
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
    noted = {name: {own.code for own in of_plan(load_plan(name).to_dict())}
             for name in catalog.names()}  # fmt: skip
    assert noted["lenet"] >= {"variance-as-std", "single-run"}
    assert noted["pooling"] >= {"test-selection", "single-run"}
    assert noted["recipes"] >= {"test-selection", "confounded", "bias-under-batchnorm"}
    assert noted["structure"] >= {"test-selection", "contradicted-claim", "edge-of-range"}
    assert noted["batchnorm-lr"] >= {"test-selection", "no-nonlinearity"}
    assert noted["ablation"] == noted["search"] == noted["baseline"] == set()
    (claim,) = [
        own for own in of_plan(load_plan("structure").to_dict()) if own.code == "contradicted-claim"
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


def test_results_of_ours_and_theirs_are_seen_alike(tmp_path: Path) -> None:
    """What `lint` reads of a trial is what the database holds."""
    text = (FIXTURES / "edge-of-range.csv").read_text(encoding="utf-8")
    made = make_study(table_of(text), name="theirs")
    store(made, location.locate(str(tmp_path / "a.db")), "import")
    plan, rows = stored_trials(tmp_path / "a.db")
    assert lint(plan, rows) == lint(*results(text))
    assert Context(plan, rows).design == "ablation"


# The arithmetic, and anything at all.


def test_the_lead_is_scipy_s_paired_t() -> None:
    from scipy import stats

    a, b = [0.91, 0.93, 0.92, 0.95], [0.90, 0.90, 0.93, 0.91]
    expected = stats.ttest_rel(a, b)
    for comparisons in (1, 6):
        ahead = lead(dict(enumerate(a)), dict(enumerate(b)), comparisons)
        together = expected.confidence_interval(1 - 0.05 / comparisons)
        assert [ahead.low, ahead.high] == pytest.approx(list(together))
    assert standard_error(0.93, 10_000) == pytest.approx(0.00255, abs=1e-5)
    assert lead({0: 0.9}, {1: 0.8}).low is None


@pytest.mark.parametrize("comparisons", [1, 6])
def test_a_lead_is_called_proven_where_the_interval_beside_it_is_above_nothing(
    comparisons: int,
) -> None:
    noise = [0.001, -0.002, 0.0, 0.002, -0.001]
    ahead = [
        lead({s: 0.9 + gain / 1000 + e for s, e in enumerate(noise)}, dict.fromkeys(range(5), 0.9),
             comparisons) for gain in range(6)
    ]  # fmt: skip
    assert [each.is_proven for each in ahead] == [(each.low or 0) > 0 for each in ahead]
    proven = [100 * each.mean for each in ahead if each.is_proven]
    assert min(proven) == pytest.approx(0.2 if comparisons == 1 else 0.4)
    assert not lead({0: 0.95, 1: 0.951}, {0: 0.9, 1: 0.901}).is_proven
    assert not lead({0: 0.95, 1: 0.96}, {0: 0.9, 1: 0.9}).is_proven


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
