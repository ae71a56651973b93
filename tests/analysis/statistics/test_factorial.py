"""The analysis of variance: against published tables and against statsmodels."""

import csv
import io
import itertools
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from analysis.designs import results
from analysis.documents import FORMATS, render
from analysis.statistics.factorial import (
    HIGHER,
    PAIRWISE,
    REPLICATES,
    UNTESTED,
    Anova,
    Term,
    analyse,
)
from analysis.statistics.factorial_model import SEEDS, WITHIN_SEEDS, Observation
from analysis.tables import variance
from analysis.tables.factorial import FactorialTable
from tests.support.studies import plan, read, trial

# D. C. Montgomery, "Design and Analysis of Experiments": life of a battery in hours by material
# and temperature, four replicates.
BATTERY = {
    ("1", 15): [130, 155, 74, 180], ("1", 70): [34, 40, 80, 75], ("1", 125): [20, 70, 82, 58],
    ("2", 15): [150, 188, 159, 126], ("2", 70): [136, 122, 106, 115], ("2", 125): [25, 70, 58, 45],
    ("3", 15): [138, 110, 168, 160], ("3", 70): [174, 120, 150, 139], ("3", 125): [96, 104, 82, 60],
}  # fmt: skip
# The same: filtration rate of a chemical by temperature A, pressure B, concentration C and
# stirring D, one run per cell, A changing fastest.
FILTRATION = [45, 71, 48, 65, 68, 60, 80, 65, 43, 100, 45, 104, 75, 86, 70, 96]
# The same: yield of vascular grafts by extrusion pressure, six batches of resin as blocks.
GRAFTS = {
    8500: [90.3, 89.2, 98.2, 93.9, 87.4, 97.9],
    8700: [92.5, 89.5, 90.6, 94.7, 87.0, 95.8],
    8900: [85.5, 90.8, 89.6, 86.2, 88.0, 93.4],
    9100: [82.5, 89.5, 85.6, 87.4, 78.9, 90.7],
}


def analysed(factors: Mapping[str, Sequence[Hashable]], runs: Iterable[Observation]) -> Anova:
    found = analyse(factors, list(runs))
    assert isinstance(found, Anova), found
    return found


def squares(found: Anova) -> dict[str, float]:
    return {"".join(term.factors): term.sum_squares for term in found.terms}


def test_the_battery_experiment_as_published() -> None:
    found = analysed(
        {"material": ["1", "2", "3"], "temperature": [15, 70, 125]},
        (
            Observation({"material": m, "temperature": t}, None, value)
            for (m, t), values in BATTERY.items()
            for value in values
        ),
    )
    material, temperature, both = found.terms
    published = [10_683.72, 39_118.72, 9_613.78]
    assert [own.sum_squares for own in found.terms] == pytest.approx(published, abs=0.005)
    assert (found.error.sum_squares, found.total) == pytest.approx((18_230.75, 77_646.97), abs=5e-3)
    assert [own.degrees for own in (*found.terms, found.error)] == [2, 2, 4, 27]
    assert [own.f for own in found.terms] == pytest.approx([7.91, 28.97, 3.56], abs=0.005)
    assert material.p_value == pytest.approx(0.0020, abs=5e-5)
    assert both.p_value == both.p_holm == pytest.approx(0.0186, abs=5e-5)
    assert temperature.eta_squared == pytest.approx(39_118.72 / 77_646.97, abs=1e-6)
    mean_square = 18_230.75 / 27
    assert temperature.omega_squared == pytest.approx(
        (39_118.72 - 2 * mean_square) / (77_646.97 + mean_square), abs=1e-6
    )
    assert (found.balanced, found.error_source, found.blocks) == (True, REPLICATES, 1)
    assert found.higher is found.block is None
    means = {(own.factor, own.level): own.mean for own in found.levels}
    assert means["material", "1"] == pytest.approx(83.17, abs=0.005)
    assert means["temperature", 125] == pytest.approx(64.17, abs=0.005)
    cells = {own.levels: own.mean for own in found.pairs}
    assert cells["3", 70] == pytest.approx(145.75)


def test_the_filtration_experiment_as_published_has_its_error_from_higher_interactions() -> None:
    levels = {name: [-1, 1] for name in "ABCD"}
    runs = (
        Observation(dict(zip("DCBA", own, strict=True)), 0, value)
        for own, value in zip(itertools.product([-1, 1], repeat=4), FILTRATION, strict=True)
    )
    found = analysed(levels, runs)
    published = {
        "A": 1870.56, "B": 39.06, "C": 390.06, "D": 855.56, "AB": 0.06, "AC": 1314.06,
        "AD": 1105.56, "BC": 22.56, "BD": 0.56, "CD": 5.06,
    }  # fmt: skip
    assert squares(found) == pytest.approx(published, abs=0.005)
    # ABC 14.06, ABD 68.06, ACD 10.56, BCD 27.56, ABCD 7.56
    assert found.error.sum_squares == pytest.approx(127.81, abs=0.02)
    assert found.error.degrees == 5
    assert found.error_source == HIGHER
    effects = {own.factor: own.difference for own in found.levels if own.level == 1}
    published_effects = {"A": 21.625, "B": 3.125, "C": 9.875, "D": 14.625}
    assert effects == pytest.approx(published_effects)


def test_the_graft_experiment_as_published_has_blocks() -> None:
    runs = [
        Observation({"pressure": pressure}, batch, value)
        for pressure, values in GRAFTS.items()
        for batch, value in enumerate(values)
    ]
    found = analysed({"pressure": list(GRAFTS)}, runs)
    assert squares(found)["pressure"] == pytest.approx(178.17, abs=0.005)
    assert found.block is not None
    assert found.block.sum_squares == pytest.approx(192.25, abs=0.005)
    assert found.error.sum_squares == pytest.approx(109.89, abs=0.005)
    assert found.error.degrees == 15
    assert found.terms[0].f == pytest.approx(8.11, abs=0.005)
    assert found.terms[0].p_value == pytest.approx(0.0019, abs=5e-5)
    assert found.blocks == 6


LEVELS: dict[str, list[Any]] = {
    "batchnorm": [False, True], "dropout": [0.0, 0.2], "pooling": ["avg", "max"],
    "batch_size": [128, 32, 64],
}  # fmt: skip


def cells(seeds: int = 1, seed: int = 5) -> list[Observation]:
    """Runs of the 24 cells of the plan `pooling`."""
    rng = np.random.default_rng(seed)
    return [
        Observation(
            dict(zip(LEVELS, own, strict=True)),
            block,
            0.92 + 0.002 * own[0] + 0.001 * (own[2] == "avg") * own[1] + rng.normal(0, 0.002),
        )
        for own in itertools.product(*LEVELS.values())
        for block in range(seeds)
    ]


def theirs(runs: Sequence[Observation], formula: str) -> Any:
    rows = [{**run.levels, "block": run.block, "y": run.value} for run in runs]
    return ols(formula, pd.DataFrame(rows)).fit()


PAIRS = (
    "y ~ (C(batchnorm, Sum) + C(dropout, Sum) + C(pooling, Sum)"
    " + C(batch_size, Sum, levels=[128, 32, 64]))**2"
)


def of(table: Any, term: Term, *more: str) -> Any:
    """Row of statsmodels' table for a term, whose names are `C(a, Sum):C(b, Sum)`."""
    factors = [
        tuple(part.split(",")[0].split(")")[0] for part in name.split("C(")[1:])
        for name in table.index
    ]
    return table.iloc[factors.index((*term.factors, *more))]


@pytest.mark.parametrize("missing", [0, 3])
def test_24_cells_are_analysed_as_by_statsmodels(missing: int) -> None:
    runs = cells()[missing:]
    found = analysed(LEVELS, runs)
    model = theirs(runs, PAIRS)
    table = anova_lm(model, typ=2)
    for term in found.terms:
        row = of(table, term)
        assert term.sum_squares == pytest.approx(row["sum_sq"], rel=1e-8)
        assert term.degrees == row["df"]
        assert term.f == pytest.approx(row["F"], rel=1e-8)
        assert term.p_value == pytest.approx(row["PR(>F)"], rel=1e-8)
    assert found.error.sum_squares == pytest.approx(model.ssr, rel=1e-8)
    assert found.error.degrees == model.df_resid == 9 - missing
    assert found.balanced == (missing == 0)
    # Main effects: statsmodels' coefficients are deviations of all levels but the last.
    intervals = model.conf_int()
    mine = {(own.factor, str(own.level)): own for own in found.levels}
    compared = 0
    for name, value in model.params.items():
        if ":" not in name and "[S." in name:
            factor, level = name.split("(")[1].split(",")[0], name.split("[S.")[1].rstrip("]")
            own = mine[factor, level]
            assert own.deviation == pytest.approx(value, abs=1e-8)
            assert (own.low, own.high) == pytest.approx(tuple(intervals.loc[name]), abs=1e-8)
            compared += 1
    assert compared == 5
    assert found.mean == pytest.approx(model.params["Intercept"], abs=1e-8)


def test_a_term_is_judged_between_seeds_or_within_them_whichever_proves_less() -> None:
    runs = cells(seeds=3)
    found = analysed(LEVELS, runs)
    full = anova_lm(
        theirs(
            runs, "y ~ C(batchnorm) * C(dropout) * C(pooling) * C(batch_size) + C(block)"
        ),
        typ=2,
    )  # fmt: skip
    for term in found.terms:
        row = of(full, term)
        assert term.sum_squares == pytest.approx(row["sum_sq"], rel=1e-8)
    strata = theirs(
        runs,
        "y ~ (C(batchnorm) + C(dropout) + C(pooling) + C(batch_size)) ** 2 * C(block)",
    )
    between = anova_lm(strata, typ=2)
    seeds = between[["block" in name and ":" in name for name in between.index]]
    assert (full.loc["Residual", "df"], seeds["df"].sum()) == (46, 28)
    within = full.loc["Residual", "sum_sq"] - seeds["sum_sq"].sum()
    for term in found.terms:
        row, error = of(between, term), of(between, term, "block")
        by_seeds = (row["sum_sq"] / row["df"]) / (error["sum_sq"] / error["df"])
        by_runs = (row["sum_sq"] / row["df"]) / (within / 18)
        p_seeds = stats.f.sf(by_seeds, row["df"], error["df"])
        p_runs = stats.f.sf(by_runs, row["df"], 18)
        assert term.f == pytest.approx(by_seeds if p_seeds > p_runs else by_runs, rel=1e-8)
        assert (term.error_source, term.error_degrees) == (
            (SEEDS, 2 * term.degrees) if p_seeds > p_runs else (WITHIN_SEEDS, 18)
        )
        assert term.p_value == pytest.approx(max(p_seeds, p_runs), rel=1e-8)
    assert {term.error_source for term in found.terms} == {SEEDS, WITHIN_SEEDS}
    assert found.block is not None
    assert found.block.sum_squares == pytest.approx(full.loc["C(block)", "sum_sq"], rel=1e-8)
    assert found.error.sum_squares == pytest.approx(full.loc["Residual", "sum_sq"], rel=1e-8)
    assert found.error.degrees == full.loc["Residual", "df"] == 46
    assert found.higher is not None
    higher = full[[name.count(":") > 1 for name in full.index]]
    assert found.higher.sum_squares == pytest.approx(higher["sum_sq"].sum(), rel=1e-8)
    assert found.higher.degrees == higher["df"].sum() == 9
    assert (found.error_source, found.blocks) == (REPLICATES, 3)


def test_seeds_that_agree_on_less_than_the_scatter_of_runs_prove_no_interaction() -> None:
    rng = np.random.default_rng(0)
    names = ["a", "b", "c"]
    runs = []
    for seed in range(3):
        noise = rng.normal(0, 0.002, (2, 2, 2))
        # What a and b do together is the same for every seed, by chance, and next to nothing.
        both = np.array([[1.0, -1.0], [-1.0, 1.0]])[:, :, None]
        noise -= both * (noise * both).mean() + both * (0.0002 + 1e-6 * seed)
        runs += [
            Observation(dict(zip(names, place, strict=True)), seed, 0.9 + float(noise[place]))
            for place in np.ndindex(2, 2, 2)
        ]
    found = analysed({name: [0, 1] for name in names}, runs)
    pair = next(term for term in found.terms if term.factors == ("a", "b"))
    assert pair.error_source == WITHIN_SEEDS
    assert pair.p_holm is not None
    assert pair.p_holm > 0.9
    # Where every term is judged so, the page says so, too.
    (note, *_) = variance.notes(replace(found, terms=[pair]))
    assert "against what is left within seeds" in note


def test_a_seed_that_few_cells_have_is_a_block_too() -> None:
    runs = [run for run in cells(seeds=3) if run.block != 2] + cells(seeds=3)[2:20:3]
    found = analysed(LEVELS, runs)
    full = theirs(runs, "y ~ C(batchnorm) * C(dropout) * C(pooling) * C(batch_size) + C(block)")
    assert found.error.sum_squares == pytest.approx(full.ssr, rel=1e-8)
    assert found.error.degrees == full.df_resid == 48 + 6 - 24 - 2
    assert (found.balanced, found.blocks) == (False, 3)


@settings(deadline=None)  # a machine may be busy
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_the_parts_of_a_balanced_design_add_up(seed: int, seeds: int) -> None:
    found = analysed(LEVELS, cells(seeds, seed))
    parts = [*found.terms, found.error, *filter(None, (found.block, found.higher))]
    assert sum(own.sum_squares for own in parts) == pytest.approx(found.total, rel=1e-9)
    assert sum(own.eta_squared for own in parts) == pytest.approx(1)
    assert sum(own.degrees for own in parts) == 24 * seeds - 1
    for factor in LEVELS:
        own = [level for level in found.levels if level.factor == factor]
        assert sum(level.deviation for level in own) == pytest.approx(0, abs=1e-12)
        assert own[0].difference == 0


def test_two_factors_run_once_are_judged_by_their_interaction() -> None:
    rng = np.random.default_rng(0)
    runs = [Observation({"a": a, "b": b}, 0, rng.normal(a)) for a in range(3) for b in range(4)]
    found = analysed({"a": [0, 1, 2], "b": [0, 1, 2, 3]}, runs)
    assert [own.factors for own in found.terms] == [("a",), ("b",)]
    assert (found.error_source, found.error.degrees) == (PAIRWISE, 6)
    assert list(found.left_out) == ["a × b"]
    assert found.pairs == []


def test_a_pair_that_never_ran_together_is_left_out() -> None:
    runs = [run for run in cells(2) if not (run.levels["batchnorm"] and run.levels["dropout"])]
    found = analysed(LEVELS, runs)
    assert found.left_out == {"batchnorm × dropout": "some of their levels were never run together"}
    assert ("batchnorm", "dropout") not in [own.factors for own in found.terms]
    assert len(found.terms) == 4 + 5
    once = analysed(LEVELS, [run for run in runs if run.block == 0])
    assert once.error_source == UNTESTED


@pytest.mark.parametrize(
    ("runs", "why"),
    [
        ([], "no factor has results of two levels"),
        (cells()[:1], "no factor has results of two levels"),
        ([cells()[0], cells()[-1]], "the cells that are there cannot tell the factors apart"),
        (
            [Observation({**run.levels, "batch_size": 128}, 0, 0.9) for run in cells()[::3]],
            "the runs differ in nothing but the factors, so there is no error to judge them by",
        ),
    ],
)
def test_why_there_is_no_analysis(runs: list[Observation], why: str) -> None:
    assert analyse(LEVELS, runs) == why


def test_a_single_run_per_level_of_one_factor_has_no_error() -> None:
    runs = [Observation({"a": level}, 0, level) for level in (1, 2, 3)]
    assert analyse({"a": [1, 2, 3]}, runs) == (
        "there are no more runs than effects, so nothing to judge them by"
    )


OF = plan(
    {"batchnorm": [True, False], "dropout": [0.2, 0.0], "pooling": ["max", "avg"],
     "batch_size": [32, 64, 128]},
    {"batchnorm": False, "dropout": 0.0, "pooling": "avg", "batch_size": 128},
    design="factorial",
)  # fmt: skip


def report(folder: Path, runs: Iterable[Observation], own: dict[str, Any] = OF) -> FactorialTable:
    rows = [
        trial(
            own,
            {name: level for name, level in run.levels.items() if level != own["baseline"][name]},
            int(str(run.block)),
            run.value,
        )
        for run in runs
    ]
    found = results(*read(folder, rows, own)).table
    assert isinstance(found, FactorialTable)
    return found


def test_a_report_analyses_a_factorial_study(tmp_path: Path) -> None:
    runs = [replace(run, block=seed) for seed, run in enumerate(cells())]  # each of its own
    found = report(tmp_path, runs)
    assert found.anova == analysed(LEVELS, runs)
    text = render(found, "text")
    assert max(map(len, text.splitlines())) <= 80
    start = text.index("What explains the variance")
    lines = text[start:].splitlines()
    assert lines[1].split() == ["source", "share", "df", "F", "p", "verdict"]
    assert lines[2].startswith("batchnorm ")
    assert lines[12].split()[0] == "error"
    assert "No cell was run twice" in text
    own = json.loads(render(found, "json"))
    assert own["anova"]["terms"][4]["name"] == "batchnorm × dropout"
    assert len(own["main_effects"]) == 9
    assert {"factors", "levels", "deviation", "low", "high"} <= own["interactions"][0].keys()
    rows = list(csv.DictReader(io.StringIO(render(found, "csv"))))
    line = next(row for row in rows if row["level"] == "batchnorm × dropout")
    assert float(line["sum_squares"]) == pytest.approx(found.anova.terms[4].sum_squares)
    assert "batchnorm $\\times$ dropout" in render(found, "latex")


def test_what_one_seed_does_with_a_factor_is_not_taken_for_what_the_factor_does(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(0, 0.003, (2, 2))  # no factor does anything but in this seed
    runs = [
        replace(
            run,
            value=0.9
            + float(own[int(run.levels["batchnorm"] is True), int(run.levels["pooling"] == "max")])
            + rng.normal(0, 0.001),
        )
        for run in cells()
    ]
    assert "matters" in [variance.verdict(term) for term in analysed(LEVELS, runs).terms]
    found = report(tmp_path, runs)
    assert isinstance(found.anova, Anova)
    assert {variance.verdict(term) for term in found.anova.terms} == {"not proven"}
    assert {term.p_holm for term in found.anova.terms} == {None}
    text = render(found, "text")
    assert "all runs share one seed" in text
    assert "No interaction is proven" not in text
    assert "Proven interaction" not in text


def test_a_proven_interaction_is_spelled_out(tmp_path: Path) -> None:
    runs = [
        Observation(
            run.levels,
            run.block,
            run.value + 0.05 * (run.levels["batchnorm"] == (run.levels["pooling"] == "avg")),
        )
        for run in cells(2)
    ]
    text = render(report(tmp_path, runs), "text")
    assert "Proven interactions" in text
    assert "batchnorm × pooling\n  false, avg 12" in text
    assert "No interaction is proven" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_an_unfinished_factorial_says_what_is_missing(tmp_path: Path) -> None:
    found = report(tmp_path, cells()[:1])
    assert found.anova == "no factor has results of two levels"
    assert "No analysis of variance: no factor has results of two levels." in render(found, "text")
    assert found.as_dict()["anova"] is None
    (tmp_path / "more").mkdir()
    assert "Not balanced" in render(report(tmp_path / "more", cells()[3:]), "text")


@pytest.mark.parametrize("format", FORMATS)
def test_factors_and_levels_may_have_any_name(tmp_path: Path, format: str) -> None:
    hostile: dict[str, list[Any]] = {
        "C(x) + 1": ["a|b", "<img>"],
        "f0": [r"\input{x}", "\x1b[2J"],
        "y": [1, 2, 3],
    }
    own = plan(hostile, {name: levels[0] for name, levels in hostile.items()}, design="factorial")
    rng = np.random.default_rng(0)
    runs = [
        Observation(dict(zip(hostile, levels, strict=True)), seed, rng.uniform(0.8, 0.9))
        for levels in itertools.product(*hostile.values())
        for seed in range(2)
    ]
    found = report(tmp_path, runs, own)
    assert isinstance(found.anova, Anova)
    assert [term.factors for term in found.anova.terms][:3] == [("C(x) + 1",), ("f0",), ("y",)]
    text = render(found, format)
    assert "\x1b" not in text
    assert format != "markdown" or "<img>" not in text
