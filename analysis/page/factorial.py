"""What explains the variance of a factorial, and which factors act on each other."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from analysis import factorial_table
from analysis.figures.base import slug
from analysis.figures.effects import interaction
from analysis.page.parts import Part, Section, sheets
from analysis.search_table import SearchTable
from analysis.statistics.factorial import Anova
from analysis.tables import Table
from analysis.trials import Trial, finished

MOST_PAIRS = 6  # interactions that are drawn, those that explain most


def variance(table: Table | SearchTable, trials: Sequence[Trial]) -> list[Section]:
    """Show the analysis of variance of a factorial, and its interactions."""
    if isinstance(table, SearchTable) or table.anova is None:
        return []
    notes = factorial_table.notes(table.anova)
    if not isinstance(table.anova, Anova):
        return [Section("variance", "Analysis of variance", notes, [])]
    pairs = sorted(
        (term for term in table.anova.terms if len(term.factors) == 2),
        key=lambda term: -term.sum_squares,
    )[:MOST_PAIRS]
    shown = []
    for index, term in enumerate(pairs):
        first, second = term.factors
        cells: dict[tuple[Any, Any], list[float]] = defaultdict(list)
        for trial in finished(trials):
            if trial.value is not None:
                cells[trial.params.get(first), trial.params.get(second)].append(trial.value)
        shown.append(
            interaction(
                first,
                second,
                cells,
                table.progress.objective,
                f"interaction-{slug(f'{first}-{second}', index)}",
            )
        )
    parts = [
        Part(sheets=sheets(factorial_table.blocks(table.anova))),
        Part("Interactions" if shown else "", figures=shown),
    ]
    return [Section("variance", "Analysis of variance", notes, parts)]
