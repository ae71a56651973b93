"""The table of effects: what every level does to the accuracy, and how sure that is.

What ablations, factorials and studies of other tools have in common; each design adds what only
it has, by the methods that begin with `further`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from analysis import inference_cost, reported
from analysis.csv_text import csv_text
from analysis.inference_cost import flat
from analysis.progress import Progress, facts, progress
from analysis.reported import ReportedRow, compare_reported
from analysis.statistics.collapse import Collapse, collapsed
from analysis.statistics.effect_sizes import NO_EVIDENCE
from analysis.statistics.effects import FEWEST_PAIRS, Ablation, Effect, Row, ablation
from analysis.statistics.power import ALPHA, detectable
from analysis.table_formats import Block, Page, accuracies, for_scale, joined
from analysis.text import p_text, percent, printable
from analysis.trials import Study, Trial, finished
from analysis.verdicts import failed_share, told
from analysis.wording import some
from fmnist_common.designs import VariantKey, variant_key
from fmnist_common.text import level_text


@dataclass(frozen=True, kw_only=True)
class EffectTable:
    """The effects of a study's levels. Accuracies and differences are fractions."""

    # How the design speaks of its comparisons.
    unit: ClassVar[str] = "seed"  # what a pair is
    paired_by: ClassVar[str] = "seeds"
    base: ClassVar[str] = "the baseline"  # what nothing was proven better than
    rows_are_variants: ClassVar[bool] = True  # so that a row has one set of results

    study: str
    dataset: str | None
    design: str | None
    subset: int | None  # training images drawn from the data set; None: all
    epochs: int | None
    seeds: int | None
    compared: str  # which accuracy the differences are of
    progress: Progress
    facts: list[str]  # what was run, and how much of it is there
    baseline: Row
    effects: list[Effect]
    family: int  # p-values that were corrected together
    spread: float | None  # usual standard deviation of paired differences
    reported: list[ReportedRow]  # figures of the plan's source beside ours
    source: dict[str, Any]  # the plan's: whose figures they are
    test_images: int | None
    collapses: list[Collapse[VariantKey, int | None]]  # trainings far below their variant's others
    variant_names: dict[VariantKey, str]

    @property
    def reference(self) -> str:
        """What levels are compared with, in the words of the notes."""
        listed = any(effect.against for effect in self.effects)
        return "the baseline, or what the plan names instead," if listed else "the baseline"

    @property
    def notes(self) -> list[str]:
        """What a reader must know to read the figures, in plain words."""
        return [
            *self.effect_notes(),
            *self.further_notes(),
            *reported.notes(self.reported, self.source),
        ]

    def told(self, effect: Effect) -> str:
        """Say the verdict, and how many of the level's trainings failed or collapsed."""
        return ", ".join(
            filter(None, (told(effect), self._collapsed_share(effect, effect.changes)))
        )

    def told_of_baseline(self) -> str:
        """Say how many of the baseline's trainings failed or collapsed."""
        row = self.baseline
        return ", ".join(filter(None, (failed_share(row), self._collapsed_share(row, {}))))

    def _collapsed_share(self, row: Row, changes: Mapping[str, Any]) -> str:
        if not self.rows_are_variants:
            return ""
        key = variant_key(changes)
        number = sum(collapse.variant == key for collapse in self.collapses)
        return f"collapsed {number}/{row.n}" if number else ""

    def further_blocks(self) -> list[Block]:
        """Lay out what only this design has."""
        return []

    def further_notes(self) -> list[str]:
        """Say how to read what only this design has."""
        return []

    def further_rows(self) -> list[dict[str, Any]]:
        """Return what only this design has, as lines of CSV."""
        return []

    def further_keys(self) -> dict[str, Any]:
        """Return what only this design has, JSON-ready."""
        return {"path": None}

    def detectable_difference(self) -> float | None:
        """Return the true difference that the study proves with 80 % chance, a fraction.

        By the usual spread of its paired differences, as the first of all comparisons under Holm's
        correction. None where there are too few pairs to judge by.
        """
        pairs = max((effect.compared for effect in self.effects if effect.paired), default=0)
        if pairs < FEWEST_PAIRS or self.spread is None:
            return None
        family = sum(effect.p_holm is not None for effect in self.effects)
        smallest = detectable(pairs, ALPHA / max(1, family))
        return None if smallest is None else smallest * self.spread

    def effect_notes(self) -> list[str]:
        """Say how to read the differences."""
        scale = for_scale(self.baseline.test_accuracy_mean, self.test_images)
        if not self.effects:
            return ["± is the standard deviation of n trials; no factor is varied.", *scale]
        return [
            *self._comparison_notes(),
            *self._incomplete_notes(),
            *self._collapse_notes(),
            *self._power(),
            *scale,
        ]

    def _comparison_notes(self) -> list[str]:
        verdicts = {effect.claim for effect in self.effects}
        notes = [
            f"Difference: level minus {self.reference} in points of {self.compared}, paired by "
            f"{self.paired_by}; [ ] is its 95 % interval (paired t). ± is the standard deviation "
            "of n trials.",
            *self._p_notes(),
            f"Better and worse: p is at most {ALPHA}. Not proven: chance may explain it.",
        ]
        if "too few" in verdicts:
            notes.append(
                f"Too few: with fewer than {FEWEST_PAIRS} pairs no claim is made. Run more seeds."
            )
        if self.baseline.failed or any(effect.failed for effect in self.effects):
            notes.append(
                "Failed k/n: k of n trainings diverged or failed. What the others reach is no "
                "evidence for the level: the seeds were chosen by their result. So it is not "
                "called better, nor is it the best; and nothing is called worse than a reference "
                "that failed."
            )
        if "diverged" in verdicts:
            notes.append("Diverged: on every seed; running it again would change nothing.")
        if "reference" in verdicts:
            notes.append("Reference: the rows of a table are compared with it.")
        if "identical" in verdicts:
            notes.append("Identical: no seed's accuracy changed at all.")
        if any(effect.n and not effect.paired for effect in self.effects):
            notes.append(
                "* Not paired, as fewer than two seeds are in common: Welch's t, which needs more "
                "data."
            )
        return notes

    def _p_notes(self) -> list[str]:
        if not self.family:
            return []
        if self.family == 1:
            return ["p: two-sided t-test; a single comparison needs no correction."]
        return [
            f"p: two-sided t-test, corrected by Holm for all {self.family} comparisons of this "
            "table."
        ]

    def _incomplete_notes(self) -> list[str]:
        """Say which rows' means are not of the pairs that their difference is of."""
        base = self.baseline.n
        uneven = [
            effect
            for effect in self.effects
            if effect.paired
            and effect.delta is not None
            and effect.compared < max(effect.n, 0 if effect.against else base)
        ]
        if not uneven or not self.rows_are_variants:
            return []
        names = some([f"{e.factor} {level_text(e.level)}" for e in uneven])
        return [
            printable(
                f"Incomplete pairs ({names}): not all seeds are in common with what the row is "
                f"compared with. The difference is of the {self.paired_by} that are, the means are "
                "of all: the two need not agree, and the difference is the one to go by."
            )
        ]

    def _collapse_notes(self) -> list[str]:
        return [
            f"Collapsed: {named} reached {percent(collapse.value, 1)} %, where half of that "
            f"variant's trainings reach {percent(collapse.median, 1)} %. Its difference is that of "
            "one training above all; look at what happened there."
            for named, collapse in self.named_collapses()
        ]

    def named_collapses(self) -> list[tuple[str, Collapse[VariantKey, int | None]]]:
        """Return the trainings that collapsed, each with its name in words."""
        return [
            (printable(f"{self.variant_names[collapse.variant]}, seed {collapse.seed}"), collapse)
            for collapse in self.collapses
        ]

    def _power(self) -> list[str]:
        """Say what differences so many pairs find, by the usual spread of the differences."""
        pairs = max((effect.compared for effect in self.effects if effect.paired), default=0)
        single, first = detectable(pairs), detectable(pairs, ALPHA / max(1, self.family))
        if self.spread is None or single is None or first is None:
            return []
        corrected = (
            f" ({percent(first * self.spread)} as the first of {self.family} corrected)"
            if self.family > 1
            else ""
        )
        return [
            f"Power: {pairs} pairs, whose differences mostly spread by {percent(self.spread)} "
            f"points, find a true difference of {percent(single * self.spread)} points{corrected} "
            "in 4 of 5 studies. Smaller ones are missed more often."
        ]

    def labels(self) -> dict[str, list[str]]:
        """Return the factor and level of the baseline's row and of every effect's."""
        effects = self.effects
        return {
            "factor": ["baseline", *(printable(effect.factor) for effect in effects)],
            "level": ["", *(printable(level_text(effect.level)) for effect in effects)],
        }

    def inference_blocks(self) -> list[Block]:
        """Lay out how fast each level's network answers."""
        return inference_cost.blocks(self.labels(), [self.baseline, *self.effects])

    def page(self) -> Page:
        """Lay the table out for readers."""
        return Page(printable(self.study), self.facts, self.blocks(), self.notes)

    def blocks(self) -> list[Block]:
        """Lay its parts out."""
        return [
            *self._effect_blocks(),
            *self.further_blocks(),
            *self.inference_blocks(),
            *reported.blocks(self.reported, self.source),
        ]

    def _effect_blocks(self) -> list[Block]:
        effects = self.effects
        rows: list[Row] = [self.baseline, *effects]
        validation = {
            "n": [str(row.n) for row in rows],
            "accuracy": accuracies([(row.val_accuracy_mean, row.val_accuracy_std) for row in rows]),
            "difference": ["", *_differences(effects)],
            "p": ["", *(p_text(effect.p_holm) for effect in effects)],
            "verdict": [self.told_of_baseline(), *map(self.told, effects)],
        }
        test = {
            "accuracy": accuracies(
                [(row.test_accuracy_mean, row.test_accuracy_std) for row in rows]
            ),
            "parameters": ["" if row.parameters is None else f"{row.parameters:,}" for row in rows],
            "seconds": ["" if row.seconds is None else f"{row.seconds:,.1f}" for row in rows],
        }
        test = {title: cells for title, cells in test.items() if any(map(str.strip, cells))}
        figures = (
            "Test accuracy in % (looked at once, never used for a choice), size and seconds"
            if "accuracy" in test
            else "Size and seconds"
        )
        title = f"{self.progress.objective.capitalize()} in %"
        return [
            Block(title, self.labels() | validation, nested=True),
            *([Block(figures, self.labels() | test, nested=True)] if test else []),
        ]

    def csv(self) -> str:
        """Write a row for the baseline, then for each level: fractions at full precision."""
        rows = [{"factor": "baseline", "changes": {}, **asdict(self.baseline)}]
        for effect in self.effects:
            level = printable(level_text(effect.level))
            rows.append(_record(effect) | {"factor": printable(effect.factor), "level": level})
        rows = [row | flat(row["inference"]) for row in rows]
        rows = [*self._with_reported(rows), *self.further_rows()]
        words = ("factor", "level", "changes", "against", "inference")
        names = [field.name for field in fields(Effect) if field.name not in words]
        names.sort(key=lambda name: name in vars(NO_EVIDENCE))  # what the text shows comes first
        more = (name for row in rows for name in row if name not in words)
        heading = dict.fromkeys(["factor", "level", *names, "verdict", *more])
        return csv_text(heading, rows)

    def _with_reported(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Add reported figures to the rows of their variants, and rows for those without one."""
        theirs = {variant_key(row.changes): reported.csv_columns(row) for row in self.reported}
        beside = theirs if self.rows_are_variants else {}
        points = [variant_key(row["changes"]) for row in rows]
        return [
            *(row | beside.get(place, {}) for row, place in zip(rows, points, strict=True)),
            *(
                {"factor": "reported", "level": printable(row.variant), "n": row.n}
                | theirs[variant_key(row.changes)]
                for row in self.reported
                if variant_key(row.changes) not in (points if beside else ())
            ),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form; keys are only ever added."""
        return {
            "study": self.study,
            "dataset": self.dataset,
            "design": self.design,
            "subset": self.subset,
            "epochs": self.epochs,
            "seeds": self.seeds,
            "counts": self.progress.counts,
            "damaged": self.progress.damaged,
            "missing_results": self.progress.missing_results,
            "planned": self.progress.planned,
            "missing": self.progress.missing,
            "baseline": asdict(self.baseline),
            "effects": [_record(effect) for effect in self.effects],
            **self.further_keys(),
            "collapsed": [
                asdict(collapse) | {"variant": self.variant_names[collapse.variant]}
                for collapse in self.collapses
            ],
            "spread_of_differences": self.spread,
            "source": self.source or None,
            "reported": [asdict(row) for row in self.reported],
            "notes": self.notes,
        }


def measured(study: Study, trials: Sequence[Trial]) -> dict[str, Any]:
    """Compute the fields of an `EffectTable`."""
    cells: defaultdict[VariantKey, dict[int | None, float]] = defaultdict(dict)
    names: dict[VariantKey, str] = {}
    for trial in finished(trials):
        if trial.variant is not None and trial.value is not None:
            key = variant_key(trial.changes)
            cells[key][trial.seed] = trial.value
            names.setdefault(key, trial.label)
    found: Ablation = ablation(study.plan, trials)
    now = progress(study, trials)
    return {
        "study": study.name,
        "dataset": study.plan.get("dataset") or study.dataset.get("name"),
        "design": study.plan.get("design"),
        "subset": study.plan.get("subset"),
        "epochs": study.plan.get("epochs"),
        "seeds": study.plan.get("seeds"),
        "compared": study.compared,
        "progress": now,
        "facts": facts(study, now),
        "baseline": found.baseline,
        "effects": found.effects,
        "family": found.family,
        "spread": found.spread,
        "reported": compare_reported(study, trials),
        "source": study.plan.get("source") or {},
        "test_images": study.dataset.get("test_images"),
        "collapses": collapsed(cells),
        "variant_names": names,
    }


def _differences(effects: Iterable[Effect]) -> list[str]:
    return joined(
        (
            "" if effect.delta is None else f"{100 * effect.delta:+.2f}",
            "" if effect.delta_low is None else f"[{percent(effect.delta_low)},",
            "" if effect.delta_high is None else f"{percent(effect.delta_high)}]",
            "" if effect.paired else "*",
        )
        for effect in effects
    )


def _record(effect: Effect) -> dict[str, Any]:
    named = {"factor": effect.factor, "level": effect.level}
    return named | asdict(effect) | {"verdict": effect.claim}
