"""Tables that are written in another shape: objects in cells, a row per metric."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from study.importing.cells import opened
from study.importing.names import understand
from study.importing.table import CellValue, Table, TableRow
from study.plans.names import squeeze
from trainer.errors import UserError

_METRIC = frozenset({"metric", "metricname", "measure", "metrics", "figure"})
_SUMMARY = frozenset(
    {"mean", "average", "avg", "std", "stdev", "sd", "variance", "sem", "total", "overall",
     "median", "sum", "min", "max", "best", "worst", "mittelwert", "durchschnitt", "moyenne",
     "media", "promedio"}
)  # fmt: skip
_VALUE = frozenset({"value", "score", "result", "metricvalue", "figurevalue"})


def reshape(table: Table) -> Table:
    """Return a table with a column per setting and per figure."""
    _refuse_summary_rows(table)
    return _one_row_per_epoch(_one_row_per_run(_open_objects(table)))


def _refuse_summary_rows(table: Table) -> None:
    """Refuse a row such as `mean,,0.91` below the runs; but `max` is a kind of pooling, too.

    Raises:
        UserError: a row is called so, and lacks the seed that all others have, or all settings.
    """
    roles = {name: table.roles.get(name) or understand(name).role for name in table.columns}
    called = [row for row in table.rows if any(map(_is_summary, row.cells.values()))]
    others = [row for row in table.rows if not any(map(_is_summary, row.cells.values()))]
    for row in called if others else ():
        lacking = {
            name for name in table.columns
            if row.cells.get(name) is None
            and all(other.cells.get(name) is not None for other in others)
        }  # fmt: skip
        chosen = {name for name, role in roles.items() if role not in ("figure", "cost", "note")}
        bare = all(name in lacking or _is_summary(row.cells.get(name)) for name in chosen)
        if lacking and (bare or any(roles[name] in ("seed", "run") for name in lacking)):
            word = next(cell for cell in row.cells.values() if _is_summary(cell))
            raise UserError(
                f"{row.where}: {word!r}: is a summary of other rows, not a run; take it out"
            )


def _is_summary(cell: CellValue) -> bool:
    return isinstance(cell, str) and cell.lower().strip(" :.") in _SUMMARY


def _open_objects(table: Table) -> Table:
    """Give what objects in cells hold columns of their own: `{'lr': 0.1}` under config."""
    parts = {name: opened(name, table.column(name)) for name in table.columns}
    made = {name: objects for name, objects in parts.items() if objects is not None}
    if not made:
        return table
    rows = []
    for position, row in enumerate(table.rows):
        cells = {name: cell for name, cell in row.cells.items() if name not in made}
        for name, objects in made.items():
            cells |= {f"{name}.{key}": value for key, value in _flat(objects[position])}
        rows.append(TableRow(row.where, cells))
    columns = tuple(dict.fromkeys(name for row in rows for name in row.cells))
    order = [name for name in table.columns if name in columns]
    order += [name for name in columns if name not in order]
    roles = {}
    for name in order:
        parent = next((column for column in made if name.startswith(f"{column}.")), None)
        role = table.roles.get(name if parent is None else parent)
        if role is not None:
            roles[name] = role
    notes = [*table.notes, f"the objects in {', '.join(made)} are read as columns"]
    return replace(table, columns=tuple(order), rows=tuple(rows), notes=notes, roles=roles)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, CellValue]]:
    for name, entry in value.items():
        if isinstance(entry, Mapping):
            yield from _flat(entry, f"{prefix}{name}.")
        elif isinstance(entry, bool | int | float) or entry is None:
            yield f"{prefix}{name}", entry
        else:
            yield f"{prefix}{name}", str(entry).strip() or None


def _one_row_per_run(table: Table) -> Table:
    """Turn a row per metric into a row per run.

    Raises:
        UserError: a run has a metric twice.
    """
    names = {squeeze(name): name for name in table.columns}
    metric = next((names[squeezed] for squeezed in names if squeezed in _METRIC), None)
    value = next((names[squeezed] for squeezed in names if squeezed in _VALUE), None)
    if metric is None or value is None:
        return table
    words = {cell for cell in table.column(metric) if cell is not None}
    if not words or not all(isinstance(word, str) and understand(word).figure for word in words):
        return table
    others = [name for name in table.columns if name not in (metric, value)]
    runs: dict[tuple[CellValue, ...], dict[str, CellValue]] = {}
    where: dict[tuple[CellValue, ...], str] = {}
    for row in table.rows:
        key = tuple(row.cells.get(name) for name in others)
        cells = runs.setdefault(key, dict(zip(others, key, strict=True)))
        name = str(row.cells.get(metric))
        if name in cells:
            raise UserError(
                f"{row.where}: a second {name} of the same settings; give each run a number in a "
                "column 'seed'"
            )
        cells[name] = row.cells.get(value)
        where.setdefault(key, row.where)
    columns = (*others, *dict.fromkeys(str(cell) for cell in table.column(metric) if cell))
    rows = tuple(TableRow(where[key], cells) for key, cells in runs.items())
    notes = [*table.notes, f"a row per {metric}: read as columns"]
    return replace(table, columns=columns, rows=rows, notes=notes)


_ABOUT_A_ROW = ("figure", "cost", "step", "note")


def _one_row_per_epoch(table: Table) -> Table:
    """Merge the rows of an epoch that steps tell apart, as Lightning logs them.

    Rows belong together if they have all settings, run and epoch in common, and the step does not
    fall; of each figure the epoch's last value counts.
    """
    roles = {name: table.roles.get(name) or understand(name).role for name in table.columns}
    epochs = [name for name, role in roles.items() if role == "epoch"]
    steps = [name for name, role in roles.items() if role == "step"]
    if len(epochs) != 1 or not steps or not any(role == "figure" for role in roles.values()):
        return table
    apart = [name for name, role in roles.items() if role not in _ABOUT_A_ROW]
    newest: dict[tuple[str, ...], tuple[dict[str, CellValue], str]] = {}
    merged: list[tuple[dict[str, CellValue], str]] = []
    for row in table.rows:
        key = tuple(repr(row.cells.get(name)) for name in apart)
        step = _number(row.cells.get(steps[0]))
        last = newest.get(key)
        if last is None or step is None or step < (_number(last[0].get(steps[0])) or 0):
            last = newest[key] = ({}, row.where)
            merged.append(last)
        last[0].update({name: cell for name, cell in row.cells.items() if cell is not None})
    if len(merged) == len(table.rows):
        return table
    notes = [*table.notes, f"rows of one {epochs[0]} are merged: each figure's last value counts"]
    rows = tuple(TableRow(where, cells) for cells, where in merged)
    return replace(table, rows=rows, notes=notes)


def _number(cell: CellValue) -> float | None:
    try:
        return None if cell is None else float(cell)
    except ValueError:
        return None
