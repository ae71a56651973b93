"""MLflow: the file store (`mlruns/`) and the SQLite store, as `search_runs` tables them."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from study.importing.readers import database, dialects, documents
from study.importing.readers.source import Reader, Source, digest, make_table
from study.importing.table import CellValue, Table, TableRow

STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}

Metrics = dict[str, dict[int, float]]  # name -> step -> last value


def _runs(source: Source) -> list[Path]:
    """Find the folders of runs, in a run's, an experiment's or the whole store's folder."""
    if not source.path.is_dir():
        return []
    metas = source.files("meta.yaml")
    return [meta.parent for meta in metas if "run_uuid" in meta.read_text("utf-8", "replace")
            or (meta.parent / "metrics").is_dir()]  # fmt: skip


def _read_folder(source: Source) -> Table:
    runs = _runs(source)
    experiment = source.choose("experiments", [run.parent.name for run in runs])
    files = [path for run in runs for path in run.rglob("*") if path.is_file()]
    rows: list[TableRow] = []
    for run in runs:
        meta = documents.load(run / "meta.yaml")
        if run.parent.name != experiment or meta.get("lifecycle_stage") == "deleted":
            continue
        status = meta.get("status")
        cells: dict[str, CellValue] = {
            "run_id": run.name,
            "status": STATUS.get(status, str(status)) if isinstance(status, int) else str(status),
            "tags.mlflow.runName": str(meta.get("run_name") or ""),
        }
        for path in sorted((run / "params").rglob("*")) if (run / "params").is_dir() else ():
            if path.is_file():
                name = path.relative_to(run / "params").as_posix()
                cells[f"params.{name}"] = documents.read_text(path).strip() or None
        rows += _epochs(f"run {run.name[:8]}", cells, _metrics(run / "metrics"))
    table = make_table(source, "an MLflow folder", rows, digest(files, source.path))
    return dialects.by_kind("mlflow").read(table, table.kind)


def _metrics(folder: Path) -> Metrics:
    made: Metrics = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file():
            parts = [line.split() for line in documents.read_text(path).splitlines() if line]
            name = path.relative_to(folder).as_posix()
            # A line is a time in ms, a value and a step; the oldest stores have no step.
            made[name] = {int(part[2]) if len(part) > 2 else 0: float(part[1]) for part in parts}
    return made


def _epochs(where: str, cells: dict[str, CellValue], metrics: Metrics) -> Iterator[TableRow]:
    """Yield a run's row, or a row per step where a metric was logged at several."""
    steps = sorted({step for course in metrics.values() for step in course})
    several = any(len(course) > 1 for course in metrics.values())
    if not several:
        last = {
            f"metrics.{name}": [*course.values()][-1] for name, course in metrics.items() if course
        }
        yield TableRow(where, cells | last)
        return
    for step in steps:
        values = {
            f"metrics.{name}": course[step] for name, course in metrics.items() if step in course
        }
        yield TableRow(f"{where}, step {step}", {**cells, "step": step, **values})


def _read_database(source: Source) -> Table:
    with database.opened(source) as connection:
        names = dict(database.query(connection, "SELECT experiment_id, name FROM experiments"))
        runs = database.query(
            connection,
            "SELECT run_uuid, status, experiment_id, name FROM runs "
            "WHERE lifecycle_stage IS NULL OR lifecycle_stage != 'deleted' "
            "ORDER BY start_time, run_uuid",
        )
        params = database.query(connection, "SELECT run_uuid, key, value FROM params")
        metrics = database.query(
            connection,
            "SELECT run_uuid, key, step, value, is_nan FROM metrics ORDER BY timestamp, step",
        )
    experiment = source.choose("experiments", [str(names.get(run[2], run[2])) for run in runs])
    chosen: dict[str, dict[str, CellValue]] = defaultdict(dict)
    courses: dict[str, Metrics] = defaultdict(lambda: defaultdict(dict))
    for run, key, value in params:
        chosen[run][f"params.{key}"] = str(value).strip() or None
    for run, key, step, value, is_nan in metrics:
        courses[run][key][int(step or 0)] = float("nan") if is_nan else float(value)
    rows: list[TableRow] = []
    for run, status, number, name in runs:
        if str(names.get(number, number)) == experiment:
            cells: dict[str, CellValue] = {
                "run_id": run, "status": status, "tags.mlflow.runName": name
            }  # fmt: skip
            rows += _epochs(f"run {run[:8]}", cells | chosen[run], courses[run])
    return _named(make_table(source, "an MLflow database", rows))


FOLDER = Reader("mlflow", "an MLflow folder", lambda source: bool(_runs(source)), _read_folder)
DATABASE = Reader(
    "mlflow",
    "an MLflow database",
    lambda source: {"experiments", "runs", "metrics", "params"} <= database.tables(source),
    _read_database,
)


def _named(table: Table) -> Table:
    return dialects.by_kind("mlflow").read(table, table.kind)
