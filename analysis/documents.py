"""A document: figures that are computed once and written as text, Markdown, CSV, LaTeX or JSON."""

import json
from typing import Any, Protocol

from analysis.table_formats import WRITERS, Page

FORMATS = ("text", "markdown", "csv", "latex", "json")


class Document(Protocol):
    """What every table of a study, and a comparison of two, can be written as."""

    def page(self) -> Page:
        """Lay it out for readers, with percentages; text is mostly at most 80 columns wide."""

    def csv(self) -> str:
        """Write its rows: fractions at full precision, an empty cell for what is not known."""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, a contract of docs and users: keys are only ever added."""


def render(document: Document, format: str) -> str:
    """Write a document in one of `FORMATS`; ends with a line break."""
    if format == "json":
        return json.dumps(document.as_dict(), indent=2, allow_nan=False) + "\n"
    return document.csv() if format == "csv" else WRITERS[format](document.page())
