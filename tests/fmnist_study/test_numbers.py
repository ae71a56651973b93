"""The statistics on numbers from elsewhere: those of a study, errors in a line."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import fmnist_study

_WORDS: Any = {"baseline": ["x"]}
_TWICE = pd.Series([0.9, 0.8], index=[1, 1])
BASELINE = [0.900, 0.910, 0.905, 0.903]
WIDE = [0.920, 0.931, 0.926, 0.921]


def test_an_ablation_of_arrays_finds_what_differs() -> None:
    deep: dict[int, float] = {0: 0.901, 1: 0.908, 2: 0.906}
    made = fmnist_study.ablation({"baseline": BASELINE, "wide": np.array(WIDE), "deep": deep})
    wide, other = made.effects
    assert (wide["level"], other["level"]) == ("wide", "deep")
    assert wide["delta"] == pytest.approx(np.subtract(WIDE, BASELINE).mean())
    assert wide["delta_low"] > 0
    assert other["delta_low"] < 0 < other["delta_high"]
    assert set(made.frame["level"].dropna()) >= {"wide", "deep"}
    assert "better" in str(made)


def test_two_lists_are_compared_as_scipy_does() -> None:
    made = fmnist_study.compare(BASELINE, WIDE)
    assert made.paired
    assert made.p_value == pytest.approx(stats.ttest_rel(WIDE, BASELINE).pvalue)


def test_a_series_is_paired_by_its_index() -> None:
    baseline = pd.Series([0.90, 0.91, 0.92], index=[7, 8, 9])
    level = pd.Series([0.93, 0.92, 0.912], index=[9, 8, 7])
    made = fmnist_study.compare(baseline, level)
    assert made.p_value == pytest.approx(stats.ttest_rel(level.sort_index(), baseline).pvalue)
    in_order = {"baseline": baseline.to_dict(), "level": level.sort_index().to_dict()}
    for values in ({"baseline": baseline, "level": level}, pd.DataFrame(in_order)):
        assert fmnist_study.ablation(values).effects == fmnist_study.ablation(in_order).effects


def test_seeds_may_have_any_names_that_sort() -> None:
    folds = {
        name: {("fold", number): value for number, value in enumerate(values)}
        for name, values in {"baseline": BASELINE, "wide": WIDE}.items()
    }
    plain = fmnist_study.ablation({"baseline": BASELINE, "wide": WIDE})
    assert fmnist_study.ablation(folds).effects == plain.effects


def runs() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {"width": w, "norm": n, "seed": s, "accuracy": 0.8 + 0.05 * (w == 2) + rng.normal() / 500}
        for w in (1, 2)
        for n in (False, True)
        for s in range(4)
    ]


@pytest.mark.parametrize("kind", [list, pd.DataFrame])
def test_a_factorial_of_records_or_of_a_frame_finds_its_main_effect(kind: Any) -> None:
    width, norm = fmnist_study.factorial(kind(runs())).effects
    assert width["delta"] == pytest.approx(0.05, abs=0.005)
    assert width["delta_low"] > 0
    assert norm["delta_low"] < 0 < norm["delta_high"]


def test_tables_show_themselves_in_a_notebook() -> None:
    shown = fmnist_study.ablation({"baseline": BASELINE, "<b>": WIDE})._repr_html_()
    assert "<table>" in shown
    assert "<svg" in shown
    assert "<b></td>" not in shown
    assert "&lt;b&gt;" in shown


def _run(**changes: Any) -> Any:
    return {"width": 1, "seed": 0, "accuracy": 0.9, **changes}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fmnist_study.ablation({"a": BASELINE}), "baseline = 'baseline': choose from a"),
        (lambda: fmnist_study.ablation({"baseline": [91.0]}), "give fractions, from 0 to 1"),
        (lambda: fmnist_study.ablation({"baseline": [float("nan")]}), "is no accuracy"),
        (lambda: fmnist_study.ablation(_WORDS), "'x' is no number"),
        (lambda: fmnist_study.factorial([]), "has no factors"),
        (lambda: fmnist_study.factorial([{"width": 1, "seed": 0}]), "lacks 'accuracy'"),
        (lambda: fmnist_study.factorial([_run(), _run()]), "1.*same cell as records.0.*seed = 0"),
        (lambda: fmnist_study.factorial([_run(), _run(width=True)]), "1 and True are equal"),
        (lambda: fmnist_study.factorial([_run(width=np.nan)]), "width = nan is no level"),
        (lambda: fmnist_study.factorial([_run(width=[1])]), "is no level"),
        (lambda: fmnist_study.factorial([_run(), _run(seed="1")]), "seeds 0, '1'"),
        (lambda: fmnist_study.factorial(["x"]), "records.0. = 'x': must be a mapping"),
        (lambda: fmnist_study.factorial(pd.DataFrame([_run(width=None)])), "no value in row 0"),
        (lambda: fmnist_study.ablation([BASELINE]), "values: is list"),
        (lambda: fmnist_study.ablation({}), "has no variants"),
        (lambda: fmnist_study.ablation({"baseline": 0.9}), "= 0.9: must be a list"),
        (lambda: fmnist_study.ablation({"baseline": {0.9, 0.8}}), "must be a list"),
        (lambda: fmnist_study.ablation({"baseline": {0: 0.9, "0": 0.9}}), "seeds 0, '0'"),
        (lambda: fmnist_study.ablation({"baseline": {np.nan: 0.9}}), "nan is no seed"),
        (lambda: fmnist_study.ablation({"baseline": _TWICE}), "seed 1 is there twice"),
        (lambda: fmnist_study.ablation(pd.DataFrame([[0.9, 0.8]], columns=["a", "a"])), "'a' is"),
        (lambda: fmnist_study.ablation({"baseline": [0.9]}, negligible=-1), "negligible = -1"),
        (lambda: fmnist_study.compare([1, 2], [1]), "is no accuracy"),
        (lambda: fmnist_study.compare(_WORDS, [0.9]), "'x'. is no number"),
    ],
)
def test_what_is_wrong_is_a_user_error_in_a_line(call: Any, words: str) -> None:
    with pytest.raises(fmnist_study.UserError, match=words) as raised:
        call()
    assert "\n" not in str(raised.value)
