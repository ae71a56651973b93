"""The table of a factorial: the main effect of each level, and what explains the variance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from analysis.statistics.factorial import Anova, anova
from analysis.table_formats import Block
from analysis.tables import variance
from analysis.tables.effect_figures import measured
from analysis.tables.effects import EffectTable
from analysis.trials import Study, Trial


@dataclass(frozen=True, kw_only=True)
class FactorialTable(EffectTable):
    """The main effects of a factorial's levels, and its analysis of variance."""

    paired_by: ClassVar[str] = "seeds, each the mean over the same levels of the other factors"
    base: ClassVar[str] = "the baseline's levels"
    no_effect: ClassVar[str] = "Without a proven effect of their own"
    rows_are_variants: ClassVar[bool] = False

    anova: Anova | str  # a text: why there is none
    model: list[list[str]] | None = None  # pairs of factors that were chosen; None: all

    @property
    def reference(self) -> str:
        """What levels are compared with, in the words of the notes."""
        return "the factor's baseline level"

    def further_blocks(self) -> list[Block]:
        """Lay the analysis of variance out."""
        return variance.blocks(self.anova, self.quantity)

    def further_notes(self) -> list[str]:
        """Say how the analysis of variance was done."""
        return [*_model_note(self.model), *variance.notes(self.anova)]

    def further_rows(self) -> list[dict[str, Any]]:
        """Return lines of CSV for the terms, then for pairs of levels."""
        return variance.csv_rows(self.anova)

    def further_keys(self) -> dict[str, Any]:
        """Return the analysis of variance, JSON-ready."""
        return super().further_keys() | variance.as_dict(self.anova) | {"model": self.model}


def factorial_table(
    study: Study, trials: Sequence[Trial], *, strict: bool = False
) -> FactorialTable:
    """Compute the table of a factorial, however far it is; `strict` as `measured` has it."""
    model = study.plan.get("model")
    return FactorialTable(
        **measured(study, trials, strict=strict),
        anova=anova(study.plan, trials),
        model=None if model is None else model["pairs"],
    )


def _model_note(model: list[list[str]] | None) -> list[str]:
    if model is None:
        return []
    pairs = [variance.name(pair) for pair in model]
    which = f"effects add up, but for {', '.join(pairs)}" if pairs else "all effects add up"
    return [f"Model of the variance, as chosen: {which}. What it leaves is taken for noise."]
