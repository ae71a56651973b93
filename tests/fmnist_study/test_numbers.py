"""The statistics on numbers from elsewhere: those of a study, errors in a line."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import fmnist_study

_WORDS: Any = {"baseline": ["x"]}
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


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fmnist_study.ablation({"a": BASELINE}), "baseline = 'baseline': choose from a"),
        (lambda: fmnist_study.ablation({"baseline": [91.0]}), "give fractions, from 0 to 1"),
        (lambda: fmnist_study.ablation({"baseline": [float("nan")]}), "is no accuracy"),
        (lambda: fmnist_study.ablation(_WORDS), "'x' is no number"),
        (lambda: fmnist_study.factorial([]), "has no factors"),
        (lambda: fmnist_study.factorial([{"width": 1, "seed": 0}]), "lacks 'accuracy'"),
        (lambda: fmnist_study.compare([1, 2], [1]), "is no accuracy"),
    ],
)
def test_what_is_wrong_is_a_user_error(call: Any, words: str) -> None:
    with pytest.raises(fmnist_study.UserError, match=words):
        call()
