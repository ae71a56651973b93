"""What the plan's source reported, beside what was measured here."""

from analysis import reported as figures
from analysis.figures.reported import beside_ours
from analysis.page.parts import Part, Section, sheets
from analysis.tables import claims
from analysis.tables.effects import EffectTable


def reported(table: EffectTable) -> list[Section]:
    """Set the reported figures beside ours."""
    if not table.reported and not table.claims:
        return []
    figure = beside_ours(table.reported)
    part = Part(
        figures=[] if figure is None else [figure],
        sheets=sheets(
            [
                *figures.blocks(table.reported, table.source),
                *claims.blocks(table.claims, table.source, table.quantity),
            ]
        ),
    )
    intro = [
        *figures.notes(table.reported, table.source),
        *claims.notes(table.claims, table.source, table.quantity, looks=table.looks is not None),
    ]
    return [Section("reported", "Reported and ours", intro, [part])]
