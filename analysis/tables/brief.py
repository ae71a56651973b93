"""The one table that a study is told by first: differences, size, cost; a line a row."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis import mirrored
from analysis.quantity import ACCURACY
from analysis.statistics.effects import Effect, Row
from analysis.tables.effect_figures import EffectFigures
from analysis.text import percent, printable
from analysis.verdicts import PROVEN
from fmnist_common.text import level_text

ROWS = 26  # with more levels than that, those of which nothing is proven are only counted


@dataclass(frozen=True)
class Brief:
    """A table: what each row is about, its columns by heading, and what is proven of it."""

    title: str
    labels: list[tuple[str, str]]  # group and name, such as a factor and its level
    columns: dict[str, list[str]]
    claims: list[str]  # better, worse, or something else
    notes: list[str]


def of_effects(table: EffectFigures) -> Brief | None:
    """Lay out what each level does to validation and test accuracy, its size and its seconds.

    Where nothing is varied that is what the baseline reaches, if it was trained.
    """
    if not table.effects and not table.baseline.n:
        return None
    effects, notes = _shown(table.effects)
    rows: list[Row] = [table.baseline, *effects]
    quantity = table.quantity
    compared = "validation" if quantity == ACCURACY else "difference" if effects else quantity.noun
    columns = {
        f"{compared} [95 %]" if effects else compared: [
            quantity.number(table.baseline.val_accuracy_mean),
            *(_difference(table, effect) for effect in effects),
        ],
        "test": mirrored.marked(
            [
                percent(table.baseline.test_accuracy_mean),
                *(ACCURACY.signed(effect.test_delta) for effect in effects),
            ],
            rows,
        ),
        **costs(rows),
    }
    points, percents = (" in points", ", in %") if quantity.unit == "%" else ("", "")
    differences = f"Differences from {table.base}{points}; proven: + better, - worse"
    return Brief(
        title=differences if effects else f"What the baseline reaches{percents}",
        labels=[
            ("baseline", ""),
            *((printable(e.factor), printable(level_text(e.level))) for e in effects),
        ],
        columns={title: cells for title, cells in columns.items() if any(cells)},
        claims=["", *(effect.claim for effect in effects)],
        notes=[*notes, *mirrored.notes(rows)],
    )


def costs(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the columns of size and training time."""
    return {
        "params": ["" if row.parameters is None else f"{row.parameters:,}" for row in rows],
        "seconds": ["" if row.seconds is None else f"{row.seconds:,.1f}" for row in rows],
    }


def _shown(effects: Sequence[Effect]) -> tuple[list[Effect], list[str]]:
    """Choose the rows, and say how many are left out."""
    if len(effects) <= ROWS:
        return list(effects), []
    proven = [effect for effect in effects if effect.claim in PROVEN][:ROWS]
    left = len(effects) - len(proven)
    return proven, [f"and {left} more levels, which --all shows"]


def _difference(table: EffectFigures, effect: Effect) -> str:
    """Write a difference and its interval; why there is none."""
    quantity, low, high = table.quantity, effect.delta_low, effect.delta_high
    if effect.delta is None:
        return table.told(effect)
    if low is None or high is None:
        return quantity.signed(effect.delta)
    return f"{quantity.signed(effect.delta)} [{quantity.number(low)}, {quantity.number(high)}]"
