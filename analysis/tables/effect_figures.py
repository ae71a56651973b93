"""The figures behind a table of effects, whatever form they are shown in."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import special

from analysis.claims import JudgedClaim, judge_claims
from analysis.looks import seed_path
from analysis.progress import Progress, facts, progress
from analysis.quantity import Quantity
from analysis.reported import ReportedRow, compare_reported
from analysis.statistics.comparisons import STRICT
from analysis.statistics.effects import FEWEST_PAIRS, Effect, FactorTest, Row, ablation
from analysis.statistics.power import ALPHA, POWER, detectable
from analysis.statistics.sequential import Path as Looks
from analysis.tables.looks import SEQUENTIAL, decided
from analysis.text import printable
from analysis.trials import Study, Trial, finished
from analysis.verdicts import failed_share, told
from fmnist_common.collapse import Collapse, collapsed
from fmnist_common.designs import VariantKey, variant_key


@dataclass(frozen=True, kw_only=True)
class EffectFigures:
    """The effects of a study's levels. Accuracies and differences are fractions."""

    # How the design speaks of its comparisons.
    paired_by: ClassVar[str] = "seeds"
    base: ClassVar[str] = "the baseline"  # what nothing was proven better than
    no_effect: ClassVar[str] = "Without any proven effect"  # of factors
    rows_are_variants: ClassVar[bool] = True  # so that a row has one set of results

    study: str
    dataset: str | None
    design: str | None
    subset: int | None  # training images drawn from the data set; None: all
    epochs: int | None
    seeds: int | None
    quantity: Quantity  # what the differences are of
    test_use: str  # what test data were used for
    progress: Progress
    facts: list[str]  # what was run, and how much of it is there
    baseline: Row
    effects: list[Effect]
    factors: list[FactorTest]  # whether a factor matters at all; of an ablation
    method: str  # how effects are judged; see `statistics.comparisons`
    negligible: float | None  # a difference that would not matter, by the plan
    family: int  # comparisons that were judged together
    spread: float | None  # usual standard deviation of paired differences
    reported: list[ReportedRow]  # figures of the plan's source beside ours
    claims: list[JudgedClaim]  # what the source concludes, judged by what is here
    source: dict[str, Any]  # the plan's: whose figures they are
    test_images: int | None
    collapses: list[Collapse[VariantKey, int | None]]  # trainings far below their variant's others
    variant_names: dict[VariantKey, str]
    looks: Looks | None  # of a study that is run until it is sure

    @property
    def reference(self) -> str:
        """What levels are compared with, in the words of the notes."""
        listed = any(effect.against for effect in self.effects)
        return "the baseline, or what the plan names instead," if listed else "the baseline"

    @property
    def strict(self) -> bool:
        """Whether each comparison was judged by its own values alone."""
        return self.method == STRICT

    def told(self, effect: Effect) -> str:
        """Say the verdict, and how many of the level's trainings failed or collapsed."""
        words = told(effect), self._collapsed_share(effect, effect.changes)
        return ", ".join(filter(None, words))

    def told_of_baseline(self) -> str:
        """Say how many of the baseline's trainings failed or collapsed."""
        row = self.baseline
        return ", ".join(filter(None, (failed_share(row), self._collapsed_share(row, {}))))

    def _collapsed_share(self, row: Row, changes: Mapping[str, Any]) -> str:
        number = self._collapsed(changes) if self.rows_are_variants else 0
        return f"collapsed {number}/{row.n}" if number else ""

    def _collapsed(self, changes: Mapping[str, Any]) -> int:
        key = variant_key(changes)
        return sum(collapse.variant == key for collapse in self.collapses)

    def named_collapses(self) -> list[tuple[str, Collapse[VariantKey, int | None]]]:
        """Return the trainings that collapsed, each with its name in words."""
        return [
            (printable(f"{self.variant_names[collapse.variant]}, seed {collapse.seed}"), collapse)
            for collapse in self.collapses
        ]

    def detectable_difference(self) -> float | None:
        """Return the true difference that the study proves with 80 % chance, a fraction.

        Of a usual comparison: the median, without those that a collapsed training has widened. From
        half the width w of a simultaneous interval, about c standard errors with c Student's
        corrected quantile: found with 80 % power is w * (1 + 0.84 / c). None where there are too
        few pairs to judge by, and for a study that goes on until it is sure.
        """
        if self.looks is not None:
            return None
        usual = [
            effect
            for effect in self.effects
            if effect.paired
            and effect.compared >= FEWEST_PAIRS
            and not (self._collapsed(effect.changes) or self._collapsed(effect.against))
        ]
        if self.strict:
            pairs = max((effect.compared for effect in usual), default=0)
            smallest = detectable(pairs, ALPHA / max(1, self.family))
            return None if smallest is None or self.spread is None else smallest * self.spread
        differences = [
            (effect.delta_high - effect.delta_low) / 2 * self._with_power(effect.freedom)
            for effect in usual
            if effect.delta_low is not None
            and effect.delta_high is not None
            and effect.freedom is not None
            and effect.delta_high > effect.delta_low
        ]
        return float(np.median(differences)) if differences else None

    def _with_power(self, freedom: float) -> float:
        quantile = float(special.stdtrit(freedom, 1 - ALPHA / (2 * max(1, self.family))))
        return 1 + float(special.ndtri(POWER)) / quantile


def measured(study: Study, trials: Sequence[Trial], *, strict: bool = False) -> dict[str, Any]:
    """Compute the fields of `EffectFigures`.

    Args:
        study: with or without a plan.
        trials: all of its trials.
        strict: judge every comparison by its own values alone, and correct by Holm.
    """
    plan = study.plan
    comparison = ablation(plan, trials, strict)
    cells, names = _cells(trials)
    now = progress(study, trials)
    points = plan.get("negligible")
    path = None if strict else seed_path(plan, trials)
    reported = compare_reported(study, trials)
    return {
        "study": study.name,
        "dataset": plan.get("dataset") or study.dataset.get("name"),
        "design": plan.get("design"),
        "subset": plan.get("subset"),
        "epochs": plan.get("epochs"),
        "seeds": plan.get("seeds"),
        "quantity": study.quantity,
        "test_use": study.test_use,
        "progress": now,
        "facts": facts(study, now),
        "baseline": comparison.baseline,
        "effects": comparison.effects if path is None else decided(comparison.effects, path),
        # An F test knows nothing of looks.
        "factors": comparison.factors if path is None else [],
        "method": comparison.method if path is None else SEQUENTIAL,
        "negligible": None if points is None else points / 100,
        "family": comparison.family,
        "spread": comparison.spread,
        "reported": reported,
        "claims": judge_claims(study, trials, reported, strict=strict),
        "source": plan.get("source") or {},
        "test_images": study.dataset.get("test_images"),
        "collapses": collapsed(cells) if study.quantity.is_accuracy else [],
        "variant_names": names,
        "looks": path,
    }


def _cells(
    trials: Iterable[Trial],
) -> tuple[dict[VariantKey, dict[int | None, float]], dict[VariantKey, str]]:
    """Return the accuracies by variant and seed, and the names of the variants."""
    cells: defaultdict[VariantKey, dict[int | None, float]] = defaultdict(dict)
    names: dict[VariantKey, str] = {}
    for trial in finished(trials):
        if trial.variant is not None and trial.value is not None:
            key = variant_key(trial.changes)
            cells[key][trial.seed] = trial.value
            names.setdefault(key, trial.label)
    return dict(cells), names
