"""From accuracies to effects: how much a level changes the baseline, and how sure that is.

Pure functions. Replicate seeds are paired across variants (same split, same data order), so the
difference of two variants is taken seed by seed, which removes what the seed itself contributes.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from scipy import special

from analysis.trials import Trial, finished

CONFIDENCE = 0.95
# Two accuracies that differ by less than this are equal but for the rounding of floats.
ROUNDING = 1e-12

Condition = TypeVar("Condition", bound=Hashable)  # what two values have in common, e.g. the seed


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


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the finished trials of one level have in common. Accuracies are fractions."""

    n: int
    val_accuracy_mean: float | None
    val_accuracy_std: float | None
    test_accuracy_mean: float | None
    test_accuracy_std: float | None
    parameters: int | None
    seconds: float | None  # mean of the training times


@dataclass(frozen=True, kw_only=True)
class Effect(Row):
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


@dataclass(frozen=True)
class Ablation:
    """The baseline, and an effect for every other planned level, in plan order."""

    baseline: Row
    effects: list[Effect]
    family: int  # p-values that were corrected together


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
        return Difference(0, None, None, None, None, paired=True)
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


def ablation(plan: Mapping[str, Any], trials: Iterable[Trial]) -> Ablation:
    """Estimate the effect of every planned level that is not the baseline's.

    `design = "ablation"`: the variant that changes this one factor, against the baseline variant,
    paired by seed. `design = "factorial"`: the main effect, that is every cell with this level
    against the cell with the baseline's level, paired by seed and the other factors' levels. A
    level without a finished trial is there with `n = 0`; a plan without factors has no effects.
    """
    done = finished(trials)
    groups = _by_level(plan, done)
    found = []
    for factor, levels in plan.get("factors", {}).items():
        reference = _values(groups[factor, baseline_level(plan, factor)])
        for level in levels:
            if level != baseline_level(plan, factor):
                group = groups[factor, level]
                difference = paired_difference(reference, _values(group))
                found.append((factor, level, list(group.values()), difference))
    corrected = holm([difference.p_value for *_, difference in found])
    effects = [
        Effect(
            factor=factor,
            level=level,
            delta=difference.delta,
            delta_low=difference.low,
            delta_high=difference.high,
            p_value=difference.p_value,
            p_holm=p_holm,
            paired=difference.paired,
            compared=difference.n,
            **columns(trials_of_level),
        )
        for (factor, level, trials_of_level, difference), p_holm in zip(
            found, corrected, strict=True
        )
    ]
    baseline = [trial for trial in done if trial.variant is not None and not trial.changes]
    return Ablation(
        Row(**columns(baseline)), effects, sum(p_holm is not None for p_holm in corrected)
    )


def baseline_level(plan: Mapping[str, Any], factor: str) -> Any:
    """Return the level that the other levels of a factor are compared with.

    A factorial need not contain the baseline's level: then it is the first one.
    """
    levels = plan["factors"][factor]
    level = plan.get("baseline", {}).get(factor, levels[0])
    return levels[0] if plan.get("design") == "factorial" and level not in levels else level


def _by_level(
    plan: Mapping[str, Any], done: Iterable[Trial]
) -> defaultdict[tuple[str, Any], dict[Hashable, Trial]]:
    """Group trials by (factor, level), each under the condition that pairs it across levels."""
    groups: defaultdict[tuple[str, Any], dict[Hashable, Trial]] = defaultdict(dict)
    factorial = plan.get("design") == "factorial"
    for trial in done:
        for factor in plan.get("factors", {}):
            if factorial:
                others = tuple(trial.params.get(name) for name in plan["factors"] if name != factor)
                groups[factor, trial.params.get(factor)][others, trial.seed] = trial
            elif trial.variant is not None and trial.changes.keys() <= {factor}:
                level = trial.changes.get(factor, baseline_level(plan, factor))
                groups[factor, level][trial.seed] = trial
    return groups


def _values(trials: Mapping[Hashable, Trial]) -> dict[Hashable, float]:
    return {key: trial.value for key, trial in trials.items() if trial.value is not None}


def columns(trials: Sequence[Trial]) -> dict[str, Any]:
    """Compute the fields of a `Row` from finished trials."""

    def known(name: str) -> list[float]:
        values = (getattr(trial, name) for trial in trials)
        return [value for value in values if value is not None and math.isfinite(value)]

    val, test = summarize(known("value")), summarize(known("test_accuracy"))
    return {
        "n": val.n,
        "val_accuracy_mean": val.mean,
        "val_accuracy_std": val.std,
        "test_accuracy_mean": test.mean,
        "test_accuracy_std": test.std,
        "parameters": next(iter(known("parameters")), None),
        "seconds": summarize(known("seconds")).mean,
    }


def planned_cells(plan: Mapping[str, Any]) -> int | None:
    """Count the (variant, seed) cells of a plan; None for a design without fixed cells."""
    factors = plan.get("factors", {})
    if plan.get("design") == "ablation":
        changed = ((f, level) for f, levels in factors.items() for level in levels)
        variants = 1 + sum(level != baseline_level(plan, f) for f, level in changed)
    elif plan.get("design") == "factorial":
        variants = math.prod(len(levels) for levels in factors.values())
    else:
        return None
    return int(variants * plan["seeds"])
