"""The table of an ablation: one factor at a time, and perhaps the path to the best combination."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from analysis import path as paths
from analysis.path import AblationPath, path
from analysis.table_formats import Block
from analysis.tables import looks
from analysis.tables.effect_figures import measured
from analysis.tables.effects import EffectTable
from analysis.trials import Study, Trial


@dataclass(frozen=True, kw_only=True)
class AblationTable(EffectTable):
    """The effects of an ablation's levels."""

    path: AblationPath | None  # where combinations were trained

    def further_blocks(self) -> list[Block]:
        """Lay out the looks, and the path."""
        return [*looks.blocks(self.looks, self.effects), *paths.blocks(self.path)]

    def further_notes(self) -> list[str]:
        """Say how the path was chosen."""
        return paths.notes(self.path)

    def further_rows(self) -> list[dict[str, Any]]:
        """Return a line of CSV for each step of the path."""
        return paths.csv_rows(self.path)

    def further_keys(self) -> dict[str, Any]:
        """Return the looks and the path, JSON-ready."""
        return {
            "looks": looks.as_dict(self.looks),
            "path": None if self.path is None else asdict(self.path),
        }


def ablation_table(study: Study, trials: Sequence[Trial], *, strict: bool = False) -> AblationTable:
    """Compute the table of an ablation, however far it is; `strict` as `measured` has it."""
    return AblationTable(**measured(study, trials, strict=strict), path=path(study.plan, trials))
