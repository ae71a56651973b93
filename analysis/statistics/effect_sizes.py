"""What else the values of two variants say, beside their mean difference and its t interval.

Pure functions over arrays. None of these figures decides a verdict: see docs/statistics.md.
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.statistics.power import CONFIDENCE, detectable
from analysis.statistics.proportions import wilson
from analysis.statistics.resampling import bca_interval, sign_flip

# Two accuracies that differ by less than this are equal but for the rounding of floats.
ROUNDING = 1e-12

Condition = TypeVar("Condition", bound=Hashable)  # what two values have in common, e.g. the seed


@dataclass(frozen=True)
class Improvement:
    """The chance that a run of one variant is better than a run of another, with its interval."""

    probability: float
    low: float | None  # 95 %
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Further figures of a difference; None where there are too few values or no pairs."""

    delta_bca_low: float | None  # 95 % bootstrap interval of the paired difference
    delta_bca_high: float | None
    p_permutation: float | None  # of no difference, by flipped signs; not corrected
    improvement: float | None  # chance that a run is better than one it is compared with
    improvement_low: float | None
    improvement_high: float | None
    standardized: float | None  # difference in standard deviations, corrected for few values
    detectable: float | None  # smallest true difference that so many pairs mostly find, a fraction


NO_EVIDENCE = Evidence(
    delta_bca_low=None,
    delta_bca_high=None,
    p_permutation=None,
    improvement=None,
    improvement_low=None,
    improvement_high=None,
    standardized=None,
    detectable=None,
)


def evidence(
    baseline: Mapping[Condition, float],
    level: Mapping[Condition, float],
    seed: int = 0,
    *,
    lower_is_better: bool = False,
) -> Evidence:
    """Describe level against baseline from values by seed (or by any other common condition).

    Paired where at least two conditions are common, as `effects.paired_difference`; else from both
    samples as they are, without what needs pairs.

    Args:
        baseline: values by condition.
        level: values by condition.
        seed: of the generator that draws resamples.
        lower_is_better: whether a run with the lower value is the better one.
    """
    common = baseline.keys() & level.keys()
    if len(common) < 2:
        samples = list(baseline.values()), list(level.values())
        unpaired = _unpaired(*samples)
        return _turned(unpaired) if lower_is_better else unpaired
    # Sorted, as sets of conditions have no order, and resamples must repeat.
    deltas = np.sort([level[condition] - baseline[condition] for condition in common])
    rng = np.random.default_rng(seed)
    low, high = bca_interval(deltas, rng) or (None, None)
    improvement = paired_improvement(deltas)
    smallest = detectable(len(deltas))
    sd = float(np.std(deltas, ddof=1))
    made = Evidence(
        delta_bca_low=low,
        delta_bca_high=high,
        p_permutation=sign_flip(deltas, rng),
        improvement=improvement.probability,
        improvement_low=improvement.low,
        improvement_high=improvement.high,
        standardized=paired_standardized(deltas),
        detectable=None if smallest is None or sd < ROUNDING else smallest * sd,
    )
    return _turned(made) if lower_is_better else made


def _turned(figures: Evidence) -> Evidence:
    """Turn the chance that a run's value is higher into the chance that it is lower."""
    if figures.improvement is None:
        return figures
    low, high = (
        None if end is None else 1 - end
        for end in (figures.improvement_high, figures.improvement_low)
    )
    return replace(
        figures, improvement=1 - figures.improvement, improvement_low=low, improvement_high=high
    )


def _unpaired(baseline: list[float], level: list[float]) -> Evidence:
    if min(len(baseline), len(level)) < 2:
        return NO_EVIDENCE
    improvement = unpaired_improvement(baseline, level)
    return Evidence(
        **asdict(NO_EVIDENCE)
        | {
            "improvement": improvement.probability,
            "improvement_low": improvement.low,
            "improvement_high": improvement.high,
            "standardized": unpaired_standardized(baseline, level),
        }
    )


def paired_improvement(differences: ArrayLike) -> Improvement:
    """Estimate the chance that a run is better than its pair; a tie counts half.

    The share of positive differences, shape (n,), with Wilson's interval: it needs no distribution,
    and has a width where all differences have one sign.
    """
    deltas = np.asarray(differences, float)
    wins = float(np.sum(deltas > ROUNDING) + np.sum(np.abs(deltas) <= ROUNDING) / 2)
    return Improvement(wins / deltas.size, *wilson(wins, deltas.size))


def unpaired_improvement(baseline: ArrayLike, level: ArrayLike) -> Improvement:
    """Estimate the chance that a run of `level` is better than one of `baseline`, ties half.

    Over all pairs of shapes (a,) and (b,), with the variance and degrees of freedom of Brunner and
    Munzel ("The nonparametric Behrens-Fisher problem", Biometrical Journal 42, 2000), the interval
    taken on the scale of the logit, which keeps it inside 0 and 1 and from being too narrow. Each
    sample needs two values; no interval where the samples do not overlap.
    """
    a, b = np.asarray(baseline, float), np.asarray(level, float)
    apart = b[:, None] - a[None, :]
    won = (apart > ROUNDING) + (np.abs(apart) <= ROUNDING) / 2  # [level, baseline]
    probability = float(won.mean())
    placements: list[NDArray[np.float64]] = [won.mean(axis=0), won.mean(axis=1)]
    parts = np.array([placement.var(ddof=1) / placement.size for placement in placements])
    if parts.sum() == 0:
        return Improvement(probability, None, None)
    freedom = parts.sum() ** 2 / (parts**2 / (np.array([a.size, b.size]) - 1)).sum()
    error = math.sqrt(parts.sum()) / (probability * (1 - probability))
    half = special.stdtrit(freedom, (1 + CONFIDENCE) / 2) * error
    low, high = special.expit(special.logit(probability) + np.array([-half, half]))
    return Improvement(probability, float(low), float(high))


def paired_standardized(differences: ArrayLike) -> float | None:
    """Return the mean difference in standard deviations of the differences, shape (n,).

    Cohen's d_z with the correction of Hedges for few values. None without a spread.
    """
    deltas = np.asarray(differences, float)
    sd = float(deltas.std(ddof=1))
    return None if sd < ROUNDING else _correction(deltas.size - 1) * float(deltas.mean()) / sd


def unpaired_standardized(baseline: ArrayLike, level: ArrayLike) -> float | None:
    """Return the difference of means, shapes (a,) and (b,), in standard deviations of a run.

    Hedges' g with the root of the mean of both variances, as these may differ. Not to be compared
    with `paired_standardized`: there the spread that a seed brings to both has cancelled out. Each
    sample needs two values; None where neither has a spread.
    """
    a, b = np.asarray(baseline, float), np.asarray(level, float)
    sd = math.sqrt((float(a.var(ddof=1)) + float(b.var(ddof=1))) / 2)
    if sd < ROUNDING:
        return None
    return _correction(a.size + b.size - 2) * float(b.mean() - a.mean()) / sd


def _correction(freedom: int) -> float:
    """Return what makes a standardised effect unbiased (Hedges, J. Educ. Stat. 6, 1981)."""
    if freedom < 2:  # has no mean to be corrected to
        return 1.0
    half = freedom / 2
    return math.exp(special.gammaln(half) - special.gammaln(half - 0.5)) / math.sqrt(half)
