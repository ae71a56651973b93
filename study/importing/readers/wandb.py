"""Weights & Biases: local run folders, and what a chart exports."""

import re
from collections import defaultdict
from dataclasses import replace

from study.importing.names import understand
from study.importing.readers import documents, plain
from study.importing.readers.source import Reader, Source, digest, make_table
from study.importing.table import CellValue, Table, TableRow

_CHART = re.compile(r"(?P<run>.+) - (?P<metric>.+)")
_BOUNDS = re.compile(r"__(MIN|MAX)$")
_AXES = frozenset(
    {"step", "epoch", "trainer/global_step", "global_step", "relative time (process)"}
)


def _runs(source: Source) -> list[str]:
    if not source.path.is_dir():
        return []
    return [path.as_posix() for path in source.files("wandb-summary.json")]


def _read_runs(source: Source) -> Table:
    summaries = source.files("wandb-summary.json")
    files, rows = list(summaries), []
    for path in summaries:
        run = path.parent.parent.name if path.parent.name == "files" else path.parent.name
        cells: dict[str, CellValue] = {"run": run}
        config = path.with_name("config.yaml")
        if config.is_file():
            files.append(config)
            for name, entry in documents.load(config).items():
                if not name.startswith("_") and name != "wandb_version":
                    value = (
                        entry.get("value")
                        if isinstance(entry, dict) and "value" in entry
                        else entry
                    )
                    cells |= dict(documents.flat({name: value}, "config/"))
        summary = {
            n: figure for n, figure in documents.load(path).items() if not n.startswith("_wandb")
        }
        cells |= dict(documents.flat(summary, ""))
        rows.append(TableRow(run, cells))
    table = make_table(source, "W&B run folders", rows, digest(files, source.path))
    roles = {name: understand(name).role or "setting" for name in table.columns
             if name.startswith("config/")}  # fmt: skip
    notes = {name: "note" for name in table.columns if name.startswith("_")}
    return replace(table, roles={**roles, **notes, "run": "run"}, one_run_per_id=True)


def _is_chart(source: Source) -> bool:
    """Whether the headings are an axis and `RUN - METRIC`, some with `__MIN` and `__MAX`."""
    if source.path.is_dir():
        return False
    first, *others = plain.read(source).columns or ("",)
    return first.lower() in _AXES and bool(others) and all(_CHART.fullmatch(n) for n in others)


def _read_chart(source: Source) -> Table:
    table = plain.read(source)
    axis = table.columns[0]
    runs: dict[str, dict[str, str]] = defaultdict(dict)  # run -> column -> metric
    for column in table.columns[1:]:
        match = _CHART.fullmatch(column)
        if match and not _BOUNDS.search(column) and match["metric"] != "_step":
            runs[match["run"]][column] = match["metric"]
    rows = []
    for run, columns in runs.items():
        for row in table.rows:
            cells = {metric: row.cells.get(column) for column, metric in columns.items()}
            if any(cell is not None for cell in cells.values()):
                where = f"{run}, {row.where}"
                rows.append(TableRow(where, {"name": run, "step": row.cells.get(axis), **cells}))
    made = make_table(source, "a W&B chart", rows)
    return replace(made, roles={"name": "identity", "step": "step"})


FOLDER = Reader("wandb", "W&B run folders", lambda source: bool(_runs(source)), _read_runs)
CHART = Reader("wandb", "a W&B chart", _is_chart, _read_chart)
