"""Rows as CSV that a spreadsheet opens as text and numbers, never as a program."""

import csv
import io
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a cell that is computed begins with


def csv_text(heading: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Write rows as CSV; keys that are not in the heading are left out.

    Names may come from anywhere, and a spreadsheet computes a cell that begins with one of
    `FORMULA`: text of that kind, unless it is a number, gets an apostrophe before it, which
    spreadsheets take for "this is text" (OWASP, "CSV injection").
    """
    names = list(heading)
    out = io.StringIO()
    plain = csv.writer(out, lineterminator="\n")
    # Before Python 3.13 a carriage return alone is not quoted, and ends the line for readers.
    quoting = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    lines: Iterable[list[Any]] = ([row.get(name) for name in names] for row in rows)
    for cells in itertools.chain([names], lines):
        returns = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoting if returns else plain).writerow(map(_cell, cells))
    return out.getvalue()


def _cell(value: Any) -> Any:
    if not (isinstance(value, str) and value.startswith(FORMULA)):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
