"""The table of a study without a plan, which another tool wrote: nothing can be compared."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.table_formats import Block
from analysis.tables.effect_figures import measured
from analysis.tables.effects import EffectTable
from analysis.trials import Study, Trial


@dataclass(frozen=True, kw_only=True)
class ForeignTable(EffectTable):
    """What is known of a study of another tool; it has no effects."""

    def effect_notes(self) -> list[str]:
        """Say why there are no differences."""
        return ["This study has no plan of fmnist-study: there is no baseline to compare with."]

    def blocks(self) -> list[Block]:
        """Lay out nothing."""
        return []


def foreign_table(study: Study, trials: Sequence[Trial]) -> ForeignTable:
    """Count the trials of a study of another tool."""
    return ForeignTable(**measured(study, trials))
