"""Ablations: one factor at a time."""

from pathlib import Path
from typing import ClassVar

from analysis.designs.base import Results
from analysis.page.effects import effects, factors
from analysis.page.model import best_model
from analysis.page.parts import Section
from analysis.page.reported import reported
from analysis.page.trials import costs, courses, parallel
from analysis.summary import effects as summary
from analysis.summary.answers import Sentences
from analysis.tables.ablation import AblationTable, ablation_table
from analysis.tables.brief import Brief, of_effects


class AblationResults(Results[AblationTable]):
    """The effect of every level against the baseline."""

    title: ClassVar[str] = "Ablation study, one factor at a time"

    def compute(self) -> AblationTable:
        """Compute the table."""
        return ablation_table(self.study, self.trials, strict=self.strict)

    def answers(self) -> tuple[str, Sentences]:
        """Say which levels matter."""
        return summary.answers(self.study.plan, self.table, self.trials)

    def brief(self) -> Brief | None:
        """Return the one table that is shown first."""
        return of_effects(self.table)

    def sections(self, folder: Path | None, hiplot: str | None) -> list[Section]:
        """Show effects, factor by factor, and what the best model takes for what."""
        study, trials, table = self.study, self.trials, self.table
        best = table.progress.best
        return [
            *effects(table),
            *factors(study, trials, table),
            *courses(trials, trials, best, accuracies=table.quantity.is_accuracy),
            *costs(study, trials, table.inference_blocks()),
            *reported(table),
            *best_model(study, trials, best, folder),
            *parallel(study, trials, hiplot),
        ]
