"""Ray Tune's experiment folder: `params.json` with `result.json` or `progress.csv`, per trial."""

from pathlib import Path

from study.importing.readers import dialects, documents, plain, records
from study.importing.readers.source import Reader, Source, digest, make_table
from study.importing.table import CellValue, Table, TableRow


def _trials(source: Source) -> list[Path]:
    if not source.path.is_dir():
        return []
    parents = {path.parent for path in source.files("result.json", "progress.csv")}
    return sorted(folder for folder in parents if (folder / "params.json").is_file())


def _read(source: Source) -> Table:
    rows: list[TableRow] = []
    files: list[Path] = []
    for folder in _trials(source):
        possible = [folder / name for name in ("params.json", "result.json", "progress.csv")]
        files += [path for path in possible if path.is_file()]
        cells: dict[str, CellValue] = {"trial_id": folder.name}
        cells |= dict(documents.flat(documents.load(folder / "params.json"), "config/"))
        cells["state"] = "ERROR" if (folder / "error.txt").exists() else "TERMINATED"
        results = _results(folder)
        for number, row in enumerate(results, 1):
            measured = {name: value for name, value in row.items() if not name.startswith("config")}
            counted = {"training_iteration": number} | measured
            rows.append(TableRow(f"{folder.name}, result {number}", counted | cells))
        if not results:
            cells["state"] = "ERROR"
            rows.append(TableRow(folder.name, cells))
    table = make_table(source, "a Ray Tune folder", rows, digest(files, source.path))
    return dialects.by_kind("ray").read(table, table.kind)


def _results(folder: Path) -> list[dict[str, CellValue]]:
    path = folder / "result.json"
    if path.is_file() and path.stat().st_size:
        parsed = records.lines(documents.read_text(path))
        return [
            dict(documents.flat(record, "")) for _, record in parsed if isinstance(record, dict)
        ]
    path = folder / "progress.csv"
    if path.is_file() and path.stat().st_size:
        return [dict(row.cells) for row in plain.read(Source(path)).rows]
    return []


FOLDER = Reader("ray", "a Ray Tune folder", lambda source: bool(_trials(source)), _read)
