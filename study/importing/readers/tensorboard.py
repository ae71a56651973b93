"""TensorBoard: event files, a folder per run (by tbparse), and the CSV of one scalar."""

import re
from dataclasses import replace
from typing import Any

from study.importing.names import understand
from study.importing.readers import plain, spreadsheet
from study.importing.readers.source import Reader, Source, digest, make_table
from study.importing.table import CellValue, Table, TableRow
from trainer.errors import UserError

_EVENTS = "events.out.tfevents.*"
_NAME = re.compile(r"(?:run-)?(?P<run>.+?)-tag-(?P<tag>.+)\.csv", re.I)
_CSV = {"wall time", "step", "value"}


def _has_events(source: Source) -> bool:
    if source.path.is_dir():
        return bool(source.files(_EVENTS))
    return "tfevents" in source.path.name


def _read_events(source: Source) -> Table:
    try:
        from tbparse import SummaryReader
    except ImportError as error:
        raise spreadsheet.missing("TensorBoard's event files", "tbparse") from error

    root = source.path if source.path.is_dir() else source.path.parent
    files = source.files(_EVENTS) if source.path.is_dir() else [source.path]
    reader = SummaryReader(str(source.path), extra_columns={"dir_name"})
    chosen: dict[str, dict[str, CellValue]] = {}
    for tag, value, folder in _of(reader.hparams, "tag", "value", "dir_name"):
        chosen.setdefault(_run(folder), {})[f"hparams/{tag}"] = _plain(value)
    rows: dict[tuple[str, int], dict[str, CellValue]] = {}
    for step, tag, value, folder in _of(reader.scalars, "step", "tag", "value", "dir_name"):
        run = _run(folder)
        cells = rows.setdefault((run, int(step)), {"run": run, "step": int(step)})
        cells[str(tag)] = float(value)
    if not rows:
        raise UserError("is TensorBoard's event files without a scalar")
    named = [
        TableRow(f"{run or 'run'}, step {step}", {**cells, **chosen.get(run, {})})
        for (run, step), cells in sorted(rows.items())
    ]
    table = make_table(source, "TensorBoard's event files", named, digest(files, root))
    roles = {name: understand(name).role or "setting" for name in table.columns
             if name.startswith("hparams/")}  # fmt: skip
    folders = len({run for run, _ in rows}) > 1 and not chosen
    # Without hyperparameters the folders are all that tells the runs apart.
    roles |= {"run": "identity" if folders else "run", "step": "step"}
    return replace(table, roles=roles, one_run_per_id=not folders)


def _of(frame: Any, *names: str) -> list[tuple[Any, ...]]:
    """Return columns of a data frame row by row; none of an empty one."""
    columns = [frame.get(name) for name in names]
    return [] if any(column is None for column in columns) else list(zip(*columns, strict=True))


def _run(folder: object) -> str:
    """Return a run's folder; `add_hparams` writes its event file one folder below."""
    return re.sub(r"(^|/)\d{9,}(\.\d+)?$", "", str(folder))


def _plain(value: object) -> CellValue:
    return value if isinstance(value, bool | int | float) or value is None else str(value)


def _is_csv(source: Source) -> bool:
    if source.path.is_dir():
        return False
    return {name.lower() for name in plain.read(source).columns} == _CSV


def _read_csv(source: Source) -> Table:
    """Read one scalar of one run; only the file's name says which."""
    table = plain.read(source)
    match = _NAME.fullmatch(source.path.name)
    tag = match["tag"].replace("_", "/") if match else "Value"
    names = {name: {"step": "step", "value": tag}.get(name.lower(), name) for name in table.columns}
    rows = [
        TableRow(row.where, {names[n]: cell for n, cell in row.cells.items()}) for row in table.rows
    ]
    return replace(make_table(source, "TensorBoard's CSV", rows), roles={"Wall time": "note"})


EVENTS = Reader("tensorboard", "TensorBoard's event files", _has_events, _read_events)
CSV = Reader("tensorboard", "TensorBoard's CSV", _is_csv, _read_csv)
