"""Sections of a search: its candidates, what matters, its course."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis import mirrored
from analysis.figures import search as figures
from analysis.figures.base import slug
from analysis.page.parts import (
    NOTHING,
    Cell,
    Column,
    Part,
    Section,
    Sheet,
    headed,
    interval,
    number,
    spread,
)
from analysis.statistics import marginal
from analysis.statistics.candidates import Candidate
from analysis.statistics.dependence import dependences
from analysis.tables.search import SearchTable
from analysis.text import percent, printable
from analysis.trials import Trial
from analysis.wording import count
from fmnist_common.text import level_text

MOST_CANDIDATES = 100  # rows of the table of a search
MOST_DEPENDENCES = 6  # parameters, the most important ones


def candidates(table: SearchTable) -> list[Section]:
    """List the best candidates of a search."""
    if not table.candidates:
        return []
    shown = table.candidates[:MOST_CANDIDATES]
    on_front = {candidate.number for candidate in table.front}
    quantity = table.quantity
    columns = [
        Column("candidate", numeric=False),
        Column("rank"),
        Column("n", hint="seeds"),
        Column(headed(quantity), hint=f"{quantity.name}: mean ± standard deviation over seeds"),
        Column("95 % interval", hint="of the mean"),
        Column("test %", hint=f"test accuracy: {table.test_use}"),
        Column("parameters"),
        Column("seconds", hint="mean training time"),
        *([Column("front", numeric=False)] if on_front else []),
        Column("differs from the baseline in", numeric=False),
    ]

    def line(rank: int, candidate: Candidate) -> list[Cell]:
        return [
            Cell(printable(candidate.variant), candidate.number),
            Cell(str(rank), rank, "number"),
            Cell(str(candidate.n), candidate.n, "number"),
            spread(candidate.val_accuracy_mean, candidate.val_accuracy_std, quantity),
            interval(candidate.val_accuracy_low, candidate.val_accuracy_high, quantity.number),
            Cell(
                mirrored.mark(percent(candidate.test_accuracy_mean), candidate) or NOTHING,
                candidate.test_accuracy_mean,
                "number",
            ),
            number(candidate.parameters),
            number(candidate.seconds, 1),
            *([Cell("yes" if candidate.number in on_front else "")] if on_front else []),
            Cell(_changes(candidate.changes), kind="words"),
        ]

    base = table.baseline
    rows = [
        line(rank, candidate) for rank, candidate in enumerate(shown, 1) if candidate is not base
    ]
    pinned = [line(table.candidates.index(base) + 1, base)] if base is not None else []
    left_out = len(table.candidates) - len(shown)
    notes = [f"{left_out:,} more are in the CSV and JSON formats."] if left_out else []
    notes += mirrored.notes(shown)
    caption = "The best candidates; the baseline is on top"
    return [
        Section(
            "candidates",
            "Candidates",
            [],
            [Part(sheets=[Sheet(caption, columns, rows, pinned, notes)])],
        )
    ]


def _changes(changes: Mapping[str, Any]) -> str:
    words = (
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={level_text(value)}"
        for name, value in changes.items()
    )
    return printable(" ".join(words)) or "nothing"


def importance(table: SearchTable, trials: Sequence[Trial]) -> list[Section]:
    """Show what matters in a search."""
    shown = figures.importance(table.importances)
    warning = [table.importances.warning] if table.importances.warning else []
    if shown is None and not warning:
        return []
    parts = [
        Part(figures=[shown] if shown else []),
        *_dependences(table, trials),
        Part(sheets=_marginal_sheet(table)),
    ]
    return [Section("importance", "What matters", warning, parts)]


def course(table: SearchTable, trials: Sequence[Trial]) -> list[Section]:
    """Show the best so far over the epochs that were spent."""
    drawn = figures.best_so_far(
        table.curve, {trial.number: trial for trial in trials}, table.quantity
    )
    if drawn is None:
        return []
    told = Part(sentences=_spent(table), figures=[drawn])
    return [Section("progress", "Course of the search", [], [told])]


def _marginal_sheet(table: SearchTable) -> list[Sheet]:
    """Say what the trials themselves say, without a model."""
    if not table.marginals:
        return []
    quantity = table.quantity
    columns = [
        Column("parameter", numeric=False),
        Column("value", numeric=False),
        Column("n", hint="finished trials"),
        Column(headed(quantity), hint=f"mean {quantity.name} of these trials"),
        Column("95 % interval", hint="of the mean"),
    ]
    rows = [
        [
            Cell(printable(marginal_effect.parameter)),
            Cell(_values(part), kind="label"),
            Cell(f"{part.n:,}", part.n, "number"),
            spread(part.mean, None, quantity),
            interval(part.low, part.high, quantity.number),
        ]
        for marginal_effect in table.marginals
        for part in marginal_effect.parts
    ]
    notes = [
        "Marginal effects: means of the finished trials with a value, in whatever company it was "
        "tried; partial dependence evens that out."
    ]
    return [Sheet(f"Mean {quantity.noun} by value", columns, rows, notes=notes, folded=True)]


def _values(part: marginal.ValueRange) -> str:
    first, last = (
        f"{value:.4g}" if isinstance(value, float) else level_text(value)
        for value in (part.first, part.last)
    )
    return printable(first if first == last else f"{first} to {last}")


def _spent(table: SearchTable) -> list[str]:
    cost = table.epochs
    if cost is None or not cost.full:
        return []
    pruning = (
        f" Pruning saved {cost.saved_by_pruning:,} of the {cost.full:,} that training every "
        "candidate in full takes."
        if cost.saved_by_pruning
        else ""
    )
    further = (
        f" Replicates of the best on further seeds took {cost.replicates:,} more."
        if cost.replicates
        else ""
    )
    return [f"The candidates took {count(cost.spent, 'epoch')}.{pruning}{further}"]


def _dependences(table: SearchTable, trials: Sequence[Trial]) -> list[Part]:
    names = [item.parameter for item in table.importances.parameters[:MOST_DEPENDENCES]]
    drawn = dependences(trials, names)
    if not drawn:
        return []
    said = (
        "Dots: the finished trials. Blue: the partial dependence, which is what a forest of trees "
        "fitted to them predicts when one parameter is set and the others stay as they were tried, "
        "with its 95 % band over resamples of the trials."
    )
    shown = [
        figures.dependence(item, f"dependence-{slug(item.parameter, index)}", table.quantity)
        for index, item in enumerate(drawn)
    ]
    return [Part(f"How {table.quantity.noun} depends on each", [said], figures=shown)]
