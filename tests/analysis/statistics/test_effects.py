"""Effects: against scipy and by hand, and honest where the data are thin."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from analysis.statistics.effect_sizes import NO_EVIDENCE, evidence
from analysis.statistics.effects import Ablation, ablation, spread_of_differences, summarize
from analysis.statistics.paired import holm, paired_difference
from analysis.statistics.rows import baseline_level, planned_cells, planned_rows
from analysis.trials import connect, trials
from tests.support.studies import POOLING, ablation_trials, database, plan, read, trial

A = {0: 0.912, 1: 0.921, 2: 0.915, 3: 0.908, 4: 0.917}
B = {0: 0.918, 1: 0.925, 2: 0.914, 3: 0.916, 4: 0.924}


def analyse(folder: Path, of: dict[str, Any], rows: Iterable[FrozenTrial]) -> Ablation:
    return ablation(of, read(folder, rows, of)[1])


def test_summary_uses_the_sample_standard_deviation() -> None:
    found = summarize([0.9, 0.92])
    assert found.n == 2
    assert found.mean == pytest.approx(0.91)
    assert found.std == pytest.approx(0.02 / 2**0.5)
    assert (summarize([0.9]).mean, summarize([0.9]).std) == (0.9, None)
    assert (summarize([]).n, summarize([]).mean, summarize([]).std) == (0, None, None)


def test_paired_difference_is_scipys_paired_t() -> None:
    expected = stats.ttest_rel([B[s] for s in A], [A[s] for s in A])
    interval = expected.confidence_interval(0.95)

    found = paired_difference(A, B)

    assert found.paired
    assert found.n == 5
    assert found.delta == pytest.approx(0.0048)
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_only_common_seeds_are_paired() -> None:
    found = paired_difference(A, {seed: B[seed] for seed in (1, 2, 4)} | {9: 0.1})

    assert found == paired_difference({s: A[s] for s in (1, 2, 4)}, {s: B[s] for s in (1, 2, 4)})
    assert found.n == 3


@pytest.mark.parametrize("shift", [4, 10])  # one seed in common, and none
def test_without_pairs_the_difference_is_scipys_welch_t(shift: int) -> None:
    other = {seed + shift: value for seed, value in list(B.items())[:4]}
    expected = stats.ttest_ind(list(other.values()), list(A.values()), equal_var=False)
    interval = expected.confidence_interval(0.95)

    found = paired_difference(A, other)

    assert not found.paired
    assert found.n == 4
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_one_seed_gives_a_difference_without_a_claim() -> None:
    found = paired_difference({0: 0.9}, {0: 0.92})
    assert found.delta == pytest.approx(0.02)
    assert (found.n, found.paired) == (1, True)
    assert (found.low, found.high, found.p_value) == (None, None, None)

    unpaired = paired_difference({0: 0.9}, {1: 0.92, 2: 0.94})
    assert unpaired.delta == pytest.approx(0.03)
    assert (unpaired.paired, unpaired.p_value) == (False, None)

    assert paired_difference({}, {0: 0.9}).delta is None


def test_a_level_that_changes_nothing_has_an_interval_of_zero() -> None:
    found = paired_difference(A, A)
    assert (found.delta, found.low, found.high, found.p_value) == (0, 0, 0, 1)


@pytest.mark.parametrize("shift", [0, 10])
def test_differences_without_spread_prove_nothing(shift: int) -> None:
    # The same shift at every seed, up to the rounding of floats.
    found = paired_difference(
        {0: 0.5, 1: 0.5, 2: 0.5}, {shift: 0.6, shift + 1: 0.6, shift + 2: 0.1 + 0.5}
    )
    assert found.delta == pytest.approx(0.1)
    assert (found.low, found.high, found.p_value) == (None, None, None)


def test_holm_by_hand() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([None]) == [None]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_ordered_and_never_below_the_raw_value(p_values: list[float]) -> None:
    corrected = np.array(holm(p_values), float)
    assert (corrected >= np.array(p_values)).all()
    assert (corrected <= 1).all()
    assert (np.diff(corrected[np.argsort(p_values)]) >= 0).all()
    assert corrected[np.argmin(p_values)] == min(1, len(p_values) * min(p_values))


def test_every_planned_level_has_its_effect_in_plan_order(tmp_path: Path) -> None:
    found = analyse(
        tmp_path,
        POOLING,
        ablation_trials(
            POOLING, {"baseline": [0.9, 0.91, 0.92], "pooling=avg": [0.91, 0.93, 0.93]}
        ),
    )

    assert [(e.factor, e.level, e.n) for e in found.effects] == [
        ("pooling", "avg", 3),
        ("batchnorm", False, 0),
    ]
    pooling, batchnorm = found.effects
    assert found.baseline.n == 3
    assert found.baseline.val_accuracy_mean == pytest.approx(0.91)
    assert found.baseline.val_accuracy_std == pytest.approx(0.01)
    assert found.baseline.test_accuracy_mean == pytest.approx(0.90)
    assert pooling.delta == pytest.approx(0.04 / 3)
    assert pooling.p_value == pytest.approx(0.0572, abs=1e-4)  # a single comparison: paired t
    assert (pooling.p_adjusted, pooling.p_holm) == pytest.approx((pooling.p_value,) * 2)
    assert (pooling.parameters, pooling.seconds, pooling.compared) == (50_282, 12.5, 3)
    assert (batchnorm.delta, batchnorm.p_value, batchnorm.val_accuracy_mean) == (None, None, None)
    assert found.family == 1


def test_trials_that_change_several_factors_are_no_effect_of_one(tmp_path: Path) -> None:
    both = trial(POOLING, {"pooling": "avg", "batchnorm": False}, 0, 0.5)
    found = analyse(tmp_path, POOLING, [trial(POOLING, {}, 0, 0.9), both])

    assert [effect.n for effect in found.effects] == [0, 0]
    assert found.baseline.n == 1


def test_failed_and_pruned_trials_do_not_enter_a_mean(tmp_path: Path) -> None:
    rows = [
        trial(POOLING, {}, 0, 0.9),
        trial(POOLING, {}, 1, None, state=TrialState.FAIL),
        trial(POOLING, {}, 2, 0.5, state=TrialState.PRUNED),
    ]
    found = analyse(tmp_path, POOLING, rows)

    assert (found.baseline.n, found.baseline.val_accuracy_mean) == (1, 0.9)
    assert found.baseline.val_accuracy_std is None


def test_a_factorials_main_effect_is_one_observation_per_seed(tmp_path: Path) -> None:
    of = plan(
        {"pooling": ["avg", "max"], "width": [16, 32]},
        {"pooling": "max", "width": 8},
        design="factorial",
        seeds=3,
    )
    rng = np.random.default_rng(0)
    value = {
        (pooling, width, seed): float(0.9 + rng.normal(0, 0.01))
        for pooling in ("avg", "max")
        for width in (16, 32)
        for seed in (0, 1, 2)
    }
    found = analyse(
        tmp_path,
        of,
        (trial(of, {"pooling": p, "width": w}, s, v) for (p, w, s), v in value.items()),
    )

    assert [(e.factor, e.level) for e in found.effects] == [("pooling", "avg"), ("width", 32)]
    for effect, axis, levels in zip(found.effects, (0, 1), (("max", "avg"), (16, 32)), strict=True):
        reference, level = (
            [
                np.mean([v for key, v in value.items() if (key[axis], key[2]) == (wanted, seed)])
                for seed in (0, 1, 2)
            ]
            for wanted in levels
        )
        expected = stats.ttest_rel(level, reference)
        assert (effect.n, effect.compared, effect.freedom) == (6, 3, 2)
        assert effect.delta == pytest.approx(np.mean(level) - np.mean(reference), abs=1e-12)
        assert effect.p_value == pytest.approx(expected.pvalue, abs=1e-12)
        # Two comparisons with references of their own.
        assert effect.p_adjusted == pytest.approx(1 - (1 - expected.pvalue) ** 2, abs=1e-6)
    assert found.family == 2


def test_a_study_without_a_plan_has_no_effects(tmp_path: Path) -> None:
    found = analyse(tmp_path, {}, [])
    assert found.effects == []
    assert found.baseline.n == 0


def test_planned_cells() -> None:
    assert planned_cells(POOLING) == 3 * 3
    assert planned_cells(POOLING | {"design": "factorial"}) == 4 * 3
    assert planned_cells(POOLING | {"design": "search"}) is None
    assert planned_cells({}) is None
    # The baseline's level need not be among a factor's levels.
    assert planned_cells(plan({"width": [8, 16]}, {"width": 32}, seeds=2)) == 3 * 2


def test_the_reference_of_a_factorial_is_one_of_its_levels() -> None:
    of = plan({"width": [8, 16]}, {"width": 32})
    assert baseline_level(of, "width") == 32
    assert baseline_level(of | {"design": "factorial"}, "width") == 8


LISTED = plan(
    {"width": [16, 32]},
    {"depth": 4, "width": 32, "residual": False, "learning_rate": 1e-2},
    variants=[
        {"factor": "structure", "level": "2 conv", "changes": {"depth": 2}},
        {"factor": "structure", "level": "4 conv", "changes": {"depth": 4}},
        {"factor": "structure", "level": "4 conv + res", "changes": {"residual": True}},
        {
            "factor": "width with residual",
            "level": 32,
            "changes": {"width": 32, "residual": True},
            "against": {"residual": True},
        },
        {
            "factor": "width with residual",
            "level": 16,
            "changes": {"residual": True, "width": 16},
            "against": {"residual": True},
        },
        {"factor": "width again", "level": 16, "changes": {"width": 16, "epochs": 2}},
    ],
)


def test_listed_variants_are_rows_after_the_factors() -> None:
    assert [(row.level, row.changes, row.against) for row in planned_rows(LISTED)] == [
        (16, {"width": 16}, {}),
        ("2 conv", {"depth": 2}, {}),
        ("4 conv", {}, {}),
        ("4 conv + res", {"residual": True}, {}),
        (32, {"residual": True}, {"residual": True}),
        (16, {"residual": True, "width": 16}, {"residual": True}),
        (16, {"width": 16}, {}),
    ]
    assert planned_rows(LISTED | {"design": "factorial"}) == []
    # baseline, width 16, depth 2, residual, residual with width 16
    assert planned_cells(LISTED) == 5 * 3


def test_a_listed_variant_is_compared_with_what_it_names(tmp_path: Path) -> None:
    values: list[tuple[dict[str, Any], list[float]]] = [
        ({}, [0.900, 0.912, 0.921]),
        ({"width": 16}, [0.890, 0.901, 0.911]),
        ({"residual": True}, [0.910, 0.913, 0.930]),
        # As another writer of the database might have ordered it.
        ({"width": 16, "residual": True}, [0.880, 0.871, 0.895]),
    ]
    found = analyse(
        tmp_path,
        LISTED,
        (
            trial(LISTED, changes, seed, value)
            for changes, own in values
            for seed, value in enumerate(own)
        ),
    )

    by_row = {(effect.factor, effect.level): effect for effect in found.effects}
    narrow = by_row["width with residual", 16]
    expected = stats.ttest_rel(values[3][1], values[2][1])
    assert (narrow.n, narrow.compared) == (3, 3)
    assert narrow.delta == pytest.approx(np.mean(values[3][1]) - np.mean(values[2][1]))
    assert narrow.p_value == pytest.approx(expected.pvalue, abs=1e-12)
    reference = by_row["width with residual", 32]
    assert reference.is_reference
    assert (reference.n, reference.delta, reference.p_value) == (3, None, None)
    assert by_row["structure", "2 conv"].n == 0
    # The same comparison in two tables is one hypothesis.
    assert by_row["width", 16].delta == by_row["width again", 16].delta
    assert by_row["width", 16].p_holm == by_row["width again", 16].p_holm
    assert found.family == 3


def test_every_effect_carries_its_evidence(tmp_path: Path) -> None:
    values = {"baseline": [0.9, 0.91, 0.92], "pooling=avg": [0.91, 0.93, 0.93]}
    found = analyse(tmp_path, POOLING, ablation_trials(POOLING, values))

    pooling, batchnorm = found.effects
    baseline, level = (dict(enumerate(own)) for own in values.values())
    assert {name: getattr(pooling, name) for name in vars(NO_EVIDENCE)} == vars(
        evidence(baseline, level)
    )
    assert {name: getattr(batchnorm, name) for name in vars(NO_EVIDENCE)} == vars(NO_EVIDENCE)


def test_the_usual_spread_is_the_median_of_all_comparisons(tmp_path: Path) -> None:
    of = plan({"width": [8, 16, 32, 64]}, {"width": 8})
    values = {
        "baseline": [0.5, 0.5, 0.5],
        "width=16": [0.51, 0.52, 0.53],
        "width=32": [0.52, 0.54, 0.56],
        "width=64": [0.1, 0.9, 0.5],  # fails at times
    }
    url = database(tmp_path, ablation_trials(of, values), of=of)
    known = trials(connect(url), 1)
    # Half of the variances over three seeds lie below log(2) times the true one.
    assert spread_of_differences(of, known) == pytest.approx(0.02 / np.log(2) ** 0.5)
    assert ablation(of, known).spread == spread_of_differences(of, known)


def test_without_pairs_there_is_no_usual_spread(tmp_path: Path) -> None:
    assert analyse(tmp_path, POOLING, [trial(POOLING, {}, 0, 0.9)]).spread is None
