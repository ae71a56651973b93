"""Factorials: every combination of the levels."""

from pathlib import Path
from typing import ClassVar

from analysis.designs.base import Results
from analysis.page.effects import effects, factors
from analysis.page.factorial import variance
from analysis.page.model import best_model
from analysis.page.parts import Section
from analysis.page.reported import reported
from analysis.page.trials import costs, courses, parallel
from analysis.summary import factorial as summary
from analysis.summary.answers import Sentences
from analysis.tables.brief import Brief, of_effects
from analysis.tables.factorial import FactorialTable, factorial_table


class FactorialResults(Results[FactorialTable]):
    """The main effect of every level, and how factors act on each other."""

    title: ClassVar[str] = "Factorial study, every combination"

    def compute(self) -> FactorialTable:
        """Compute the table."""
        return factorial_table(self.study, self.trials, strict=self.strict)

    def answers(self) -> tuple[str, Sentences]:
        """Say which levels and which interactions matter."""
        return summary.answers(self.study.plan, self.table, self.trials)

    def brief(self) -> Brief | None:
        """Return the one table that is shown first."""
        return of_effects(self.table)

    def sections(self, folder: Path | None, hiplot: str | None) -> list[Section]:
        """Show effects and interactions, factor by factor, and the best model."""
        study, trials, table = self.study, self.trials, self.table
        best = table.progress.best
        return [
            *effects(table),
            *variance(table.anova, trials, table.quantity),
            *factors(study, trials, table),
            *courses(trials, trials, best, accuracies=table.quantity.is_accuracy),
            *costs(study, trials, table.inference_blocks()),
            *reported(table),
            *best_model(study, trials, best, folder),
            *parallel(study, trials, hiplot),
        ]
