"""JSON: a list of objects, an object that holds one, an object per run, lines, HiPlot."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from study.importing.names import understand
from study.importing.readers import frames, text
from study.importing.readers.source import Source, make_table
from study.importing.table import CellValue, Table, TableRow
from trainer.errors import UserError

LOG, RUN = "log_history", "run of the log"  # of one training by transformers
MANY = 50  # items of a list that is still a level; a longer one is data


def recognises(source: Source) -> bool:
    """Whether a file begins like JSON."""
    head, _ = text.decode(source.data) if source.head else ("", [])
    return head.lstrip()[:1] in ("{", "[") and source.path.suffix.lower() not in (".csv", ".tsv")


def read(source: Source) -> Table:
    """Read JSON; nested objects become names with dots (`config.lr`).

    Raises:
        UserError: it is malformed, or holds no results; names the line or record.
    """
    content, _ = text.decode(source.data)
    records = _documents(content, source)
    rows = [row for where, record in records for row in _rows(where, record)]
    table = make_table(source, "JSON", rows)
    if all(RUN in row.cells for row in rows):
        table = replace(table, kind="Transformers' log", roles={RUN: "run"}, one_run_per_id=True)
    lists = {name: "holds a long list" for row in rows for name, cell in row.cells.items()
             if cell is LONG}  # fmt: skip
    if not lists:
        return table
    kept = tuple(name for name in table.columns if name not in lists)
    cells = ({n: row.cells[n] for n in kept if n in row.cells} for row in rows)
    made = tuple(TableRow(row.where, row_cells) for row, row_cells in zip(rows, cells, strict=True))
    return replace(table, columns=kept, rows=made, left_out=lists)


LONG = "\0long list"  # in place of a list that is no level


def load(content: str) -> Any:
    """Parse one JSON text; an object may not name a value twice.

    Raises:
        UserError: it is too deep, or has a number of thousands of digits, or a name twice.
    """
    try:
        return json.loads(content, object_pairs_hook=_unique)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise UserError("not JSON: nested too deeply") from error
    except ValueError as error:
        raise UserError(f"not JSON: {error}") from error


def lines(content: str) -> list[tuple[str, Any]]:
    """Parse one object per line.

    Raises:
        UserError: a line is no JSON.
    """
    parsed = []
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            try:
                parsed.append((f"line {number}", load(line)))
            except json.JSONDecodeError as error:
                raise UserError(f"line {number}: not JSON: {error.msg}") from error
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"an object has {twice!r} twice")
    return made


def _documents(content: str, source: Source) -> Iterable[tuple[str, Any]]:
    """Return the records of a JSON text with their places."""
    try:
        document = load(content)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data" or len(content.strip().splitlines()) < 2:
            raise UserError(f"line {error.lineno}: not JSON: {error.msg}") from error
        return lines(content)
    if isinstance(document, list):
        return _numbered(document)
    if not isinstance(document, dict):
        raise UserError("is JSON, but neither a list of objects nor an object that holds one")
    if isinstance(document.get("datapoints"), list):  # HiPlot
        return _numbered(map(_datapoint, document["datapoints"]))
    return _within(document, source)


def _within(document: dict[str, Any], source: Source) -> Iterable[tuple[str, Any]]:
    """Return the records that an object holds."""
    table = frames.records_of(document)
    if table is not None:
        return _numbered(table)
    lists = {name: value for name, value in document.items() if _holds_objects(value)}
    if lists:
        chosen = source.choose("lists of objects", lists)
        named = {RUN: 1} if chosen == LOG else {}
        return _numbered(record | named for record in lists[chosen])
    if len(document) == 1 and all(map(_has_objects, document.values())):
        (document,) = document.values()  # {"runs": {"a": {...}, "b": {...}}}
    if document and all(map(_has_figure, document.values())):
        return [(f"run {name!r}", {"name": name, **record}) for name, record in document.items()]
    if _has_figure(document):
        return [("record 1", document)]
    raise UserError(
        "is JSON, but neither a list of objects, nor an object that holds one, nor an object of "
        "figures"
    )


def _has_figure(value: Any) -> bool:
    return isinstance(value, dict) and any(
        understand(_singular(name)).figure is not None for name, _ in _flat(value)
    )


def _has_objects(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(map(_has_figure, value.values()))


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _numbered(records: Iterable[Any]) -> list[tuple[str, Any]]:
    return [(f"record {number}", record) for number, record in enumerate(records, 1)]


def _datapoint(point: Any) -> Any:
    """Return a HiPlot datapoint's values, its identity among them."""
    if not isinstance(point, dict) or not isinstance(point.get("values"), dict):
        return point
    return {name: point[name] for name in ("uid", "from_uid") if name in point} | point["values"]


def _rows(where: str, record: Any) -> Iterator[TableRow]:
    """Yield a record's row, or a row per epoch where its figures are lists, as Keras keeps them."""
    if not isinstance(record, dict):
        raise UserError(f"{where}: is no object")
    cells: dict[str, Any] = {}
    for name, value in _flat(record):
        if name in cells:
            raise UserError(f"{where}: has {name!r} twice")
        cells[name] = value
    courses = {name: cell for name, cell in cells.items() if _is_course(name, cell)}
    for name in [name for name in courses if _singular(name) in cells and _singular(name) != name]:
        del courses[name], cells[name]  # `val_accs` beside the run's own `val_acc`
    rest = {name: _cell(cell) for name, cell in cells.items() if name not in courses}
    length = max(map(len, courses.values()), default=0)
    if not courses:
        yield TableRow(where, rest)
    for epoch in range(length):
        at_epoch = {n: _cell(v[epoch]) if epoch < len(v) else None for n, v in courses.items()}
        counted = {} if {"epoch"} & {*rest, *at_epoch} else {"epoch": epoch + 1}
        yield TableRow(f"{where}, epoch {epoch + 1}", {"run": where, **rest, **counted, **at_epoch})


def _is_course(name: str, value: Any) -> bool:
    """Whether a value is a figure of every epoch; a course may have any length."""
    numbers = isinstance(value, list) and all(isinstance(item, int | float) for item in value)
    named = understand(_singular(name)).figure is not None or _singular(name) == "epoch"
    return numbers and named and len(value) > 0


def _singular(name: str) -> str:
    plural = name.endswith("s") and not name.lower().endswith(("loss", "ss"))
    return name[:-1] if plural and understand(name).figure is None else name


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Name what nested objects hold by its path: `config.lr`."""
    for name, value in record.items():
        path = prefix + name.strip()
        if isinstance(value, dict):
            yield from _flat(value, f"{path}.")
        elif path:
            yield path, value
        else:
            raise UserError("an object has a value without a name")


def _cell(value: Any) -> CellValue:
    if isinstance(value, list):
        return LONG if len(value) > MANY else json.dumps(value)
    if isinstance(value, str):
        return value.strip() or None
    return value if isinstance(value, bool | int | float) or value is None else str(value)
