"""What a factorial found, in plain words: its effects, and which of them do not just add up."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from analysis.statistics.factorial import Anova
from analysis.summary import effects
from analysis.summary.answers import MATTERS, SURE
from analysis.summary.effects import Plan
from analysis.tables import variance
from analysis.tables.factorial import FactorialTable
from analysis.text import printable
from analysis.trials import Trial
from analysis.verdicts import PROVEN
from analysis.wording import some


def answers(
    plan: Plan, table: FactorialTable, trials: Sequence[Trial]
) -> tuple[str, dict[str, list[str]]]:
    """Return the headline and the sentences on a factorial with a finished trial."""
    headline, sentences = effects.answers(plan, table, trials)
    if MATTERS not in sentences or not isinstance(table.anova, Anova):
        return headline, sentences
    pairs = _interactions(table.anova)
    names = list(map(variance.name, pairs))
    proven = [effect for effect in table.effects if effect.claim in PROVEN]
    if names and not proven:
        cross = all(_crosses(table.anova, pair) for pair in pairs)
        what = "which level is better" if cross else "what a level does"
        headline = (
            f"{some(names)} act on each other: {what} depends on the other factor. No factor was "
            "proven to matter by itself."
        )
    matters = sentences[MATTERS] if proven or not names else []
    told = (
        [
            f"Effects do not just add up: proven interaction{'s' * (len(names) > 1)} of "
            f"{some(names)}."
        ]
        if names
        else []
    )
    return headline, sentences | {
        MATTERS: [*matters, *told],
        SURE: [*sentences[SURE], *_unconfirmed(table, table.anova)],
    }


def _interactions(anova: Anova) -> list[tuple[str, ...]]:
    """Return the pairs of factors whose effects do not just add up, the largest first."""
    pairs = [
        term
        for term in anova.terms
        if len(term.factors) == 2 and variance.verdict(term) == "matters"
    ]
    pairs.sort(key=lambda term: -term.sum_squares)
    return [term.factors for term in pairs]


def _crosses(anova: Anova, factors: tuple[str, ...]) -> bool:
    """Whether a level of one factor is better with some levels of the other, worse with others."""
    means = {pair.levels: pair.mean for pair in anova.pairs if pair.factors == factors}
    for swapped in (False, True):
        rows: dict[Any, dict[Any, float]] = {}
        for (first, second), mean in means.items():
            level, other = (second, first) if swapped else (first, second)
            rows.setdefault(level, {})[other] = mean
        for one, two in combinations(rows.values(), 2):
            gaps = [one[other] - two[other] for other in one]
            if min(gaps) < 0 < max(gaps):
                return True
    return False


def _unconfirmed(table: FactorialTable, anova: Anova) -> list[str]:
    """Say where the analysis of variance does not find what a paired difference shows."""
    matters = {term.factors: variance.verdict(term) == "matters" for term in anova.terms}
    names = dict.fromkeys(
        printable(effect.factor)
        for effect in table.effects
        if effect.claim in PROVEN and matters.get((effect.factor,)) is False
    )
    if not names:
        return []
    return [
        f"The analysis of variance, which tests interactions too, does not confirm "
        f"{some(list(names))}."
    ]
