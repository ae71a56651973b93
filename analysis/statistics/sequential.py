"""A study that stops when it is sure: which levels are decided, and which seeds to train next.

All variants get a few seeds. Then only the levels that are still undecided go on, with what they
are compared with, until each is better, worse or negligible, or the most seeds are reached. Looking
again and again would find something anywhere; so the chance of a false claim, about 5 % over all
levels, is spent over looks that are fixed in advance (`spending`), separately for claims of a
difference and of negligibility: no level can be falsely claimed in both ways. Who goes on and who
stops changes nothing in this, as each level spends its part for itself.

Pure: everything follows from the values. A path is the same in whatever order they came, however
often the run was killed, and whatever was trained beyond what a look asks for.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from analysis.statistics.block_design import BlockDesign, Comparison
from analysis.statistics.dunnett import critical, two_sided_quantile, two_sided_tail
from analysis.statistics.power import ALPHA
from analysis.statistics.simultaneous import Statistic
from analysis.statistics.spending import nominal_levels

FIRST = 3
MOST = 20
SHARED = 0.5**0.5  # what comparisons load on their control's error if all variants scatter alike
# Powers of the share of seeds: early looks rarely prove that something is negligible.
SPEND_DIFFERENCE, SPEND_NEGLIGIBLE = 2.0, 4.0
POWER_QUANTILE = 0.8416  # of a normal distribution: 80 %

Verdict = Literal["better", "worse", "negligible", "undecided", "failed"]


@dataclass(frozen=True)
class Decision:
    """What is known of a level at a look. Differences are in the unit of the values."""

    verdict: Verdict
    seeds: int  # of the look: the one that decided, else the last
    n: int  # pairs
    delta: float | None = None
    low: float | None = None  # interval that stays simultaneous in spite of the looks
    high: float | None = None
    bound: float | None = None  # the difference is at most +-bound, likewise


@dataclass(frozen=True)
class Look:
    """A complete round."""

    seeds: int
    decisions: dict[Comparison, Decision]  # of the comparisons that were open

    @property
    def decided(self) -> list[Comparison]:
        """The comparisons that it settled."""
        return [
            pair for pair, decision in self.decisions.items() if decision.verdict != "undecided"
        ]


@dataclass(frozen=True)
class Forecast:
    """What the present round costs, and what it may find."""

    trainings: int  # still to be done
    undecided: int  # levels
    detectable: float | None  # smallest true difference that it finds with 80 % power


@dataclass(frozen=True)
class Path:
    """The looks so far, and what is to be trained for the next."""

    looks: tuple[Look, ...]
    decisions: dict[Comparison, Decision]  # the latest of each
    wanted: tuple[tuple[Hashable, int], ...]  # (variant, seed's index), by seed; (): finished
    round: int  # seeds of the look that `wanted` leads to; 0: finished
    reason: str  # why it is finished, else ""
    forecast: Forecast | None

    @property
    def finished(self) -> bool:
        """Whether nothing is to be trained any more."""
        return not self.wanted


def looks(max_seeds: int, first: int = FIRST) -> tuple[int, ...]:
    """Return the numbers of seeds at which a study is looked at: every one, later every sixth part.

    The last is `max_seeds`, and also the first if that is fewer than `first`.
    """
    counts = []
    n = first
    while n < max_seeds:
        counts.append(n)
        n += max(1, n // 6)
    return (*counts, max_seeds)


def follow(
    comparisons: Sequence[Comparison],
    values: Mapping[Hashable, Mapping[int, float | None]],
    *,
    max_seeds: int = MOST,
    negligible: float | None = None,
    first: int = FIRST,
    alpha: float = ALPHA,
) -> Path:
    """Follow a study through its looks, as far as its values go.

    A level of which a seed has no value and never will is *failed*, and gets no more seeds. A
    reference loses only the pairs with such a seed.

    Args:
        comparisons: a variant and the one it is compared with; repeated ones count once.
        values: by variant and the seed's index in the plan (0, 1, ...). None: trained, and without
            a value for good. Missing: not trained yet.
        max_seeds: of any variant. It is part of the rule: alpha is used up there.
        negligible: a difference that would not matter; None: no level is ever negligible.
        first: seeds that all variants get.
        alpha: chance of any false claim.
    """
    pairs = list(dict.fromkeys(pair for pair in comparisons if pair[0] != pair[1]))
    rule, study = _Rule(pairs, looks(max_seeds, first), negligible, alpha), _Study(pairs, values)
    history: list[Look] = []
    decisions: dict[Comparison, Decision] = {}
    for number, seeds in enumerate(rule.looks):
        if not study.open:
            break
        if wanted := study.missing(seeds):
            forecast = Forecast(len(wanted), len(study.open), rule.detectable(study, number))
            return Path(tuple(history), decisions, wanted, seeds, "", forecast)
        study.advance(seeds)
        look = Look(seeds, {pair: rule.decide(study, pair, number) for pair in study.open})
        study.open = [pair for pair in study.open if pair not in look.decided]
        history.append(look)
        decisions |= look.decisions
    reason = "every level is decided"
    if study.open:
        count = f"{len(study.open)} of {len(decisions)} levels undecided"
        reason = f"the most seeds are reached ({max_seeds}), with {count}"
    return Path(tuple(history), decisions, (), 0, reason, None)


@dataclass
class _Study:
    """What a study looked like at a look: later values of decided levels do not count."""

    open: list[Comparison]
    values: Mapping[Hashable, Mapping[int, float | None]]
    seeds: dict[Hashable, int] = field(default_factory=dict)  # of each variant
    statistics: dict[Comparison, Statistic] = field(default_factory=dict)
    pairs: dict[Comparison, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.all = tuple(self.open)

    def missing(self, seeds: int) -> tuple[tuple[Hashable, int], ...]:
        """Return the cells without which open comparisons do not have so many seeds."""
        variants = dict.fromkeys(
            [reference for _, reference in self.open] + [variant for variant, _ in self.open]
        )
        return tuple(
            (variant, seed)
            for seed in range(seeds)
            for variant in variants
            if seed not in self.values.get(variant, {})
        )

    def failed(self, variant: Hashable) -> bool:
        """Whether a seed of a variant has no value and never will."""
        row = self.values[variant]
        return any(row[seed] is None for seed in range(self.seeds[variant]))

    def advance(self, seeds: int) -> None:
        """Fit the model to what is there at a look."""
        self.seeds |= {variant: seeds for pair in self.open for variant in pair}
        present = {
            variant: {
                seed: value
                for seed in range(count)
                if (value := self.values[variant][seed]) is not None
            }
            for variant, count in self.seeds.items()
        }
        design = BlockDesign(self.all, present)
        self.statistics = dict(zip(design.comparisons, design.statistics(), strict=True))
        self.pairs = {
            (variant, reference): len(present[variant].keys() & present[reference].keys())
            for variant, reference in self.open
        }


class _Rule:
    """When a level is decided."""

    def __init__(
        self,
        comparisons: Sequence[Comparison],
        looks: tuple[int, ...],
        negligible: float | None,
        alpha: float,
    ) -> None:
        self.looks, self.negligible, self.alpha = looks, negligible, alpha
        # What a level may spend, so that all of them together spend alpha. It stays the same when
        # others are decided: that they are better does not make a claim of negligibility safer.
        references = Counter(reference for _, reference in comparisons)
        groups = [np.full(count, SHARED) for count in references.values()]
        self.single = alpha
        if len(comparisons) > 1:
            self.single = float(two_sided_tail(critical(groups, np.inf, alpha), np.inf))

    def levels(self, look: int) -> tuple[float, float]:
        """Return the levels of a look's tests, of a difference and of negligibility."""
        return (
            nominal_levels(self.looks, self.single, SPEND_DIFFERENCE)[look],
            nominal_levels(self.looks, 2 * self.single, SPEND_NEGLIGIBLE)[look],
        )

    def decide(self, study: _Study, pair: Comparison, look: int) -> Decision:
        """Judge a level at a look."""
        seeds, n = self.looks[look], study.pairs[pair]
        if study.failed(pair[0]):
            return Decision("failed", seeds, n)
        statistic = study.statistics.get(pair)
        if statistic is None:  # too few pairs, or no spread anywhere
            return Decision("undecided", seeds, n)
        level, level_negligible = self.levels(look)
        delta, half = statistic.delta, _half(statistic, level, self.alpha)
        bound = abs(delta) + _half(statistic, level_negligible, 2 * self.alpha)
        verdict: Verdict = "undecided"
        if self.negligible is not None and bound <= self.negligible:
            verdict = "negligible"
        elif abs(delta) > half:
            verdict = "better" if delta > 0 else "worse"
        return Decision(verdict, seeds, n, delta, delta - half, delta + half, bound)

    def detectable(self, study: _Study, look: int) -> float | None:
        """Return the smallest difference that a look finds with 80 % power; None: unknown yet.

        For a usual level, by the errors at the look before.
        """
        errors = [study.statistics[pair] for pair in study.open if pair in study.statistics]
        if not errors:
            return None
        growth = self.looks[look] / self.looks[look - 1]
        level, _ = self.levels(look)
        return float(
            np.median(
                [
                    (float(two_sided_quantile(level, statistic.freedom * growth)) + POWER_QUANTILE)
                    * statistic.error
                    / growth**0.5
                    for statistic in errors
                ]
            )
        )


def _half(statistic: Statistic, level: float, pair_level: float) -> float:
    """Return half the width of an interval, at the level of the model and of the pairs alone."""
    return max(
        float(two_sided_quantile(level, statistic.freedom)) * statistic.error,
        float(two_sided_quantile(pair_level, statistic.pair_freedom)) * statistic.pair_error,
    )
