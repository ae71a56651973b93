"""The ablation table in its five formats."""

import csv
import io
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, create_trial

from analysis.designs import results
from analysis.documents import FORMATS, render
from analysis.statistics import importance
from analysis.tables.ablation import ablation_table
from analysis.tables.effects import EffectTable
from analysis.tables.search import SearchTable
from analysis.trials import connect, studies, trials
from tests.support.studies import (
    PARETO,
    POOLING,
    SEARCH,
    ablation_trials,
    database,
    plan,
    read,
    searched,
    small_pareto,
    small_search,
    trial,
)

HOSTILE = [
    "a|b",
    r"\input{x}",
    "50% & $5 #1 _x_ ^~",
    "<img src=x onerror=alert(1)>",
    '=1+1,"\x1b[2J',
]


def table(
    folder: Path, rows: Iterable[FrozenTrial], of: dict[str, Any] | None, **more: Any
) -> EffectTable:
    found = results(*read(folder, rows, of, **more)).table
    assert isinstance(found, EffectTable)
    return found


def search(
    folder: Path, rows: Iterable[FrozenTrial], of: dict[str, Any] = SEARCH, **more: Any
) -> SearchTable:
    found = results(*read(folder, rows, of, **more)).table
    assert isinstance(found, SearchTable)
    return found


@pytest.fixture
def pareto(tmp_path: Path) -> SearchTable:
    return search(tmp_path, small_pareto(), PARETO, directions=["maximize", "minimize"])


@pytest.fixture
def pooling(tmp_path: Path) -> EffectTable:
    values = {
        "baseline": [0.900, 0.910, 0.921],
        "pooling=avg": [0.920, 0.931, 0.940],
        "batchnorm=false": [0.890, 0.911],
    }
    return table(tmp_path, ablation_trials(POOLING, values), POOLING | {"subset": 1000})


@pytest.fixture
def hostile(tmp_path: Path) -> EffectTable:
    of = plan({"pooling": ["max", *HOSTILE]}, {"pooling": "max"}, seeds=1)
    rows = [
        trial(of, {"pooling": level} if level != "max" else {}, 0, 0.9)
        for level in ("max", *HOSTILE)
    ]
    return table(tmp_path, rows, of, name=HOSTILE[2])


def test_text(pooling: EffectTable) -> None:
    text = render(pooling, "text")
    assert text.splitlines()[:21] == [
        "test",
        "digits, 1,000 of 1,437 training images, 2 epochs, 3 seeds",
        "trials of 9 planned: 8 finished, 1 missing",
        "",
        "Validation accuracy in %",
        "          n     accuracy           difference      p  verdict",
        "baseline  3  91.03 ±1.05",
        "pooling                                        0.006  matters",
        "  avg     3  93.03 ±1.00  +2.00  [1.05, 2.95]  0.006  better",
        "batchnorm                                      0.546  not proven",
        "  false   2  90.05 ±1.48  -0.47 [-7.46, 6.51]  0.546  too few",
        "",
        "Test accuracy in % (looked at once, never used for a choice), size and seconds",
        "            accuracy           difference  parameters  seconds",
        "baseline 90.03 ±1.05                           50,282     12.5",
        "pooling",
        "  avg    92.03 ±1.00  +2.00  [1.05, 2.95]      50,282     12.5",
        "batchnorm",
        "  false  89.05 ±1.48  -0.47 [-7.46, 6.51]      50,282     12.5",
        "",
        "Difference: level minus the baseline in points of validation accuracy, paired by",
    ]
    assert "all 2 comparisons (Dunnett)" in " ".join(text.split())
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


def test_figures_stand_below_each_other(pooling: EffectTable) -> None:
    lines = render(pooling, "text").splitlines()[6:12]
    points = {line.index("±") for line in lines if "±" in line}
    bounds = {(line.index(","), line.index("]")) for line in lines if "]" in line}
    assert len(points) == len(bounds) == 1


def test_json_is_the_contract(pooling: EffectTable) -> None:
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
    # Seed 2, which only the baseline and pooling=avg have, says something of the seeds.
    assert effect["delta"] == pytest.approx(-0.00475)


def test_csv_holds_fractions_and_a_row_per_level(pooling: EffectTable) -> None:
    baseline, avg, _ = csv.DictReader(io.StringIO(render(pooling, "csv")))

    assert (baseline["factor"], baseline["level"], baseline["delta"]) == ("baseline", "", "")
    assert (avg["factor"], avg["level"], avg["verdict"]) == ("pooling", "avg", "better")
    assert float(avg["val_accuracy_mean"]) == pytest.approx(0.930333, abs=1e-6)


def test_markdown_rows_have_the_columns_of_their_heading(pooling: EffectTable) -> None:
    text = render(pooling, "markdown")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [row.count("|") for row in rows] == [8] * 7 + [7] * 5
    assert r"| pooling | avg | 3 | 93.03 ±1.00 | +2.00 \[1.05, 2.95\] | 0.006 | better |" in rows


def test_latex_uses_nothing_but_booktabs(pooling: EffectTable) -> None:
    text = render(pooling, "latex")
    known = {
        "begin", "end", "centering", "footnotesize", "caption", "par", "medskip", "smallskip",
        "toprule", "midrule", "bottomrule", "raggedright", "pm", "textless", "multicolumn", "quad",
        "setlength", "tabcolsep",
    }  # fmt: skip
    assert set(re.findall(r"\\([a-zA-Z]+)", text)) <= known
    assert set(re.findall(r"\\begin\{(\w+)\}", text)) == {"table", "tabular"}
    assert text.count(r"\begin{") == text.count(r"\end{")
    assert (
        r"""pooling &  &  &  & 0.006 & matters \\
\quad avg & 3 & 93.03 $\pm$1.00 & +2.00 {[}1.05, 2.95{]} & 0.006 & better \\
"""
        in text
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed")
@pytest.mark.parametrize("name", ["pooling", "hostile", "pareto"])
def test_latex_compiles_and_fits_the_page(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    body = render(request.getfixturevalue(name), "latex")
    (tmp_path / "report.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        f"{body}\n\\end{{document}}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
    assert "Overfull" not in found.stdout
    assert "too large" not in found.stdout


@pytest.mark.parametrize("format", FORMATS)
def test_hostile_names_break_no_format(hostile: EffectTable, format: str) -> None:
    text = render(hostile, format)
    assert "\x1b" not in text
    assert len(hostile.effects) == len(HOSTILE)
    match format:
        case "markdown":
            rows = [line for line in text.splitlines() if line.startswith("|")]
            assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {8, 7}
            assert "<" not in text
        case "latex":
            assert r"\textbackslash{}input\{x\}" in text
            assert r"50\% \& \$5 \#1 \_x\_ \textasciicircum{}\textasciitilde{}" in text
            assert len(re.findall(r"(?<!\\)\{", text)) == len(re.findall(r"(?<!\\)\}", text))
        case "csv":
            levels = [row["level"] for row in csv.DictReader(io.StringIO(text))]
            formula = HOSTILE[-1].replace("\x1b", r"\x1b")
            assert levels == ["", *HOSTILE[:-1], f"'{formula}"]  # no spreadsheet computes it
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
    assert effect.claim == word


def test_what_others_are_compared_with_is_a_row_of_its_table(tmp_path: Path) -> None:
    of = plan({}, {"width": 32, "residual": False}) | {
        "variants": [
            {"factor": "width", "level": width, "changes": {"residual": True, "width": width},
             "against": {"residual": True}}
            for width in (32, 16)
        ]
    }  # fmt: skip
    rows = [
        trial(of, changes, seed, value + seed**2 / 100)
        for changes, value in ((({"residual": True}), 0.9), ({"residual": True, "width": 16}, 0.8))
        for seed in range(3)
    ]
    found = table(tmp_path, rows, of)
    text = render(found, "text")

    assert [effect.claim for effect in found.effects] == ["reference", "not proven"]
    assert re.search(r"  32 +3  91.67 ±2.08 +reference\n", text)
    assert "level minus the baseline, or what the plan names instead, in points" in " ".join(
        text.split()
    )
    assert "Reference: the rows of a table are compared with it." in text


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

    start = time.process_time()  # whatever else the machine does
    engine = connect(url)
    (study,) = studies(engine)
    render(results(study, trials(engine, study.id)).table, "text")

    assert study.trial_count == 100
    assert time.process_time() - start < 0.5


def test_one_entry_point_serves_every_design(tmp_path: Path) -> None:
    study, rows = read(tmp_path, [trial(POOLING, {}, 0, 0.9)], POOLING)
    assert results(study, rows).table == ablation_table(study, rows)


def test_a_search_as_text(tmp_path: Path) -> None:
    text = render(search(tmp_path, small_search()), "text")
    assert text.splitlines()[:19] == [
        "test",
        "digits, 1,437 training images, 9 epochs, 3 seeds",
        "trials of 20 planned: 5 finished, 1 failed (1 diverged), 2 pruned, 12 missing",
        "beside them, replicates of the best on further seeds: 4 finished",
        "sampler tpe, pruner hyperband, objectives val_accuracy",
        "epochs: 51 of 72 (71 %); pruning saved 14; 36 more for replicates",
        "",
        "Best candidates in % (test: looked at once, never used for a choice)",
        "rank  candidate  n     accuracy   95 % interval   test  parameters  seconds",
        "   1  #1         3  92.53 ±0.45  [91.41, 93.65]  91.53      50,282     12.5",
        "      optimizer=sgd learning_rate=0.0123 width=48 momentum=0.5",
        "   2  baseline   3  90.03 ±0.55  [88.67, 91.40]  89.03      50,282     12.5",
        "   3  #3         1  95.00                        94.00      50,282     12.5",
        "      width=64",
        "   4  #7         1  91.00                        90.00      50,282     12.5",
        "      optimizer=sgd learning_rate=0.0123 width=20 momentum=0.5",
        "   5  #6         1  88.00                        87.00      50,282     12.5",
        "      width=40",
        "",
    ]
    words = " ".join(text.split())
    assert "Winner's curse: the best of 7 candidates" in words
    assert "#1's 92.53 % may be too high by up to 0.31 points" in words
    assert "On the further 2 seeds, which did not pick it out of the 7, #1 reaches 92.30 %" in words
    assert "among the 2 candidates that were repeated" in words
    assert "5 finished trials are too few to say which parameters matter" in words
    assert "Pareto" not in text


def test_a_search_as_json_keeps_the_contract_and_adds_to_it(tmp_path: Path) -> None:
    found = json.loads(render(search(tmp_path, small_search()), "json"))

    assert (found["study"], found["dataset"], found["effects"]) == ("test", "digits", [])
    assert found["baseline"]["n"] == 3
    assert found["baseline"]["val_accuracy_mean"] == pytest.approx(0.9003, abs=1e-4)
    assert found["baseline"]["test_accuracy_std"] == pytest.approx(0.0055, abs=1e-4)
    assert [own["candidate"] for own in found["candidates"]] == [1, 0, 3, 7, 6]
    best = found["best"]
    assert (best["rank"], best["candidate"], best["variant"]) == (1, 1, "#1")
    assert best["config"]["learning_rate"] == 0.0123456789
    assert best["objectives"] == {"val_accuracy": pytest.approx(0.92533, abs=1e-5)}
    assert found["epochs"] == {
        "per_trial": 9, "spent": 51, "full": 72, "saved_by_pruning": 14, "replicates": 36,
    }  # fmt: skip
    assert found["winners_curse"]["candidates"] == 7
    assert found["winners_curse"]["corrected"] < best["val_accuracy_mean"]
    assert found["importance"]["parameters"] == found["pareto"] == []
    assert (found["planned"], found["missing"]) == (20, 12)
    assert found["replicates"] == {"finished": 4}


def test_a_search_as_csv_has_a_row_per_candidate(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(render(search(tmp_path, small_search()), "csv"))))
    assert [row["candidate"] for row in rows] == ["#1", "baseline", "#3", "#7", "#6"]
    assert rows[0]["changes"].startswith("optimizer=sgd learning_rate=0.0123456789")
    assert float(rows[2]["val_accuracy_mean"]) == 0.95
    assert rows[2]["val_accuracy_low"] == rows[2]["pareto"] == ""


def test_the_baseline_is_shown_below_the_best_ten(tmp_path: Path) -> None:
    own = {"optimizer": "adam", "learning_rate": 3e-3}
    rows = [
        searched(SEARCH, {**own, "width": 32 + number}, number, 0.8 + number / 100)
        for number in range(13)
    ]
    lines = render(search(tmp_path, rows), "text").splitlines()
    shown = [line.split()[:2] for line in lines if re.match(r" +\d+  \S", line)]
    assert len(shown) == 11
    assert shown[0] == ["1", "#12"]
    assert shown[-1] == ["13", "baseline"]


def test_the_front_of_several_objectives_is_a_block(pareto: SearchTable) -> None:
    text = render(pareto, "text")
    assert "Pareto front of accuracy, parameters" in text
    assert re.search(r"1  #1 +1 +93.00 +4,000\n +width=33\n +4  #3 +1 +85.00 +900\n", text)
    assert [own["candidate"] for own in pareto.as_dict()["pareto"]] == [1, 3]
    rows = list(csv.DictReader(io.StringIO(render(pareto, "csv"))))
    assert [row["pareto"] for row in rows] == ["True", "False", "False", "True"]


@pytest.mark.parametrize("format", FORMATS)
def test_importance_is_shown_with_intervals_and_its_warning(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importance, "RESAMPLES", 3)
    monkeypatch.setattr(importance, "FOREST_RESAMPLES", 3)
    rows = []
    for number in range(20):
        params = {"optimizer": "adam", "learning_rate": 1e-3, "width": 10 + number}
        if number % 2:
            params |= {"optimizer": "sgd", "momentum": number / 30}
        rows.append(searched(SEARCH, params, number, 0.8 + number / 200))
    text = render(search(tmp_path, rows), format)
    words = " ".join(text.split())
    if format == "json":
        found = json.loads(text)["importance"]
        assert {"optimizer", "width", "momentum", "learning_rate"} == {
            own["parameter"] for own in found["parameters"]
        }
        assert found["parameters"][0]["ped_anova"].keys() == {"share", "low", "high"}
    elif format != "csv":
        assert "fANOVA" in text
        assert "momentum: not in fANOVA, as not every trial has it." in words
        assert "crowd where it looked, and 20 finished trials are few" in words
    if format == "text":
        assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("format", FORMATS)
def test_a_search_that_has_not_begun(tmp_path: Path, format: str) -> None:
    text = render(search(tmp_path, []), format)
    assert text.endswith("\n")
    assert "NaN" not in text
    if format == "text":
        assert "trials of 20 planned: 20 missing" in text


@pytest.mark.parametrize("format", FORMATS)
def test_hostile_names_break_no_format_of_a_search(tmp_path: Path, format: str) -> None:
    space = {"optimizer": HOSTILE}
    of = SEARCH | {
        "baseline": {"optimizer": "adam"},
        "search": SEARCH["search"] | {"space": space, "sampler": HOSTILE[0]},
    }
    rows = [
        searched(of, {"optimizer": level}, number, 0.9, variant=level)
        for number, level in enumerate(HOSTILE)
    ]
    text = render(search(tmp_path, rows, of, name=HOSTILE[2]), format)
    assert "\x1b" not in text
    match format:
        case "markdown":
            lines = [line for line in text.splitlines() if line.startswith("|")]
            assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {10}
            assert "<" not in text
        case "latex":
            assert len(re.findall(r"(?<!\\)\{", text)) == len(re.findall(r"(?<!\\)\}", text))
            assert r"\textbackslash{}input\{x\}" in text
        case "json":
            assert [own["variant"] for own in json.loads(text)["candidates"]] == HOSTILE


def test_a_study_without_factors_explains_no_comparison(tmp_path: Path) -> None:
    alone = plan({}, {})
    rows = [trial(alone, {}, seed, 0.9) for seed in range(3)]
    text = render(results(*read(tmp_path, rows, alone)).table, "text")
    assert "no factor is varied" in text
    assert "Holm" not in text
