"""Optuna's SQLite storage, as `trials_dataframe` tables it."""

import json
from collections import defaultdict
from dataclasses import replace
from typing import Any

from study.importing.names import HIGHER, LOWER
from study.importing.readers import database, dialects
from study.importing.readers.source import Reader, Source, make_table
from study.importing.table import CellValue, Table, TableRow
from trainer.errors import UserError

SPECIAL = {"INF_POS": float("inf"), "INF_NEG": float("-inf"), "NAN": float("nan")}


def _read(source: Source) -> Table:
    with database.opened(source) as connection:

        def rows(sql: str, *values: Any) -> list[Any]:
            return database.query(connection, sql, values)

        studies = dict(rows("SELECT study_name, study_id FROM studies ORDER BY study_id"))
        name = source.choose("studies", studies)
        number = studies[name]
        directions = [direction for (direction,) in rows(
            "SELECT direction FROM study_directions WHERE study_id = ? ORDER BY objective", number
        )]  # fmt: skip
        of_study = "WHERE trial_id IN (SELECT trial_id FROM trials WHERE study_id = ?)"
        trials = rows(
            "SELECT trial_id, number, state FROM trials WHERE study_id = ? ORDER BY number", number
        )
        params = rows(f"SELECT trial_id, param_name, param_value, distribution_json "
                      f"FROM trial_params {of_study}", number)  # fmt: skip
        values = rows(f"SELECT trial_id, objective, value, value_type FROM trial_values {of_study}",
                      number)  # fmt: skip
        attributes = rows(
            f"SELECT trial_id, key, value_json FROM trial_user_attributes {of_study}", number
        )
    several = len(directions) > 1
    cells: dict[int, dict[str, CellValue]] = defaultdict(dict)
    for trial, objective, value, kind in values:
        key = f"values_{objective}" if several else "value"
        cells[trial][key] = SPECIAL.get(kind, value)
    for trial, param, value, distribution in params:
        cells[trial][f"params_{param}"] = _level(value, distribution)
    for trial, key, text in attributes:
        value = json.loads(text)
        if isinstance(value, bool | int | float | str):
            cells[trial][f"user_attrs_{key}"] = value
    made = [
        TableRow(f"trial {number}", {"number": number, "state": state, **cells[trial]})
        for trial, number, state in trials
    ]
    table = _named(make_table(source, "an Optuna database", made))
    better = {
        f"values_{n}" if several else "value": LOWER if direction == "MINIMIZE" else HIGHER
        for n, direction in enumerate(directions) if direction in ("MINIMIZE", "MAXIMIZE")
    }  # fmt: skip
    return replace(table, better=better)


def _level(value: float, distribution: str) -> CellValue:
    """Return the value that a number stands for."""
    parsed = json.loads(distribution)
    try:
        if parsed["name"] == "CategoricalDistribution":
            choice = parsed["attributes"]["choices"][int(value)]
            plain = isinstance(choice, bool | int | float | str) or choice is None
            return choice if plain else json.dumps(choice)
        return int(value) if parsed["name"].startswith("Int") else value
    except (LookupError, TypeError) as error:
        raise UserError("is an Optuna database with a distribution that is unknown") from error


DATABASE = Reader(
    "optuna",
    "an Optuna database",
    lambda source: (
        {"studies", "study_directions", "trials", "trial_params"} <= database.tables(source)
    ),
    _read,
)


def _named(table: Table) -> Table:
    return dialects.by_kind("optuna").read(table, table.kind)
