"""Lightning's CSVLogger: `metrics.csv` and the `hparams.yaml` beside it, a folder per run."""

from dataclasses import replace
from pathlib import Path

from study.importing.names import understand
from study.importing.readers import documents, plain
from study.importing.readers.source import Reader, Source, digest, make_table
from study.importing.table import Table, TableRow

METRICS, SETTINGS = "metrics.csv", "hparams.yaml"


def _logs(source: Source) -> list[Path]:
    if source.path.is_dir():
        return source.files(METRICS)
    return [source.path] if source.path.name == METRICS else []


def _recognises(source: Source) -> bool:
    logs = _logs(source)
    if not logs:
        return False
    columns = plain.read(Source(logs[0])).columns
    return {"epoch", "step"} <= {*columns}


def _read(source: Source) -> Table:
    logs, rows, files = _logs(source), list[TableRow](), list[Path]()
    root = source.path if source.path.is_dir() else source.path.parent
    for path in logs:
        settings = path.with_name(SETTINGS)
        files += [file for file in (path, settings) if file.is_file()]
        chosen = documents.load(settings) if _is_filled(settings) else {}
        cells = dict(documents.flat(chosen, "hparams/"))
        name = path.parent.relative_to(root).as_posix()
        run = {"run": name} if len(logs) > 1 else {}
        for row in plain.read(Source(path)).rows:
            where = f"{name}, {row.where}" if len(logs) > 1 else row.where
            rows.append(TableRow(where, {**run, **cells, **row.cells}))
    table = make_table(source, "Lightning's CSV log", rows, digest(files, root))
    roles = {
        column: understand(column).role or "setting"
        for column in table.columns
        if "hparams/" in column
    }
    return replace(
        table,
        roles={**roles, **({"run": "run"} if len(logs) > 1 else {})},
        one_run_per_id=len(logs) > 1,
    )


def _is_filled(path: Path) -> bool:
    return path.is_file() and documents.read_text(path).strip() not in ("", "{}")


LOGS = Reader("lightning", "Lightning's CSV log", _recognises, _read)
