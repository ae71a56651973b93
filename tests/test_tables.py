"""The ablation table in its five formats."""

import csv
import io
import json
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, create_trial

from analysis.tables import FORMATS, Table, ablation_table, render, verdict
from analysis.trials import connect, studies, trials
from tests.studies import POOLING, ablation_trials, database, plan, trial

HOSTILE = [
    "a|b",
    r"\input{x}",
    "50% & $5 #1 _x_ ^~",
    "<img src=x onerror=alert(1)>",
    '=1+1,"\x1b[2J',
]


def table(
    folder: Path, rows: Iterable[FrozenTrial], of: dict[str, Any] | None, **more: Any
) -> Table:
    engine = connect(database(folder, rows, of=of, **more))
    (study,) = studies(engine)
    return ablation_table(study, trials(engine, study.id))


@pytest.fixture
def pooling(tmp_path: Path) -> Table:
    values = {
        "baseline": [0.900, 0.910, 0.921],
        "pooling=avg": [0.920, 0.931, 0.940],
        "batchnorm=false": [0.890, 0.911],
    }
    return table(tmp_path, ablation_trials(POOLING, values), POOLING | {"subset": 1000})


@pytest.fixture
def hostile(tmp_path: Path) -> Table:
    of = plan({"pooling": ["max", *HOSTILE]}, {"pooling": "max"}, seeds=1)
    rows = [
        trial(of, {"pooling": level} if level != "max" else {}, 0, 0.9)
        for level in ("max", *HOSTILE)
    ]
    return table(tmp_path, rows, of, name=HOSTILE[2])


def test_text(pooling: Table) -> None:
    text = render(pooling, "text")
    assert text.splitlines()[:21] == [
        "test",
        "digits, 1,000 of 1,437 training images, 2 epochs, 3 seeds",
        "trials of 9 planned: 8 finished, 1 missing",
        "",
        "Validation accuracy in %",
        "         n     accuracy           difference      p  verdict",
        "baseline 3  91.03 ±1.05",
        "pooling",
        "  avg    3  93.03 ±1.00  +2.00  [1.75, 2.25]  0.002  better",
        "batchnorm",
        "  false  2  90.05 ±1.48  -0.45 [-7.44, 6.54]  0.563  too few",
        "",
        "Test accuracy in % (looked at once, never used for a choice), size and seconds",
        "            accuracy  parameters  seconds",
        "baseline 90.03 ±1.05      50,282     12.5",
        "pooling",
        "  avg    92.03 ±1.00      50,282     12.5",
        "batchnorm",
        "  false  89.05 ±1.48      50,282     12.5",
        "",
        "Difference: level minus the baseline in points of validation accuracy, paired by",
    ]
    assert "Holm for all 2 comparisons" in text
    assert "fewer than 3 pairs" in text
    # sqrt(0.9003 * 0.0997 / 360)
    assert "one test of 360 images at 90.0 % has a binomial standard error of" in text
    assert "1.58 points" in text


def test_text_fits_80_columns_with_the_longest_usual_names(tmp_path: Path) -> None:
    levels = ["none", "flip+erase+translate", "flip+erase+translate+crop+rotate"]
    of = plan({"augmentation": levels}, {"augmentation": "none"}, seeds=2)
    values = {
        "baseline": [0.9, 0.91],
        "augmentation=flip+erase+translate": [0.2, 0.8],
        "augmentation=flip+erase+translate+crop+rotate": [0.7, 0.1],
    }
    lines = render(table(tmp_path, ablation_trials(of, values), of), "text").splitlines()

    assert max(map(len, lines)) <= 80
    # Too long to stand before its figures: they follow on the next line.
    assert "  flip+erase+translate+crop+rotate" in lines


def test_figures_stand_below_each_other(pooling: Table) -> None:
    lines = render(pooling, "text").splitlines()[6:11]
    points = {line.index("±") for line in lines if "±" in line}
    bounds = {(line.index(","), line.index("]")) for line in lines if "]" in line}
    assert len(points) == len(bounds) == 1


def test_json_is_the_contract(pooling: Table) -> None:
    found = json.loads(render(pooling, "json"))

    assert {"study", "dataset", "baseline", "effects"} <= found.keys()
    assert (found["study"], found["dataset"]) == ("test", "digits")
    baseline = {
        "n",
        "val_accuracy_mean",
        "val_accuracy_std",
        "test_accuracy_mean",
        "test_accuracy_std",
    }
    assert baseline <= found["baseline"].keys()
    effect = found["effects"][1]
    contract = {
        "factor", "level", "n", "val_accuracy_mean", "val_accuracy_std", "delta", "delta_low",
        "delta_high", "p_value", "p_holm", "test_accuracy_mean", "parameters", "seconds",
    }  # fmt: skip
    assert contract <= effect.keys()
    assert (effect["factor"], effect["level"], effect["n"]) == ("batchnorm", False, 2)
    assert found["baseline"]["val_accuracy_mean"] == pytest.approx(0.910333, abs=1e-6)
    assert effect["delta"] == pytest.approx(-0.0045)


def test_csv_holds_fractions_and_a_row_per_level(pooling: Table) -> None:
    baseline, avg, _ = csv.DictReader(io.StringIO(render(pooling, "csv")))

    assert (baseline["factor"], baseline["level"], baseline["delta"]) == ("baseline", "", "")
    assert (avg["factor"], avg["level"], avg["verdict"]) == ("pooling", "avg", "better")
    assert float(avg["val_accuracy_mean"]) == pytest.approx(0.930333, abs=1e-6)


def test_markdown_rows_have_the_columns_of_their_heading(pooling: Table) -> None:
    text = render(pooling, "markdown")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [row.count("|") for row in rows] == [8] * 5 + [6] * 5
    assert r"| pooling | avg | 3 | 93.03 ±1.00 | +2.00 \[1.75, 2.25\] | 0.002 | better |" in rows


def test_latex_uses_nothing_but_booktabs(pooling: Table) -> None:
    text = render(pooling, "latex")
    known = {
        "begin", "end", "centering", "footnotesize", "caption", "par", "medskip", "smallskip",
        "toprule", "midrule", "bottomrule", "raggedright", "pm", "textless",
    }  # fmt: skip
    assert set(re.findall(r"\\([a-zA-Z]+)", text)) <= known
    assert set(re.findall(r"\\begin\{(\w+)\}", text)) == {"table", "tabular"}
    assert text.count(r"\begin{") == text.count(r"\end{")
    assert (
        r"pooling & avg & 3 & 93.03 $\pm$1.00 & +2.00 {[}1.75, 2.25{]} & 0.002 & better \\" in text
    )


@pytest.mark.parametrize("format", FORMATS)
def test_hostile_names_break_no_format(hostile: Table, format: str) -> None:
    text = render(hostile, format)
    assert "\x1b" not in text
    assert len(hostile.effects) == len(HOSTILE)
    match format:
        case "markdown":
            rows = [line for line in text.splitlines() if line.startswith("|")]
            assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {8, 6}
            assert "<" not in text
        case "latex":
            assert r"\textbackslash{}input\{x\}" in text
            assert r"50\% \& \$5 \#1 \_x\_ \textasciicircum{}\textasciitilde{}" in text
            assert len(re.findall(r"(?<!\\)\{", text)) == len(re.findall(r"(?<!\\)\}", text))
        case "csv":
            levels = [row["level"] for row in csv.DictReader(io.StringIO(text))]
            assert levels == ["", *HOSTILE[:-1], HOSTILE[-1].replace("\x1b", r"\x1b")]
        case "json":
            assert [effect["level"] for effect in json.loads(text)["effects"]] == HOSTILE


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"baseline": [0.90, 0.91, 0.92], "pooling=avg": [0.95, 0.96, 0.971]}, "better"),
        ({"baseline": [0.90, 0.91, 0.92], "pooling=avg": [0.80, 0.81, 0.821]}, "worse"),
        ({"baseline": [0.90, 0.91, 0.92], "pooling=avg": [0.95, 0.90, 0.92]}, "not proven"),
        ({"baseline": [0.90, 0.91, 0.92], "pooling=avg": [0.90, 0.91, 0.92]}, "identical"),
        # Two seeds that agree by chance: p < 0.001, and still no claim.
        ({"baseline": [0.90, 0.91], "pooling=avg": [0.92, 0.93001]}, "too few"),
        ({"baseline": [0.90, 0.91], "pooling=avg": [0.92]}, "too few"),
        ({"baseline": [0.90, 0.91, 0.92]}, "not run"),
    ],
)
def test_verdicts(tmp_path: Path, values: dict[str, list[float]], word: str) -> None:
    of = plan({"pooling": ["max", "avg"]}, {"pooling": "max"})
    (effect,) = table(tmp_path, ablation_trials(of, values), of).effects
    assert verdict(effect) == word


def test_unpaired_differences_are_marked(tmp_path: Path) -> None:
    of = plan({"pooling": ["max", "avg"]}, {"pooling": "max"})
    rows = [trial(of, {}, seed, 0.9 + seed / 100) for seed in range(3)]
    rows += [trial(of, {"pooling": "avg"}, seed, 0.9 + seed / 99) for seed in range(3, 6)]
    text = render(table(tmp_path, rows, of), "text")
    assert "] *" in text
    assert "* Not paired" in text


@pytest.mark.parametrize("format", FORMATS)
def test_a_study_of_another_tool_says_that_it_has_no_plan(tmp_path: Path, format: str) -> None:
    found = table(tmp_path, [create_trial(value=0.5)], None)
    assert found.effects == []
    assert format == "csv" or "no plan" in render(found, format)


@pytest.mark.parametrize("format", FORMATS)
def test_a_study_that_has_not_begun_shows_its_plan(tmp_path: Path, format: str) -> None:
    text = render(table(tmp_path, [], POOLING), format)
    assert text.endswith("\n")
    assert "avg" in text
    assert "NaN" not in text
    assert format == "latex" or "not run" in text


def test_a_hundred_trials_are_read_and_shown_well_under_a_second(tmp_path: Path) -> None:
    levels = list(range(20))
    of = plan({"width": levels}, {"width": 0}, seeds=5, epochs=20)
    epochs = dict.fromkeys(range(1, 21), 0.9)
    history = [{"epoch": epoch, "val_accuracy": 0.9, "val_loss": 0.3} for epoch in epochs]
    rows = (
        trial(of, {"width": level} if level else {}, seed, 0.9 + seed / 1000 + level / 999,
              intermediate=epochs, history=history)
        for level in levels
        for seed in range(5)
    )  # fmt: skip
    url = database(tmp_path, rows, of=of)

    start = time.perf_counter()
    engine = connect(url)
    (study,) = studies(engine)
    render(ablation_table(study, trials(engine, study.id)), "text")

    assert study.trial_count == 100
    assert time.perf_counter() - start < 0.5
