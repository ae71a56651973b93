"""The one table that a search is told by first: its best candidates, or its Pareto front."""

from analysis import mirrored
from analysis.tables import brief
from analysis.tables.brief import Brief
from analysis.tables.search import (
    CHANGES,
    SHOWN,
    SearchTable,
    candidate_columns,
    changes,
    front_columns,
    heading,
)
from analysis.text import printable

NOT_HERE = ("rank", "candidate", "parameters", CHANGES)  # columns that are labels, or too long


def of_search(table: SearchTable) -> Brief | None:
    """Lay out the first candidates and the baseline, and in what the best one differs."""
    if not table.candidates:
        return None
    ranks = {candidate.number: rank for rank, candidate in enumerate(table.candidates, 1)}
    shown = (table.front or table.candidates)[:SHOWN]
    if table.baseline is not None and table.baseline not in shown:
        shown = [*shown, table.baseline]
    columns = (
        front_columns(shown, ranks, table.objectives)
        if table.front
        else candidate_columns(table.quantity, shown, ranks)
    )
    best = shown[0]
    names = [printable(candidate.variant) for candidate in shown]
    return Brief(
        title="Pareto front, best accuracy first" if table.front else heading(table),
        labels=[(str(ranks[own.number]), name) for own, name in zip(shown, names, strict=True)],
        columns={
            title: cells
            for title, cells in (columns | brief.costs(shown)).items()
            if title not in NOT_HERE and any(cells)
        },
        claims=[""] * len(shown),
        notes=[
            *([f"{names[0]}: {changes(best)}"] if best.changes else []),
            *mirrored.notes(shown),
        ],
    )
