"""Searches for the best combination."""

from pathlib import Path
from typing import ClassVar

from analysis.designs.base import Results
from analysis.page.model import best_model
from analysis.page.parts import Section
from analysis.page.search import candidates, course, importance
from analysis.page.trials import costs, courses, parallel
from analysis.statistics.candidates import first_trials
from analysis.summary import search as summary
from analysis.summary.answers import Sentences
from analysis.tables.brief import Brief
from analysis.tables.search import SearchTable, search_table
from analysis.tables.search_brief import of_search


class SearchResults(Results[SearchTable]):
    """The best candidates, how much of that is luck, and what matters."""

    title: ClassVar[str] = "Search for the best combination"

    def compute(self) -> SearchTable:
        """Compute the table; takes seconds where there is enough to judge importance."""
        return search_table(self.study, self.trials)

    def answers(self) -> tuple[str, Sentences]:
        """Say which candidate is best, and how sure that is."""
        return summary.answers(self.study.plan, self.table, self.trials)

    def brief(self) -> Brief | None:
        """Return the one table that is shown first."""
        return of_search(self.table)

    def sections(self, folder: Path | None, hiplot: str | None) -> list[Section]:
        """Show candidates, importance, the course of the search, and the best model."""
        study, trials, table = self.study, self.trials, self.table
        best = table.progress.best
        return [
            *candidates(table),
            *importance(table, trials),
            *course(table, trials),
            *courses(trials, first_trials(trials), best, accuracies=table.quantity.is_accuracy),
            *costs(study, trials),
            *best_model(study, trials, best, folder),
            *parallel(study, trials, hiplot),
        ]
