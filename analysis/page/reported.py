"""What the plan's source reported, beside what was measured here."""

from analysis import reported as figures
from analysis.figures.reported import beside_ours
from analysis.page.parts import Part, Section, sheets
from analysis.tables import claims
from analysis.tables.effects import EffectTable


def reported(table: EffectTable) -> list[Section]:
    """Set the reported figures beside ours, then judge what the source concludes."""
    return [*_figures(table), *_claims(table)]


def _figures(table: EffectTable) -> list[Section]:
    if not table.reported:
        return []
    figure = beside_ours(table.reported)
    part = Part(
        figures=[] if figure is None else [figure],
        sheets=sheets(figures.blocks(table.reported, table.source)),
    )
    intro = figures.notes(table.reported, table.source)
    return [Section("reported", "Reported and ours", intro, [part])]


def _claims(table: EffectTable) -> list[Section]:
    if not table.claims:
        return []
    intro = claims.notes(table.claims, table.source, table.quantity, looks=table.looks is not None)
    part = Part(sheets=sheets(claims.blocks(table.claims, table.source, table.quantity)))
    return [Section("claims", "Claims of the source", intro, [part])]
