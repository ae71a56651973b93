"""Many differences judged together: p-values, intervals and bounds that hold for all at once.

One rule for every table: the chance that any comparison makes a false claim, or that any interval
misses the truth, is about alpha. An interval excludes 0 exactly where its p-value is at most alpha,
and a difference is proven negligible exactly where its bound is at most what is negligible.

A difference may come with a second standard error, from its own pairs alone. It is then never
claimed with more certainty than those pairs give it, taken as the only comparison: where a variant
scatters more than the model thinks, that catches it. Pure functions over arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.arrays import Array
from analysis.statistics.dunnett import critical, exceedance, two_sided_quantile, two_sided_tail
from analysis.statistics.power import ALPHA

# Degrees of freedom of a spread that all statistics have in common. Each has more or less its own:
# that nothing is shared is the safe side, as what is makes them depend on each other.
SHARED = np.inf


@dataclass(frozen=True)
class Statistic:
    """A difference and what it is judged by, in the unit of the values."""

    delta: float
    error: float  # standard error, positive
    freedom: float  # degrees of freedom of that
    pair_error: float = 0.0  # standard error from its own pairs alone; 0: there is no such limit
    pair_freedom: float = 1.0


@dataclass(frozen=True)
class Judgement:
    """What may be said of a difference beside all others of its table."""

    low: float  # simultaneous interval
    high: float
    bound: float  # the difference is at most +-bound
    p_single: float  # of no difference, were this the only comparison
    p_value: float  # of no difference, corrected for all comparisons
    p_negligible: float | None  # of a difference that is not negligible, corrected


def judge(
    statistics: Sequence[Statistic],
    groups: Sequence[Array],
    negligible: float | None = None,
    alpha: float = ALPHA,
) -> list[Judgement]:
    """Judge differences jointly.

    That a difference is negligible is proven by two one-sided tests (Schuirmann 1987): it must be
    shown to be below `negligible` and above the negative of it. Both errors are no more likely than
    alpha over all comparisons, for a difference cannot be both 0 and not negligible: no comparison
    can make a false claim of both kinds.

    Args:
        statistics: the differences, at least one.
        groups: for each common control, the loadings of its comparisons; see `dunnett.exceedance`.
        negligible: a difference that would not matter; None: there is none such.
        alpha: chance of any false claim of either kind.
    """
    delta = np.array([statistic.delta for statistic in statistics])
    model, pairs = _errors(statistics)

    def corrected(p_values: Array) -> Array:
        joint = exceedance(two_sided_quantile(p_values, SHARED), groups, SHARED)
        return np.clip(joint, p_values, np.minimum(1, len(statistics) * p_values))

    half, one_sided = half_widths(statistics, groups, alpha)
    p_model, p_pairs = 2 * model.beyond(np.abs(delta)), 2 * pairs.beyond(np.abs(delta))
    p_negligible: list[float | None] = [None] * len(statistics)
    if negligible is not None:
        margin = negligible - np.abs(delta)
        p_negligible = np.maximum(corrected(model.beyond(margin)), pairs.beyond(margin)).tolist()
    figures = np.array(
        [
            delta - half,
            delta + half,
            np.abs(delta) + one_sided,
            np.maximum(p_model, p_pairs),
            np.maximum(corrected(p_model), p_pairs),
        ]
    )
    return [
        Judgement(low, high, bound, p_single, p_value, p_margin)
        for (low, high, bound, p_single, p_value), p_margin in zip(
            figures.T.tolist(), p_negligible, strict=True
        )
    ]


def half_widths(
    statistics: Sequence[Statistic],
    groups: Sequence[Array],
    alpha: float = ALPHA,
) -> tuple[Array, Array]:
    """Return how far the differences may be off: to both sides, and to one; shapes (m,).

    Of both, the chance that any of m differences is farther off is alpha. Arguments as of `judge`.
    """
    # What a single comparison may risk, so that all of them together risk alpha.
    single = float(two_sided_tail(critical(groups, SHARED, alpha), SHARED))
    model, pairs = _errors(statistics)
    return (
        np.maximum(model.half(single), pairs.half(alpha)),
        np.maximum(model.half(2 * single), pairs.half(2 * alpha)),
    )


def _errors(statistics: Sequence[Statistic]) -> tuple["_Errors", "_Errors"]:
    fields = ("error", "freedom"), ("pair_error", "pair_freedom")
    model, pairs = (
        _Errors(
            *(np.array([getattr(statistic, name) for statistic in statistics]) for name in names)
        )
        for names in fields
    )
    return model, pairs


@dataclass(frozen=True)
class _Errors:
    """Standard errors and their degrees of freedom; shapes (m,)."""

    error: Array
    freedom: Array

    def half(self, alpha: float) -> Array:
        """Return half the width of an interval that misses with chance alpha, of both sides."""
        width: Array = two_sided_quantile(min(alpha, 1.0), self.freedom) * self.error
        return width

    def beyond(self, distance: Array) -> Array:
        """Return the chance that an estimate is off by a distance, or more, to one side."""
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = np.where(self.error > 0, distance / self.error, np.inf * np.sign(distance))
        tail = two_sided_tail(np.abs(statistic), self.freedom) / 2
        chance: Array = np.where(statistic < 0, 1 - tail, tail)
        return chance
