"""The comparisons of a table, judged by one of two methods.

By default all are judged together (`simultaneous`): an ablation by the model of `block_design`, the
levels of a factorial by the spread over seeds of what the cells of a seed have in common. The
strict method takes every comparison for itself (paired t) and corrects by Holm: it assumes nothing
of one variant from another, and finds less.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.statistics.block_design import Comparison, compare, pair_error, paired
from analysis.statistics.dunnett import two_sided_quantile, two_sided_tail
from analysis.statistics.effect_sizes import ROUNDING
from analysis.statistics.paired import holm, paired_difference
from analysis.statistics.power import ALPHA
from analysis.statistics.simultaneous import Statistic, judge

SIMULTANEOUS, STRICT = "simultaneous", "strict"
# What the levels of a factor load on their reference's error, if all levels scatter alike.
SHARED = 0.5**0.5
Sample = Mapping[Hashable, float]  # values by seed


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Level minus reference, as one of the comparisons of a table. Differences are fractions."""

    method: str  # SIMULTANEOUS or STRICT
    delta: float | None
    delta_low: float | None  # 95 %; simultaneous: of all comparisons together
    delta_high: float | None
    bound: float | None  # the true difference is at most +-bound, corrected
    p_value: float | None  # of no difference, not corrected
    p_holm: float | None  # of the paired t, corrected by Holm
    p_adjusted: float | None  # corrected by the method: what the verdict rests on
    p_negligible: float | None  # of a difference that is not negligible, corrected
    freedom: float | None  # degrees of freedom of the standard error
    paired: bool
    compared: int  # seeds behind the difference; if not paired, the size of the smaller sample


NOT_JUDGED = Judged(
    method=SIMULTANEOUS,
    delta=None,
    delta_low=None,
    delta_high=None,
    bound=None,
    p_value=None,
    p_holm=None,
    p_adjusted=None,
    p_negligible=None,
    freedom=None,
    paired=True,
    compared=0,
)


def judge_ablation(
    comparisons: list[Comparison],
    values: Mapping[Hashable, Sample],
    negligible: float | None = None,
) -> dict[Comparison, Judged]:
    """Judge variants against what they are compared with, all on the same seeds.

    Args:
        comparisons: distinct.
        values: by variant and seed.
        negligible: a difference that would not matter.
    """
    strict = judge_strictly(_samples(comparisons, values), negligible)
    estimates = compare(comparisons, values, negligible)
    judged = {}
    for pair, by_itself in strict.items():
        estimate = estimates.get(pair)
        verdict = None if estimate is None else estimate.judgement
        judged[pair] = Judged(
            method=SIMULTANEOUS,
            delta=None if estimate is None else estimate.delta,
            delta_low=None if verdict is None else verdict.low,
            delta_high=None if verdict is None else verdict.high,
            bound=None if verdict is None else verdict.bound,
            p_value=None if verdict is None else verdict.p_single,
            p_holm=by_itself.p_holm,
            p_adjusted=None if verdict is None else verdict.p_value,
            p_negligible=None if verdict is None else verdict.p_negligible,
            freedom=None if estimate is None else estimate.freedom,
            paired=by_itself.paired,
            compared=by_itself.compared,
        )
    return judged


def judge_factorial(
    samples: Mapping[Comparison, tuple[Sample, Sample]], negligible: float | None = None
) -> dict[Comparison, Judged]:
    """Judge levels of factors by what they do in each seed, averaged over the seed's cells.

    Cells of one seed share its split and its luck, and so does a factor's effect in them: a seed is
    one observation of the effect, however many cells it has. Each comparison has the spread of its
    own differences; those with the same reference level are correlated by that.

    Args:
        samples: means by seed of the reference level and of the level, over the same other levels.
        negligible: a difference that would not matter.
    """
    judged = judge_strictly(samples, negligible)
    spread: dict[Comparison, Statistic] = {}
    for pair, (reference, level) in samples.items():
        deltas = paired({"level": level, "reference": reference}, ("level", "reference"))
        if len(deltas) > 1 and (error := pair_error(deltas))[0] > 0:
            spread[pair] = Statistic(float(deltas.mean()), *error)
    if not spread:
        return judged
    references = [reference for _, reference in spread]
    groups = [
        np.full(references.count(name), SHARED if references.count(name) > 1 else 0.0)
        for name in dict.fromkeys(references)
    ]
    verdicts = judge(list(spread.values()), groups, negligible)
    for pair, verdict in zip(spread, verdicts, strict=True):
        figures = {
            "method": SIMULTANEOUS,
            "delta_low": verdict.low,
            "delta_high": verdict.high,
            "bound": verdict.bound,
            "p_adjusted": verdict.p_value,
            "p_negligible": verdict.p_negligible,
        }
        judged[pair] = Judged(**vars(judged[pair]) | figures)
    return judged


def judge_strictly(
    samples: Mapping[Comparison, tuple[Sample, Sample]], negligible: float | None = None
) -> dict[Comparison, Judged]:
    """Judge every comparison by its own values alone, and correct by Holm.

    Args:
        samples: values by seed of the reference and of the variant.
        negligible: a difference that would not matter; corrected by Bonferroni, as bounds are.
    """
    differences = {pair: paired_difference(*both) for pair, both in samples.items()}
    corrected = holm([difference.p_value for difference in differences.values()])
    family = sum(p is not None for p in corrected)
    judged = {}
    for (pair, difference), p_holm in zip(differences.items(), corrected, strict=True):
        bound = p_negligible = freedom = None
        if difference.delta is not None and difference.paired and difference.n > 1:
            reference, level = samples[pair]
            deltas = paired({"level": level, "reference": reference}, ("level", "reference"))
            error, freedom = pair_error(deltas)
            if error > 0 or abs(difference.delta) < ROUNDING:
                away = abs(difference.delta)
                bound = away + error * float(two_sided_quantile(2 * ALPHA / family, freedom))
                if negligible is not None:
                    p_negligible = min(1.0, family * _beyond(negligible - away, error, freedom))
        judged[pair] = Judged(
            method=STRICT,
            delta=difference.delta,
            delta_low=difference.low,
            delta_high=difference.high,
            bound=bound,
            p_value=difference.p_value,
            p_holm=p_holm,
            p_adjusted=p_holm,
            p_negligible=p_negligible,
            freedom=freedom,
            paired=difference.paired,
            compared=difference.n,
        )
    return judged


def _beyond(distance: float, error: float, freedom: float) -> float:
    """Return the chance that an estimate is off by a distance, or more, to one side."""
    if error == 0:
        return float(distance < 0)
    tail = float(two_sided_tail(distance / error, freedom)) / 2
    return tail if distance >= 0 else 1 - tail


def _samples(
    comparisons: list[Comparison], values: Mapping[Hashable, Sample]
) -> dict[Comparison, tuple[Sample, Sample]]:
    return {
        (variant, reference): (values.get(reference, {}), values.get(variant, {}))
        for variant, reference in comparisons
    }


def nothing_judged(method: str) -> Judged:
    """Return a row without a comparison: a reference, or a level without a value."""
    return Judged(**vars(NOT_JUDGED) | {"method": method})
