"""The largest of many t statistics that share a control: Dunnett's distribution, and what follows.

Comparisons with one control are correlated, as the control's error is in all of them. Given that
error, and given the common estimate of the spread, they are independent, so that the chance of any
size of the largest statistic is an integral over two dimensions for any number of comparisons
(Dunnett, "A multiple comparison procedure for comparing several treatments with a control", JASA
50, 1955). Correlations that are not quite of this form, from missing cells, are replaced by the
nearest that are (Hsu, "The factor analytic approach to simultaneous inference in the general linear
model", JCGS 1, 1992). Statistics with different degrees of freedom are first carried over to a
common number of them, each with its own tail kept (`simultaneous`).

Pure functions over arrays, without random numbers.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, optimize, special

from analysis.statistics.arrays import Array

LARGEST_FREEDOM = 10_000.0  # beyond it t is taken for normal: tails differ by less than 1e-4 of it
# Trapezoidal grids; both integrands vanish smoothly at the ends, where the rule is nearly exact.
CONTROL = np.linspace(-8.5, 8.5, 61)  # the control's error, in standard deviations
CONTROL_WEIGHT = np.exp(-(CONTROL**2) / 2) / np.sqrt(2 * np.pi) * (CONTROL[1] - CONTROL[0])
SPREADS = 49
MOST_LOADING = 0.98  # narrower integrands would fall between the nodes; less is the safe side
MANY = 200  # comparisons with a control
TINY = 1e-300
MOST_STEPS = 500  # of the search for loadings
CLOSE = 1e-7  # between two of them


@lru_cache(maxsize=64)
def _spreads(freedom: float) -> tuple[Array, Array]:
    """Return standard deviations that a sample of a unit normal may have, and their weights."""
    if freedom > LARGEST_FREEDOM:
        return np.ones(1), np.ones(1)
    root = np.sqrt(freedom)
    # In the logarithm of the spread, where the density falls off like a normal's above and like
    # exp(freedom * u) below.
    u = np.linspace(-7 / root - 12 / freedom, 5.5 / root, SPREADS)
    half = freedom / 2
    log_density = np.log(2) + half * np.log(half) - special.gammaln(half)
    density = np.exp(log_density + freedom * u - half * np.exp(2 * u))
    weight = density * (u[1] - u[0])
    return np.exp(u), weight / weight.sum()


def exceedance(
    thresholds: ArrayLike, groups: Sequence[Array], freedom: float
) -> NDArray[np.float64]:
    """Return the chance that the largest of the absolute t statistics exceeds each threshold.

    Args:
        thresholds: shape (k,), at least 0.
        groups: for each control, what its comparisons load on its error, shape (m,): the
            correlation of two comparisons is the product of their loadings. Different groups are
            taken for independent, which errs on the safe side (Royen 2014).
        freedom: of the common estimate of the spread; infinite for known spreads.
    """
    at = np.asarray(thresholds, float)
    spread, weight = _spreads(float(freedom))
    log_inside = np.zeros((at.size, spread.size))
    for loadings in groups:
        log_inside += np.log(_inside(at, np.asarray(loadings, float), spread))
    chance: NDArray[np.float64] = -np.expm1(log_inside) @ weight
    return chance


def _inside(thresholds: Array, loadings: Array, spread: Array) -> Array:
    """Return the chance that all statistics of a control are inside, [threshold, spread]."""
    # Equal loadings have equal chances: count them instead of computing them again. Of many, those
    # that are nearly equal: towards 0, which errs on the safe side.
    scale = 1e9 if loadings.size <= MANY else 1e2
    distinct, count = np.unique(np.trunc(loadings * scale) / scale, return_counts=True)
    limit = thresholds[:, None, None, None] * spread[:, None, None]
    shift = CONTROL[:, None] * distinct
    rest = np.sqrt(1 - distinct**2)
    outside = special.ndtr((-limit - shift) / rest) + special.ndtr((shift - limit) / rest)
    all_inside = np.exp(np.log1p(-np.minimum(outside, 1 - 1e-16)) @ count)
    # The control's weights add up to 1 only but for rounding: integrate what is outside.
    chance: Array = 1 - np.minimum((1 - all_inside) @ CONTROL_WEIGHT, 1 - 1e-16)
    return chance


def critical(groups: Sequence[Array], freedom: float, alpha: float) -> float:
    """Return the threshold that the largest absolute t statistic exceeds with chance alpha."""

    def excess(log_threshold: float) -> float:
        chance = float(exceedance([np.exp(log_threshold)], groups, freedom)[0])
        return float(np.log(chance + TINY) - np.log(alpha))

    # Between one comparison, and as many independent ones.
    count = sum(len(loadings) for loadings in groups)
    low = two_sided_quantile(min(1.0, alpha * 1.001), freedom)
    high = two_sided_quantile(alpha / count * 0.9, freedom)
    return float(
        np.exp(optimize.brentq(excess, np.log(low * 0.98), np.log(high * 1.05), xtol=1e-12))
    )


def two_sided_quantile(chance: ArrayLike, freedom: ArrayLike) -> Any:
    """Return what an absolute t statistic exceeds with this chance."""
    half = np.maximum(np.asarray(chance, float) / 2, TINY)
    df = np.asarray(freedom, float)
    normal = df > LARGEST_FREEDOM
    return np.where(normal, -special.ndtri(half), -special.stdtrit(np.where(normal, 1.0, df), half))


def two_sided_tail(statistic: ArrayLike, freedom: ArrayLike) -> Any:
    """Return the chance that an absolute t statistic is at least so large."""
    t, df = -np.abs(np.asarray(statistic, float)), np.asarray(freedom, float)
    normal = df > LARGEST_FREEDOM
    return 2 * np.where(normal, special.ndtr(t), special.stdtr(np.where(normal, 1.0, df), t))


def loadings(correlation: Array, shares: Array) -> Array:
    """Return the loadings, shape (m,), whose products are nearest to a correlation matrix.

    Least squares off the diagonal, by principal factors (Hsu 1992).

    Args:
        correlation: of m comparisons with a control.
        shares: shape (m,), of the control in the variance of each: where the search starts.
            Without missing cells their roots are the loadings.
    """
    factor, communality = np.sqrt(shares), shares
    for _ in range(MOST_STEPS):
        reduced = correlation - np.diag(1 - communality)
        last = len(reduced) - 1
        values, vectors = linalg.eigh(reduced, subset_by_index=(last, last))
        before, factor = factor, vectors[:, -1] * np.sqrt(max(float(values[-1]), 0.0))
        factor *= np.sign(factor.sum()) or 1.0
        factor = np.clip(factor, -MOST_LOADING, MOST_LOADING)
        communality = factor**2
        if np.max(np.abs(factor - before)) < CLOSE:
            break
    return factor
