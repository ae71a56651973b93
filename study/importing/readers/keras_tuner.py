"""Keras Tuner's folder: a `trial.json` per trial, and `oracle.json`."""

from dataclasses import replace
from typing import Any

from study.importing.names import HIGHER, LOWER
from study.importing.readers import documents
from study.importing.readers.source import Reader, Source, digest, make_table
from study.importing.table import CellValue, Table, TableRow


def _read(source: Source) -> Table:
    files = source.files("trial.json")
    rows, better = [], dict[str, str]()
    for path in files:
        trial = documents.load(path)
        number = str(trial.get("trial_id", path.parent.name.removeprefix("trial_")))
        cells: dict[str, CellValue] = {"trial_id": number, "status": str(trial.get("status"))}
        chosen = _object(_object(trial.get("hyperparameters")).get("values"))
        kept = {name: level for name, level in chosen.items() if not name.startswith("tuner/")}
        cells |= dict(documents.flat(kept, "hp/"))
        metrics = _object(_object(trial.get("metrics")).get("metrics"))
        for name, metric in metrics.items():
            entry = _object(metric)
            cells[name] = _best(entry)
            better[name] = LOWER if entry.get("direction") == "min" else HIGHER
        rows.append(TableRow(f"trial {number}", cells))
    table = make_table(source, "a Keras Tuner folder", rows, digest(files, source.path))
    objective = _objective(source)
    roles = {name: "setting" for name in table.columns if name.startswith("hp/")}
    roles |= {"hp/seed": "seed"} if "hp/seed" in roles else {}
    roles |= {"trial_id": "run", "status": "state", **dict.fromkeys(better, "figure")}
    if objective in better:
        roles[objective] = "objective"
    return replace(table, roles=roles, better=better, one_run_per_id=True)


def _best(metric: dict[str, Any]) -> float | None:
    """Return the best of a metric's observations, each the mean over executions."""
    means = []
    for observation in metric.get("observations") or ():
        values = _object(observation).get("value") or ()
        numbers = [float(number) for number in values if isinstance(number, int | float)]
        means += [sum(numbers) / len(numbers)] if numbers else []
    pick = min if metric.get("direction") == "min" else max
    return pick(means, default=None)


def _objective(source: Source) -> str:
    """Return the metric that the search was for."""
    for path in source.files("oracle.json"):
        objective = _object(documents.load(path).get("objective"))
        if isinstance(objective.get("name"), str):
            return str(objective["name"])
    return ""


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


FOLDER = Reader(
    "keras-tuner",
    "a Keras Tuner folder",
    lambda source: source.path.is_dir() and bool(source.files("trial.json")),
    _read,
)
