"""From accuracies to effects: how much a level changes the baseline, and how sure that is.

Pure functions. Replicate seeds are paired across variants (same split, same data order), so the
difference of two variants is taken seed by seed, which removes what the seed itself contributes.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from analysis import inference_cost
from analysis.failures import failures, is_diverged
from analysis.statistics.effect_sizes import NO_EVIDENCE, ROUNDING, Condition, Evidence, evidence
from analysis.statistics.power import CONFIDENCE
from analysis.trials import Trial, finished, known
from fmnist_common.designs import VariantKey, variant_key

Group = Mapping[Hashable, Trial]  # trials by the condition that pairs them across variants
Values = Mapping[Hashable, float]  # the same of validation accuracies


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation (n - 1 in the denominator) of `n` values."""

    n: int
    mean: float | None  # None without values
    std: float | None  # None for fewer than two


@dataclass(frozen=True)
class Difference:
    """Level minus baseline, with its 95 % interval."""

    n: int  # pairs; if not paired, the size of the smaller sample
    delta: float | None
    low: float | None
    high: float | None
    p_value: float | None  # two-sided, of no difference
    paired: bool


NO_DIFFERENCE = Difference(0, None, None, None, None, paired=True)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the finished trials of one level have in common. Accuracies are fractions."""

    n: int
    failed: int = 0  # further seeds, or cells, that were trained and have no result
    diverged: int = 0  # of these
    val_accuracy_mean: float | None
    val_accuracy_std: float | None
    test_accuracy_mean: float | None
    test_accuracy_std: float | None
    parameters: int | None
    seconds: float | None  # mean of the training times
    multiply_adds: int | None  # of the network for one image
    model_bytes: int | None  # of the weights as a file
    latency_ms: float | None  # median over the trials, for one image where it trained
    inference: dict[str, dict[str, dict[str, float]]]  # medians; see `inference_cost.Inference`


@dataclass(frozen=True, kw_only=True)
class Effect(Evidence, Row):
    """A level of a factor against the baseline's level. Differences are fractions."""

    factor: str
    level: Any
    delta: float | None
    delta_low: float | None
    delta_high: float | None
    p_value: float | None
    p_holm: float | None
    paired: bool
    compared: int  # pairs behind the difference; if not paired, the size of the smaller sample
    changes: dict[str, Any]  # what differs from the baseline
    against: dict[str, Any]  # the same of what it is compared with; {}: the baseline itself
    reference_failed: int = 0  # seeds, or cells, that failed of what it is compared with

    @property
    def is_reference(self) -> bool:
        """Whether the row is only listed because others are compared with it."""
        return same(self.changes, self.against)


@dataclass(frozen=True)
class Ablation:
    """The baseline, and an effect for every other planned level, in plan order."""

    baseline: Row
    effects: list[Effect]
    family: int  # p-values that were corrected together
    spread: float | None  # usual standard deviation of paired differences, see `spread`


@dataclass(frozen=True)
class PlannedRow:
    """A row of an ablation's table, before any result."""

    factor: str
    level: Any
    changes: dict[str, Any]  # what differs from the baseline
    against: dict[str, Any]  # the same of what it is compared with; {}: the baseline itself


def summarize(values: Sequence[float]) -> Summary:
    """Describe values of shape (n,)."""
    n = len(values)
    return Summary(
        n,
        float(np.mean(values)) if n else None,
        float(np.std(values, ddof=1)) if n > 1 else None,
    )


def paired_difference(
    baseline: Mapping[Condition, float], level: Mapping[Condition, float]
) -> Difference:
    """Estimate level minus baseline from values by seed (or by any other common condition).

    With at least two seeds in common: the paired t interval and test on those (Student 1908;
    scipy.stats.ttest_rel). Otherwise Welch's unequal-variances interval and test (Welch 1947;
    scipy.stats.ttest_ind with equal_var=False), marked as not paired. Too few values for
    either: the difference alone.

    Differences that are the same for every seed have no spread to judge them by. All zero: the
    level changes nothing (interval [0, 0], p = 1). All equal but not zero: a coincidence of few,
    coarse accuracies, which proves nothing; neither interval nor p.
    """
    seeds = baseline.keys() & level.keys()
    if len(seeds) > 1:
        deltas = np.array([level[seed] - baseline[seed] for seed in seeds])
        error = float(np.std(deltas, ddof=1)) / math.sqrt(len(deltas))
        return _t_interval(float(np.mean(deltas)), error, len(deltas) - 1, len(deltas), paired=True)
    sizes = (len(baseline), len(level))
    if min(sizes) == 0:
        return NO_DIFFERENCE
    if min(sizes) > 1:
        a, b = np.array(list(baseline.values())), np.array(list(level.values()))
        parts = np.array([a.var(ddof=1) / a.size, b.var(ddof=1) / b.size])
        error = math.sqrt(parts.sum())
        with np.errstate(invalid="ignore"):  # 0 / 0 where neither sample varies
            freedom = float(parts.sum() ** 2 / (parts**2 / (np.array(sizes) - 1)).sum())
        return _t_interval(float(b.mean() - a.mean()), error, freedom, min(sizes), paired=False)
    if seeds:
        (seed,) = seeds
        return Difference(1, level[seed] - baseline[seed], None, None, None, paired=True)
    means = [float(np.mean(list(values.values()))) for values in (level, baseline)]
    return Difference(min(sizes), means[0] - means[1], None, None, None, paired=False)


def _t_interval(delta: float, error: float, freedom: float, n: int, *, paired: bool) -> Difference:
    if error < ROUNDING:
        if abs(delta) < ROUNDING:
            return Difference(n, 0.0, 0.0, 0.0, 1.0, paired)
        return Difference(n, delta, None, None, None, paired)
    half = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    p_value = 2 * float(special.stdtr(freedom, -abs(delta) / error))
    return Difference(n, delta, delta - half, delta + half, p_value, paired)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p-values for their number, keeping their order (Holm 1979).

    The chance that any true null hypothesis among them falls below a threshold stays below it.
    None stays None and does not count.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[index] = highest
    return corrected


def planned_rows(plan: Mapping[str, Any]) -> list[PlannedRow]:
    """List the rows of an ablation's table in plan order, without the baseline; of others, none.

    First the levels of the factors, each a single change of the baseline; then the listed variants.
    One of these may be the baseline or what others are compared with: a row without a difference.
    """
    if plan.get("design") != "ablation":
        return []
    rows = [
        PlannedRow(factor, level, {factor: level}, {})
        for factor, levels in plan.get("factors", {}).items()
        for level in levels
        if level != baseline_level(plan, factor)
    ]
    return rows + [
        PlannedRow(
            own["factor"],
            own["level"],
            differing(plan, own["changes"]),
            differing(plan, own.get("against") or {}),
        )
        for own in plan.get("variants") or []
    ]


def differing(plan: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the changes to what a plan's baseline has anyway."""
    base = {**plan.get("baseline", {}), "epochs": plan.get("epochs")}
    return {
        name: level for name, level in changes.items() if name not in base or base[name] != level
    }


def same(changes: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether two sets of changes make the same variant."""
    return variant_key(changes) == variant_key(others)


def ablation(plan: Mapping[str, Any], trials: Iterable[Trial]) -> Ablation:
    """Estimate the effect of every planned level that is not the baseline's.

    `design = "ablation"`: the variant of a row against the baseline, or against the variant that
    the row names, paired by seed. `design = "factorial"`: the main effect, that is every cell with
    this level against the cell with the baseline's level, paired by seed and the other factors'
    levels. A level without a finished trial is there with `n = 0`; a plan without factors has no
    effects. A comparison that is listed in several tables counts once in the correction.
    """
    trials = list(trials)
    done, lost = finished(trials), failures(trials)
    rows = groups(plan, done)
    failed = groups(plan, lost)
    compared = {
        (variant_key(row.changes), variant_key(row.against)): (_values(other), _values(own))
        for row, own, other in rows
        if not same(row.changes, row.against)
    }
    differences = {key: paired_difference(*values) for key, values in compared.items()}
    corrected = dict(
        zip(differences, holm([found.p_value for found in differences.values()]), strict=True)
    )
    effects = []
    for (row, own, _), (_, lost_here, lost_there) in zip(rows, failed, strict=True):
        comparison = variant_key(row.changes), variant_key(row.against)
        difference = differences.get(comparison, NO_DIFFERENCE)
        more = evidence(*compared[comparison]) if comparison in compared else NO_EVIDENCE
        effects.append(
            Effect(
                factor=row.factor,
                level=row.level,
                delta=difference.delta,
                delta_low=difference.low,
                delta_high=difference.high,
                p_value=difference.p_value,
                p_holm=corrected.get(comparison),
                paired=difference.paired,
                compared=difference.n,
                changes=row.changes,
                against=row.against,
                reference_failed=len(lost_there),
                **vars(more),
                **columns(list(own.values()), list(lost_here.values())),
            )
        )
    baseline, lost_baseline = (
        [trial for trial in part if trial.variant is not None and not trial.changes]
        for part in (done, lost)
    )
    return Ablation(
        baseline=Row(**columns(baseline, lost_baseline)),
        effects=effects,
        family=sum(p is not None for p in corrected.values()),
        spread=_spread(compared.values()),
    )


def spread_of_differences(plan: Mapping[str, Any], trials: Iterable[Trial]) -> float | None:
    """Return the usual standard deviation of a plan's paired differences, a fraction.

    What `power.note` asks for. The median over the comparisons, each variance divided by the median
    of chi square over its degrees of freedom: a variant that fails at times and so differs wildly
    does not count for more than another. None without two pairs anywhere, or any spread.
    """
    rows = groups(plan, finished(trials))
    return _spread(
        (_values(other), _values(own))
        for row, own, other in rows
        if not same(row.changes, row.against)
    )


def _spread(compared: Iterable[tuple[Values, Values]]) -> float | None:
    variances = []
    for baseline, level in compared:
        seeds = baseline.keys() & level.keys()
        if len(seeds) > 1:
            freedom = len(seeds) - 1
            variance = float(np.var([level[seed] - baseline[seed] for seed in seeds], ddof=1))
            variances.append(variance * freedom / (2 * special.gammaincinv(freedom / 2, 0.5)))
    found = math.sqrt(np.median(variances)) if variances else 0.0
    return found if found > ROUNDING else None


def baseline_level(plan: Mapping[str, Any], factor: str) -> Any:
    """Return the level that the other levels of a factor are compared with.

    A factorial need not contain the baseline's level: then it is the first one.
    """
    levels = plan["factors"][factor]
    level = plan.get("baseline", {}).get(factor, levels[0])
    return levels[0] if plan.get("design") == "factorial" and level not in levels else level


def groups(plan: Mapping[str, Any], done: Iterable[Trial]) -> list[tuple[PlannedRow, Group, Group]]:
    """Give each row of the table its trials, and those it is compared with.

    A group holds finished trials by what pairs them: the seed; in a factorial the other factors'
    levels and the seed.
    """
    of = _factorial_groups if plan.get("design") == "factorial" else _listed_groups
    return of(plan, done)


def _listed_groups(
    plan: Mapping[str, Any], done: Iterable[Trial]
) -> list[tuple[PlannedRow, Group, Group]]:
    """Give each row its trials and those it is compared with, by seed."""
    variants: defaultdict[Hashable, dict[Hashable, Trial]] = defaultdict(dict)
    for trial in done:
        if trial.variant is not None:
            variants[variant_key(trial.changes)][trial.seed] = trial
    return [
        (row, variants[variant_key(row.changes)], variants[variant_key(row.against)])
        for row in planned_rows(plan)
    ]


def _factorial_groups(
    plan: Mapping[str, Any], done: Iterable[Trial]
) -> list[tuple[PlannedRow, Group, Group]]:
    """Give each level all cells that have it, and those with the factor's baseline level."""
    factors = plan.get("factors", {})
    groups: defaultdict[tuple[str, Any], dict[Hashable, Trial]] = defaultdict(dict)
    for trial in done:
        for factor in factors:
            others = tuple(trial.params.get(name) for name in factors if name != factor)
            groups[factor, trial.params.get(factor)][others, trial.seed] = trial
    return [
        (
            PlannedRow(factor, level, {factor: level}, {factor: baseline_level(plan, factor)}),
            groups[factor, level],
            groups[factor, baseline_level(plan, factor)],
        )
        for factor, levels in factors.items()
        for level in levels
        if level != baseline_level(plan, factor)
    ]


def _values(trials: Group) -> Values:
    return {key: trial.value for key, trial in trials.items() if trial.value is not None}


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
        "parameters": next(iter(known(trials, "parameters")), None),
        "seconds": inference_cost.typical(trials, "seconds"),
        "multiply_adds": next(iter(known(trials, "multiply_adds")), None),
        "model_bytes": next(iter(known(trials, "model_bytes")), None),
        "latency_ms": inference_cost.typical(trials, "latency_ms"),
        "inference": inference_cost.median(trial.inference for trial in trials),
    }


def planned_points(plan: Mapping[str, Any]) -> set[VariantKey]:
    """Return what identifies each variant of an ablation, the baseline among them."""
    listed = (changes for row in planned_rows(plan) for changes in (row.changes, row.against))
    return {variant_key({}), *map(variant_key, listed)}


def planned_cells(plan: Mapping[str, Any]) -> int | None:
    """Count the (variant, seed) cells of a plan; None for a design without fixed cells.

    Nobody planned an imported study here: what is there is all there is.
    """
    if plan.get("imported"):
        return None
    if plan.get("design") == "ablation":
        variants = len(planned_points(plan))
    elif plan.get("design") == "factorial":
        variants = math.prod(len(levels) for levels in plan.get("factors", {}).values())
    else:
        return None
    return int(variants * plan["seeds"])
