"""The table of effects: what every level does to the accuracy, in every format.

What ablations, factorials and studies of other tools have in common; each design adds what only
it has, by the methods that begin with `further`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from analysis import inference_cost, mirrored, reported
from analysis.csv_text import csv_text
from analysis.inference_cost import flat
from analysis.quantity import ACCURACY, Quantity, record
from analysis.statistics.effect_sizes import NO_EVIDENCE
from analysis.statistics.effects import Effect, Row
from analysis.statistics.power import ALPHA
from analysis.table_formats import Block, Page, accuracies, joined, spreads
from analysis.tables import claims, effect_notes
from analysis.tables.effect_figures import EffectFigures
from analysis.text import p_text, printable
from analysis.verdicts import verdict
from fmnist_common.designs import variant_key
from fmnist_common.text import level_text


@dataclass(frozen=True, kw_only=True)
class EffectTable(EffectFigures):
    """The effects of a study's levels, as a document."""

    @property
    def notes(self) -> list[str]:
        """What a reader must know to read the figures, in plain words."""
        return [
            *self.effect_notes(),
            *self.further_notes(),
            *reported.notes(self.reported, self.source),
            *claims.notes(self.claims, self.source, self.quantity, looks=self.looks is not None),
        ]

    def effect_notes(self) -> list[str]:
        """Say how to read the differences."""
        return effect_notes.notes(self)

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
            *claims.blocks(self.claims, self.source, self.quantity),
        ]

    def _effect_blocks(self) -> list[Block]:
        effects = self.effects
        rows: list[Row] = [self.baseline, *effects]
        test = {
            "accuracy": mirrored.marked(
                accuracies([(row.test_accuracy_mean, row.test_accuracy_std) for row in rows]), rows
            ),
            "difference": [
                "",
                *_intervals(
                    ACCURACY,
                    ((e.test_delta, e.test_delta_low, e.test_delta_high, True) for e in effects),
                ),
            ],
            "parameters": ["" if row.parameters is None else f"{row.parameters:,}" for row in rows],
            "seconds": ["" if row.seconds is None else f"{row.seconds:,.1f}" for row in rows],
        }
        test = {title: cells for title, cells in test.items() if any(map(str.strip, cells))}
        figures = (
            f"Test accuracy in % ({self.test_use}), size and seconds"
            if "accuracy" in test
            else "Size and seconds"
        )
        return [
            self._judged_block(),
            *([Block(figures, self.labels() | test, nested=True)] if test else []),
        ]

    def _judged_block(self) -> Block:
        """Lay out what is proven: the baseline, then each factor, with its levels below it."""
        effects = self.effects
        rows: list[Row] = [self.baseline, *effects]
        columns = self.labels() | {
            "n": [str(row.n) for row in rows],
            self.quantity.noun: spreads(
                self.quantity, [(row.val_accuracy_mean, row.val_accuracy_std) for row in rows]
            ),
            "difference": [
                "",
                *_intervals(
                    self.quantity,
                    ((e.delta, e.delta_low, e.delta_high, e.paired) for e in effects),
                ),
            ],
            "at most": ["", *(at_most(self.quantity, effect) for effect in effects)],
            "p": ["", *(p_text(effect.p_adjusted) for effect in effects)],
            "verdict": [self.told_of_baseline(), *map(self.told, effects)],
        }
        # A factor's own row stands before the first of its levels.
        names = [effect.factor for effect in effects]
        for test in reversed(self.factors):
            at = names.index(test.factor) + 1
            cells = {
                "factor": printable(test.factor),
                "p": p_text(test.p_adjusted),
                "verdict": factor_verdict(test.p_adjusted),
            }
            for title, column in columns.items():
                column.insert(at, cells.get(title, ""))
        if not any(columns["at most"]):
            del columns["at most"]
        if self.looks is not None:  # of which there is no p
            del columns["p"]
        return Block(self.quantity.title, columns, nested=True)

    def csv(self) -> str:
        """Write a row for the baseline, then for each level: fractions at full precision."""
        rows = [{"factor": "baseline", "changes": {}, **asdict(self.baseline)}]
        for effect in self.effects:
            level = printable(level_text(effect.level))
            named = {"factor": printable(effect.factor), "level": level}
            rows.append(_record(effect) | named | self._factor_columns(effect.factor))
        rows = [record(self.quantity, row) | flat(row["inference"]) for row in rows]
        rows = [*self._with_reported(rows), *self.further_rows()]
        words = ("factor", "level", "changes", "against", "inference")
        names = [field.name for field in fields(Effect) if field.name not in words]
        names.sort(key=lambda name: name in vars(NO_EVIDENCE))  # what the text shows comes first
        more = (name for row in rows for name in row if name not in words)
        heading = dict.fromkeys(["factor", "level", *names, "verdict", *more])
        return csv_text(heading, rows)

    def _factor_columns(self, factor: str) -> dict[str, Any]:
        """Return what a level's row says of its factor as a whole."""
        for test in self.factors:
            if test.factor == factor:
                return {
                    "factor_f": test.f,
                    "factor_p_value": test.p_value,
                    "factor_p_adjusted": test.p_adjusted,
                }
        return {}

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
            "baseline": record(self.quantity, asdict(self.baseline)),
            "effects": [record(self.quantity, _record(effect)) for effect in self.effects],
            "factors": [
                asdict(test) | {"verdict": factor_verdict(test.p_adjusted)} for test in self.factors
            ],
            "method": self.method,
            "negligible": self.negligible,
            **self.further_keys(),
            "collapsed": [
                asdict(collapse) | {"variant": self.variant_names[collapse.variant]}
                for collapse in self.collapses
            ],
            "spread_of_differences": self.spread,
            "figure": asdict(self.quantity),
            "source": self.source or None,
            "reported": [asdict(row) for row in self.reported],
            "claims": [asdict(claim) for claim in self.claims],
            "notes": self.notes,
        }


def at_most(quantity: Quantity, effect: Effect) -> str:
    """Write how large a difference may be that is not proven, or proven negligible."""
    if effect.bound is None or effect.claim not in ("not proven", "negligible"):
        return ""
    return f"±{quantity.number(effect.bound)}"


def factor_verdict(p: float) -> str:
    """Say in a word whether any level of a factor matters, at 5 %."""
    return "matters" if p <= ALPHA else "not proven"


def _intervals(
    quantity: Quantity,
    differences: Iterable[tuple[float | None, float | None, float | None, bool]],
) -> list[str]:
    """Write differences with their intervals, those that are not paired with a star."""
    return joined(
        (
            quantity.signed(delta),
            "" if low is None else f"[{quantity.number(low)},",
            "" if high is None else f"{quantity.number(high)}]",
            "" if paired else "*",
        )
        for delta, low, high, paired in differences
    )


def _record(effect: Effect) -> dict[str, Any]:
    named = {"factor": effect.factor, "level": effect.level}
    return named | asdict(effect) | {"verdict": verdict(effect)}
