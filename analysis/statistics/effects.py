"""From accuracies to effects: how much a level changes the baseline, and how sure that is.

Pure functions. Replicate seeds are paired across variants (same split, same data order), so the
difference of two variants is taken seed by seed, which removes what the seed itself contributes.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from analysis import inference_cost
from analysis.failures import failures, is_diverged
from analysis.quantity import quantity_of
from analysis.statistics.block_design import BlockDesign, Comparison
from analysis.statistics.comparisons import (
    SIMULTANEOUS,
    STRICT,
    Judged,
    judge_ablation,
    judge_factorial,
    judge_strictly,
    nothing_judged,
)
from analysis.statistics.effect_sizes import NO_EVIDENCE, ROUNDING, Evidence, evidence
from analysis.statistics.paired import holm
from analysis.statistics.power import ALPHA
from analysis.statistics.rows import Group, PlannedRow, groups, same
from analysis.trials import Trial, finished, known
from fmnist_common.collapse import collapsed
from fmnist_common.designs import variant_key

BySeed = Mapping[Hashable, float]  # the same of accuracies
# Two pairs leave one degree of freedom: accuracies are counts, and two differences that happen to
# agree would look certain.
FEWEST_PAIRS = 3


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation (n - 1 in the denominator) of `n` values."""

    n: int
    mean: float | None  # None without values
    std: float | None  # None for fewer than two


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the finished trials of one level have in common. Accuracies are fractions."""

    n: int
    failed: int = 0  # further trainings that ended without a result
    diverged: int = 0  # of these
    val_accuracy_mean: float | None
    val_accuracy_std: float | None
    test_accuracy_mean: float | None
    test_accuracy_std: float | None
    test_time_flip: bool = False  # whether any of these figures is of image and mirror image
    parameters: int | None
    seconds: float | None  # mean of the training times
    multiply_adds: int | None  # of the network for one image
    model_bytes: int | None  # of the weights as a file
    latency_ms: float | None  # median over the trials, for one image where it trained
    inference: dict[str, dict[str, dict[str, float]]]  # medians; see `inference_cost.Inference`


@dataclass(frozen=True, kw_only=True)
class Effect(Judged, Evidence, Row):
    """A level of a factor against the baseline's level. Differences are fractions."""

    factor: str
    level: Any
    reference_failed: int = 0  # trainings that failed of what it is compared with
    planned: int | None  # trainings; None: nobody planned any
    test_delta: float | None  # of test accuracy, judged in the same way: it decides nothing
    test_delta_low: float | None
    test_delta_high: float | None
    test_p_adjusted: float | None
    changes: dict[str, Any]  # what differs from the baseline
    against: dict[str, Any]  # the same of what it is compared with; {}: the baseline itself
    decision: str | None = None  # of a study that is run until it is sure; see `sequential`
    decided_at: int | None = None  # seeds at which it was made; None: not yet
    lower_is_better: bool = False  # of the compared figure

    @property
    def gain(self) -> float | None:
        """The difference such that more of it is better."""
        return -self.delta if self.delta is not None and self.lower_is_better else self.delta

    @property
    def is_reference(self) -> bool:
        """Whether the row is only listed because others are compared with it."""
        return same(self.changes, self.against)

    @property
    def claim(self) -> str:
        """What the data prove about the level, in a word.

        A level of which a training failed is never better, nor negligible: its other seeds may be
        the easier ones. For the same reason none is worse than a reference of which one failed.
        """
        if self.n == 0:
            return self._lost()
        if self.is_reference:
            return "reference"
        if self.decision is not None:
            return "not proven" if self.decision == "undecided" else self.decision
        if self.delta == self.delta_low == self.delta_high == 0:
            return "identical"
        return "too few" if self.compared < FEWEST_PAIRS else self._proven()

    def _lost(self) -> str:
        if not self.failed:
            return "not run"
        return "diverged" if self.diverged == self.failed else "failed"

    def _proven(self) -> str:
        sound = not self.failed and not self.reference_failed
        if self.p_negligible is not None and self.p_negligible <= ALPHA and sound:
            return "negligible"
        if self.delta is None or self.p_adjusted is None or self.p_adjusted > ALPHA:
            return "not proven"
        if (self.gain or 0.0) < 0:
            return "not proven" if self.reference_failed else "worse"
        return "failed" if self.failed else "better"


@dataclass(frozen=True)
class FactorTest:
    """Whether any level of a factor differs from its reference: an F test."""

    factor: str
    f: float
    degrees: int
    error_degrees: float
    p_value: float
    p_adjusted: float  # corrected for the number of factors (Holm)


@dataclass(frozen=True)
class Ablation:
    """The baseline, and an effect for every other planned level, in plan order."""

    baseline: Row
    effects: list[Effect]
    family: int  # comparisons that were judged together
    spread: float | None  # usual standard deviation of paired differences, see `spread`
    factors: list[FactorTest]  # of an ablation; in the plan's order
    method: str  # of `comparisons`


def summarize(values: Sequence[float]) -> Moments:
    """Describe values of shape (n,)."""
    n = len(values)
    return Moments(
        n,
        float(np.mean(values)) if n else None,
        float(np.std(values, ddof=1)) if n > 1 else None,
    )


def ablation(plan: Mapping[str, Any], trials: Iterable[Trial], strict: bool = False) -> Ablation:
    """Estimate the effect of every planned level that is not the baseline's.

    `design = "ablation"`: the variant of a row against the baseline, or against the variant that
    the row names, paired by seed. `design = "factorial"`: the main effect, that is the mean of all
    cells of a seed with this level against those with the factor's baseline level, over the same
    levels of the other factors, again paired by seed. A level without a finished trial is there
    with `n = 0`; a plan without factors has no effects. A comparison that is listed in several
    tables counts once in the correction.

    Args:
        plan: of the study; its `negligible` is in points.
        trials: of the study.
        strict: judge every comparison by its own values alone, and correct by Holm.
    """
    trials = list(trials)
    done, lost = finished(trials), failures(plan, trials)
    lower = quantity_of(plan).lower_is_better
    rows = groups(plan, done)
    values = _judged(plan, rows, done, "value", strict)
    test = _judged(plan, rows, done, "test_accuracy", strict)
    method = STRICT if strict else SIMULTANEOUS
    effects = []
    for (row, group, other), (_, failed, failed_there) in zip(
        rows, groups(plan, lost), strict=True
    ):
        pair = _comparison(row)
        more = NO_EVIDENCE
        if not row.is_reference:
            more = evidence(*_samples(plan, group, other), lower_is_better=lower)
        test_judged = test.get(pair, nothing_judged(method))
        effects.append(
            Effect(
                factor=row.factor,
                level=row.level,
                reference_failed=len(failed_there),
                planned=_planned(plan, row),
                test_delta=test_judged.delta,
                test_delta_low=test_judged.delta_low,
                test_delta_high=test_judged.delta_high,
                test_p_adjusted=test_judged.p_adjusted,
                lower_is_better=lower,
                changes=row.changes,
                against=row.against,
                **vars(values.get(pair, nothing_judged(method))),
                **vars(more),
                **columns(list(group.values()), list(failed.values())),
            )
        )
    baseline, failed_baseline = (
        [trial for trial in part if trial.variant is not None and not trial.changes]
        for part in (done, lost)
    )
    return Ablation(
        baseline=Row(**columns(baseline, failed_baseline)),
        effects=effects,
        family=sum(judged.p_adjusted is not None for judged in values.values()),
        spread=spread_of_differences(plan, trials),
        factors=_factor_tests(plan, rows, done, {variant_key(trial.changes) for trial in lost}),
        method=method,
    )


def _comparison(row: PlannedRow) -> Comparison:
    return variant_key(row.changes), variant_key(row.against)


def _judged(
    plan: Mapping[str, Any],
    rows: Sequence[tuple[PlannedRow, Group, Group]],
    done: Sequence[Trial],
    name: str,
    strict: bool,
) -> dict[Comparison, Judged]:
    """Judge the comparisons of a table by one of the trials' figures."""
    negligible = plan.get("negligible") if name == "value" else None
    margin = None if negligible is None else negligible / 100
    samples: dict[Comparison, tuple[BySeed, BySeed]] = {
        _comparison(row): _samples(plan, group, other, name)
        for row, group, other in rows
        if not row.is_reference
    }
    values = values_by_variant(done, name)
    return judge_comparisons(plan.get("design"), samples, values, margin, strict=strict)


def judge_comparisons(
    design: str | None,
    samples: Mapping[Comparison, tuple[BySeed, BySeed]],
    values: Mapping[Hashable, BySeed],
    negligible: float | None,
    *,
    strict: bool,
) -> dict[Comparison, Judged]:
    """Judge comparisons together, by the method that a design asks for.

    Args:
        design: of the study.
        samples: of each comparison, the values of what is compared with, and of the level.
        values: of an ablation, by variant and seed; those in no comparison help to judge it.
        negligible: a difference that would not matter, in the unit of the values.
        strict: judge every comparison by its own values alone, and correct by Holm.
    """
    if strict:
        return judge_strictly(samples, negligible)
    if design == "factorial":
        return judge_factorial(samples, negligible)
    return _judged_without_collapses(samples, values, negligible)


def _judged_without_collapses(
    samples: Mapping[Comparison, tuple[BySeed, BySeed]],
    values: Mapping[Hashable, BySeed],
    negligible: float | None,
) -> dict[Comparison, Judged]:
    """Judge an ablation; a variant with a training that collapsed by its own pairs alone.

    In the model it would shift what is taken for its seed's effect, and so widen the intervals of
    all others. What others are compared with stays in it.
    """
    references = {reference for _, reference in samples}
    odd = {collapse.variant for collapse in collapsed(values)} - references
    sound = [pair for pair in samples if pair[0] not in odd]
    judged = judge_ablation(sound, {name: v for name, v in values.items() if name not in odd},
                            negligible)  # fmt: skip
    return judge_strictly(samples, negligible) | judged if odd else judged


def values_by_variant(done: Iterable[Trial], name: str = "value") -> dict[Hashable, BySeed]:
    """Return what a figure of the trials is, by variant and seed."""
    variants: defaultdict[Hashable, dict[Hashable, float]] = defaultdict(dict)
    for trial in done:
        if trial.variant is not None:
            variants[variant_key(trial.changes)] |= known_values({trial.seed: trial}, name)
    return dict(variants)


def _samples(
    plan: Mapping[str, Any], group: Group, other: Group, name: str = "value"
) -> tuple[BySeed, BySeed]:
    """Return the values of the reference and of the level by seed.

    Of a factorial, each seed's mean over the cells that both have.
    """
    reference: Mapping[Any, float] = known_values(other, name)
    level: Mapping[Any, float] = known_values(group, name)
    if plan.get("design") != "factorial":
        return reference, level
    return per_seed(reference, level)


def per_seed(reference: Mapping[Any, float], level: Mapping[Any, float]) -> tuple[BySeed, BySeed]:
    """Average the cells of a factorial, (other levels, seed), that both have in a seed."""
    cells: defaultdict[Hashable, list[Any]] = defaultdict(list)
    for cell in reference:
        if cell in level:
            _, seed = cell  # the other factors' levels, and the seed
            cells[seed].append(cell)
    reference, level = (
        {seed: float(np.mean([sample[cell] for cell in common])) for seed, common in cells.items()}
        for sample in (reference, level)
    )
    return reference, level


def _factor_tests(
    plan: Mapping[str, Any],
    rows: Sequence[tuple[PlannedRow, Group, Group]],
    done: Sequence[Trial],
    failed: Set[Hashable],
) -> list[FactorTest]:
    """Test each factor; a level that failed or collapsed on a seed is no evidence for it."""
    if plan.get("design") != "ablation":
        return []
    values = values_by_variant(done)
    odd = failed | {collapse.variant for collapse in collapsed(values)}
    compared = [
        row for row, _, _ in rows if not row.is_reference and variant_key(row.changes) not in odd
    ]
    references = {variant_key(row.against) for row in compared}
    values = {
        name: sample for name, sample in values.items() if name not in odd or name in references
    }
    design = BlockDesign([_comparison(row) for row in compared], values)
    tests = {
        factor: test
        for factor in dict.fromkeys(row.factor for row in compared)
        if (test := design.omnibus([_comparison(row) for row in compared if row.factor == factor]))
    }
    corrected = holm([test.p_value for test in tests.values()])
    return [
        FactorTest(factor, **vars(test), p_adjusted=p if p is not None else 1.0)
        for (factor, test), p in zip(tests.items(), corrected, strict=True)
    ]


def _planned(plan: Mapping[str, Any], row: PlannedRow) -> int | None:
    seeds = plan.get("seeds")
    if plan.get("imported") or not isinstance(seeds, int):
        return None
    if plan.get("design") != "factorial":
        return seeds
    others = (len(levels) for name, levels in plan["factors"].items() if name != row.factor)
    return seeds * math.prod(others)


def spread_of_differences(plan: Mapping[str, Any], trials: Iterable[Trial]) -> float | None:
    """Return the usual standard deviation of a plan's paired differences, a fraction.

    What `power.note` asks for. The median over the comparisons, each variance divided by the median
    of chi square over its degrees of freedom: a variant that fails at times and so differs wildly
    does not count for more than another. None without two pairs anywhere, or any spread.
    """
    variances = []
    for row, group, other in groups(plan, finished(trials)):
        if row.is_reference:
            continue
        baseline, level = _samples(plan, group, other)
        seeds = baseline.keys() & level.keys()
        if len(seeds) > 1:
            freedom = len(seeds) - 1
            variance = float(np.var([level[seed] - baseline[seed] for seed in seeds], ddof=1))
            variances.append(variance * freedom / (2 * special.gammaincinv(freedom / 2, 0.5)))
    spread = math.sqrt(np.median(variances)) if variances else 0.0
    return spread if spread > ROUNDING else None


def known_values(trials: Group, name: str = "value") -> BySeed:
    """Return a figure of trials that have it, by what pairs them."""
    values = {key: getattr(trial, name) for key, trial in trials.items()}
    return {
        key: value for key, value in values.items() if value is not None and math.isfinite(value)
    }


def columns(trials: Sequence[Trial], failed: Sequence[Trial] = ()) -> dict[str, Any]:
    """Compute the fields of a `Row` from finished trials, and those that failed beside them."""
    val, test = summarize(known(trials, "value")), summarize(known(trials, "test_accuracy"))
    return {
        "n": val.n,
        "failed": len(failed),
        "diverged": sum(map(is_diverged, failed)),
        "val_accuracy_mean": val.mean,
        "val_accuracy_std": val.std,
        "test_accuracy_mean": test.mean,
        "test_accuracy_std": test.std,
        "test_time_flip": any(trial.test_time_flip for trial in trials),
        "parameters": next(iter(known(trials, "parameters")), None),
        "seconds": inference_cost.typical(trials, "seconds"),
        "multiply_adds": next(iter(known(trials, "multiply_adds")), None),
        "model_bytes": next(iter(known(trials, "model_bytes")), None),
        "latency_ms": inference_cost.typical(trials, "latency_ms"),
        "inference": inference_cost.median(trial.inference for trial in trials),
    }
