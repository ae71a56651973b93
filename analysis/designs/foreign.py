"""Studies without a plan, which another tool wrote."""

from pathlib import Path
from typing import ClassVar

from analysis.designs.base import Results
from analysis.page.parts import Section
from analysis.page.trials import parallel
from analysis.summary import foreign as summary
from analysis.summary.answers import Sentences
from analysis.tables.brief import Brief, of_effects
from analysis.tables.foreign import ForeignTable, foreign_table


class ForeignResults(Results[ForeignTable]):
    """Trials, of which nobody knows what belongs together."""

    title: ClassVar[str] = "Study"

    def compute(self) -> ForeignTable:
        """Compute the table."""
        return foreign_table(self.study, self.trials)

    def answers(self) -> tuple[str, Sentences]:
        """Say what is best, and that nothing can be judged."""
        return summary.answers(self.table.progress)

    def brief(self) -> Brief | None:
        """Return the one table that is shown first."""
        return of_effects(self.table)

    def sections(self, folder: Path | None, hiplot: str | None) -> list[Section]:
        """Show the trials."""
        return parallel(self.study, self.trials, hiplot)
