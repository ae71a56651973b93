"""What explains the variance of a factorial, and which factors act on each other."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from analysis.figures.base import slug
from analysis.figures.interaction import interaction
from analysis.page.parts import Part, Section, sheets
from analysis.quantity import Quantity
from analysis.statistics.factorial import Anova
from analysis.tables import variance as tables
from analysis.trials import Trial, finished

MOST_PAIRS = 6  # interactions that are drawn, those that explain most


def variance(result: Anova | str, trials: Sequence[Trial], quantity: Quantity) -> list[Section]:
    """Show the analysis of variance of a factorial, and its interactions.

    Args:
        result: the analysis; a text: why there is none.
        trials: of the study.
        quantity: what it is of.
    """
    notes = tables.notes(result)
    if isinstance(result, str):
        return [Section("variance", "Analysis of variance", notes, [])]
    pairs = sorted(
        (term for term in result.terms if len(term.factors) == 2),
        key=lambda term: -term.sum_squares,
    )[:MOST_PAIRS]
    shown = []
    for index, term in enumerate(pairs):
        first, second = term.factors
        cells: dict[tuple[Any, Any], list[float]] = defaultdict(list)
        for trial in finished(trials):
            if trial.value is not None:
                cells[trial.params.get(first), trial.params.get(second)].append(trial.value)
        name = f"interaction-{slug(f'{first}-{second}', index)}"
        shown.append(interaction(first, second, cells, quantity, name))
    parts = [
        Part(sheets=sheets(tables.blocks(result, quantity))),
        Part("Interactions" if shown else "", figures=shown),
    ]
    return [Section("variance", "Analysis of variance", notes, parts)]
