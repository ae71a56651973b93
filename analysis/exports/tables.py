"""Rows as files: CSV, JSON, Parquet, Excel. Each is written whole or not at all."""

import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from analysis.csv_text import csv_text
from analysis.exports.records import Records
from analysis.text import printable

FORMATS = ("csv", "parquet", "json", "xlsx")
EXTRA = "pip install 'fmnist-study[export]'"
LONGEST = 32_767  # characters of a cell in Excel
Tables = Mapping[str, Records]


class CannotWrite(Exception):  # noqa: N818 # it is a state of the machine, not a mistake
    """A package is missing; the message says which."""


def write(folder: Path, name: str, tables: Tables, format: str) -> list[Path]:
    """Write tables in one of FORMATS: a file each, or one file with all (JSON, Excel).

    Args:
        folder: where to; made if it is not there.
        name: of a file that holds all tables.
        tables: by name.
        format: one of FORMATS.

    Raises:
        CannotWrite: the package that writes this format is missing.
        OSError: the folder cannot be written.
    """
    files = WRITERS[format](name, tables)
    return [replace(folder / file, content) for file, content in files.items()]


def replace(path: Path, content: bytes | str) -> Path:
    """Write a file whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        if isinstance(content, str):
            content = content.encode("utf-8", "backslashreplace")
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _csv(_: str, tables: Tables) -> Mapping[str, bytes | str]:
    """Write numbers with all their digits, truths as true and false, nothing where there is none.

    A text that a spreadsheet would compute gets an apostrophe before it.
    """
    return {
        f"{name}.csv": csv_text(
            table.columns, ({key: _word(v) for key, v in row.items()} for row in table.rows)
        )
        for name, table in tables.items()
    }


def _word(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _json(name: str, tables: Tables) -> Mapping[str, bytes | str]:
    """Write every value as it is; numbers that are not finite are the words nan, inf and -inf."""
    content = {
        table: [
            {column: finite(row.get(column)) for column in records.columns} for row in records.rows
        ]
        for table, records in tables.items()
    }
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    return {f"{name}.json": f"{text}\n"}


def finite(value: Any) -> Any:
    """Return a value that JSON has: of numbers that are not finite, the word."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _parquet(_: str, tables: Tables) -> Mapping[str, bytes | str]:
    """Write columns of one type; levels of several types are text."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise CannotWrite(f"needs the package pyarrow: {EXTRA}") from error
    files = {}
    for name, table in tables.items():
        columns = {
            column: _one_type([row.get(column) for row in table.rows]) for column in table.columns
        }
        out = io.BytesIO()
        parquet.write_table(pa.table(columns), out)
        files[f"{name}.parquet"] = out.getvalue()
    return files


def _one_type(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) < 2:
        return values
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else str(_word(value)) for value in values]


def _xlsx(name: str, tables: Tables) -> Mapping[str, bytes | str]:
    """Write a workbook with a sheet for each table; no text in it is a formula."""
    try:
        from openpyxl import Workbook
        from openpyxl.cell import WriteOnlyCell
    except ImportError as error:
        raise CannotWrite(f"needs the package openpyxl: {EXTRA}") from error
    book = Workbook(write_only=True)
    for title, table in tables.items():
        sheet = book.create_sheet(title)

        def cell(value: Any, sheet: Any = sheet) -> Any:
            value = finite(value)
            if not isinstance(value, str):
                return value
            made = WriteOnlyCell(sheet, value=printable(value)[:LONGEST])
            made.data_type = "s"  # and not "f", a formula, where it begins with =
            return made

        sheet.append([cell(column) for column in table.columns])
        for row in table.rows:
            sheet.append([cell(row.get(column)) for column in table.columns])
    out = io.BytesIO()
    book.save(out)
    return {f"{name}.xlsx": out.getvalue()}


WRITERS: dict[str, Callable[[str, Tables], Mapping[str, bytes | str]]] = {
    "csv": _csv,
    "parquet": _parquet,
    "json": _json,
    "xlsx": _xlsx,
}
