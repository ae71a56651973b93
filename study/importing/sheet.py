"""A file of results as rows of cells: CSV, TSV, JSON, lines of JSON, HiPlot's experiments."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.errors import UserError

Cell = bool | int | float | str | None  # of a text file: str, and None where it is empty

MAX_ROWS = 1_000_000
MAX_TEXT = 200  # characters of a column's name
DELIMITERS = "\t,;"
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


@dataclass(frozen=True)
class Row:
    """A row, and where it stands in the file: `line 3`, `record 3`."""

    where: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Sheet:
    """A table as it stands in a file; nothing has been interpreted yet."""

    file: str  # its name without folders
    sha256: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)  # column -> why

    def column(self, name: str) -> list[Cell]:
        """Return a column's cells; None where a row has none."""
        return [row.cells.get(name) for row in self.rows]


def read_sheet(path: Path) -> Sheet:
    """Read a file; see `parse_sheet`.

    Raises:
        UserError: it cannot be read, or is malformed; names the line.
    """
    try:
        return parse_sheet(path, path.read_bytes())
    except OSError as error:
        raise UserError(f"file {path}: {error.strerror}") from error


def parse_sheet(path: Path, data: bytes) -> Sheet:
    """Parse a file's content: JSON if it begins like it, else text with a heading.

    Raises:
        UserError: it is malformed; names the line.
    """
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"file {path}: is not text in UTF-8") from error
    delimited = path.suffix.lower() in (".csv", ".tsv") or text.lstrip()[:1] not in ("{", "[")
    try:
        if delimited:
            columns, rows, left_out = _delimited(text, path.suffix.lower())
        else:
            columns, rows, left_out = _records(_json(text))
        if not rows:
            raise UserError("holds no results")
        for name in columns:
            if len(name) > MAX_TEXT:
                raise UserError(f"column {name[:20]!r}...: its name is longer than {MAX_TEXT}")
    except UserError as error:
        raise UserError(f"file {path}: {error}") from error
    return Sheet(path.name, hashlib.sha256(data).hexdigest(), columns, rows, left_out)


_Parts = tuple[tuple[str, ...], tuple[Row, ...], dict[str, str]]


def _delimited(text: str, suffix: str) -> _Parts:
    delimiter = "\t" if suffix == ".tsv" else _delimiter(text)
    # Line breaks are left to the reader, which knows those inside quotes.
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records = _numbered(lines)
    first = next(records, None)
    if first is None:
        raise UserError("is empty")
    where, heading = first
    rows = []
    for where_row, cells in records:
        if len(cells) != len(heading):
            raise UserError(f"{where_row}: {len(cells)} cells, but the heading has {len(heading)}")
        rows.append((where_row, cells))
        _check_count(rows)
    names = [_name(where, heading, position, rows) for position in range(len(heading))]
    columns = tuple(name for name in names if name)
    for name in columns:
        if columns.count(name) > 1:
            raise UserError(f"{where}: column {name!r} is there twice")
    made = (
        Row(own, {name: cell or None for name, cell in zip(names, cells, strict=True) if name})
        for own, cells in rows
    )
    return columns, tuple(made), {}


def _delimiter(text: str) -> str:
    """Choose what splits the heading into most names; a comma if nothing does."""
    heading = next((line for line in text.splitlines() if line.strip()), "")
    return max(",\t;", key=lambda own: len(next(csv.reader([heading], delimiter=own), [])))


def _numbered(lines: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield the records that are not blank, with the line on which each begins."""
    begin = 1
    try:
        for cells in lines:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield f"line {begin}", stripped
            begin = lines.line_num + 1
    except csv.Error as error:
        raise UserError(f"line {begin}: {error}") from error


def _name(
    where: str, heading: Sequence[str], position: int, rows: Iterable[tuple[str, list[str]]]
) -> str:
    """Name a column; nothing for an empty one, such as a comma at the end of each line makes."""
    if heading[position]:
        return heading[position]
    if not any(cells[position] for _, cells in rows):
        return ""
    if position == 0 and "index" not in heading:
        return "index"  # pandas writes its row numbers under no name
    raise UserError(f"{where}: column {position + 1} has no name")


def _json(text: str) -> list[tuple[str, Any]]:
    """Return the records of a JSON text with their places."""
    try:
        found = _loads(text)
    except json.JSONDecodeError as error:
        lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
        if error.msg != "Extra data" or len(lines) < 2:
            raise UserError(f"line {error.lineno}: not JSON: {error.msg}") from error
        return [(f"line {number}", _line(number, line)) for number, line in lines]
    if isinstance(found, dict) and isinstance(found.get("datapoints"), list):  # HiPlot
        return [(f"record {n}", _datapoint(own)) for n, own in enumerate(found["datapoints"], 1)]
    records = found.get("results") if isinstance(found, dict) else found
    if not isinstance(records, list):
        raise UserError(
            "is JSON, but neither a list of objects, nor an object with a list 'results', nor a "
            "HiPlot experiment with 'datapoints'"
        )
    return [(f"record {number}", own) for number, own in enumerate(records, 1)]


def _line(number: int, line: str) -> Any:
    try:
        return _loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"line {number}: not JSON: {error.msg}") from error


def _loads(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise UserError("not JSON: nested too deeply") from error
    except ValueError as error:  # a number of thousands of digits
        raise UserError(f"not JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"an object has {twice!r} twice")
    return found


def _datapoint(own: Any) -> Any:
    """Return a HiPlot datapoint's values, its identity among them."""
    if not isinstance(own, dict) or not isinstance(own.get("values"), dict):
        return own
    identity = {name: own[name] for name in ("uid", "from_uid") if name in own}
    return identity | own["values"]


def _records(records: Sequence[tuple[str, Any]]) -> _Parts:
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    columns: dict[str, None] = {}
    for where, own in records:
        if not isinstance(own, dict):
            raise UserError(f"{where}: is no object")
        cells: dict[str, Cell] = {}
        for name, value in _flat(own):
            if isinstance(value, list):
                left_out.setdefault(name, f"holds a list ({where})")
            elif name in cells:
                raise UserError(f"{where}: has {name!r} twice")
            else:
                cells[name] = value.strip() or None if isinstance(value, str) else value
        columns |= dict.fromkeys(cells)
        rows.append(Row(where, cells))
        _check_count(rows)
    # A column that is a list in one row is no column of the others either.
    kept = tuple(name for name in columns if name not in left_out)
    rows = [Row(row.where, {n: row.cells[n] for n in kept if n in row.cells}) for row in rows]
    return kept, tuple(rows), left_out


def _flat(own: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Name what nested objects hold by its path: `config.lr`."""
    for name, value in own.items():
        path = prefix + name.strip()
        if isinstance(value, dict):
            yield from _flat(value, f"{path}.")
        elif path:
            yield path, value
        else:
            raise UserError("an object has a value without a name")


def _check_count(rows: Sequence[Any]) -> None:
    if len(rows) > MAX_ROWS:
        raise UserError(f"holds more than {MAX_ROWS:,} rows")
