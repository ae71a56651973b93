"""The differences of one variant and another, each by itself: paired t, Welch's t, and Holm.

Pure functions over values by seed. `simultaneous` judges the comparisons of a table together.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.statistics.effect_sizes import ROUNDING, Condition
from analysis.statistics.power import CONFIDENCE


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
    ordered = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - rank) * p))
        corrected[index] = highest
    return corrected
