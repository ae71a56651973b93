"""Rows as CSV that a spreadsheet opens as text and numbers, never as a program."""

import csv
import io
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
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_cell, names))
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if not (isinstance(value, str) and value.startswith(FORMULA)):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
