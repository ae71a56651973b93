"""Optuna's tables as they are stored: the only reader of the schema (see docs/storage.md).

A few bulk queries, for any number of trials; Optuna itself is not imported, and nothing is ever
written. Cells come as they lie there: SQLite keeps a value of any type in a column of any type,
so nothing here is trusted. `analysis/trials.py` makes records of it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fmnist_common.checksums import CHECKSUM
from fmnist_common.sqlite import read_only_uri

LOCK_TIMEOUT = 60.0  # seconds to wait for a writer that holds the database

STUDIES = sa.table("studies", sa.column("study_id"), sa.column("study_name"))
DIRECTIONS = sa.table(
    "study_directions", sa.column("study_id"), sa.column("direction"), sa.column("objective")
)
STUDY_ATTRIBUTES = sa.table(
    "study_user_attributes", sa.column("study_id"), sa.column("key"), sa.column("value_json")
)
TRIALS = sa.table(
    "trials",
    sa.column("trial_id"),
    sa.column("number"),
    sa.column("study_id"),
    sa.column("state"),
    sa.column("datetime_start"),
    sa.column("datetime_complete"),
)
TRIAL_ATTRIBUTES = sa.table(
    "trial_user_attributes", sa.column("trial_id"), sa.column("key"), sa.column("value_json")
)
PARAMS = sa.table(
    "trial_params",
    sa.column("trial_id"),
    sa.column("param_name"),
    sa.column("param_value"),
    sa.column("distribution_json"),
)
VALUES = sa.table(
    "trial_values",
    sa.column("trial_id"),
    sa.column("objective"),
    sa.column("value"),
    sa.column("value_type"),
)
INTERMEDIATE = sa.table(
    "trial_intermediate_values",
    sa.column("trial_id"),
    sa.column("step"),
    sa.column("intermediate_value"),
    sa.column("intermediate_value_type"),
)


@dataclass
class StudyRows:
    """A study as it is stored. Texts that are none are empty."""

    id: int
    name: Any
    directions: list[Any] = field(default_factory=list)  # by objective
    attributes: dict[str, str] = field(default_factory=dict)  # key -> JSON
    checksums: list[str] = field(default_factory=list)  # of its trials, JSON
    trial_count: int = 0


@dataclass
class TrialRows:
    """A trial as it is stored. Texts that are none are empty."""

    number: Any
    state: Any
    started: Any
    completed: Any
    attributes: dict[str, str] = field(default_factory=dict)  # key -> JSON
    params: dict[str, tuple[Any, str]] = field(default_factory=dict)  # -> value, distribution
    values: dict[Any, tuple[Any, Any]] = field(default_factory=dict)  # objective -> value, kind
    intermediate: dict[Any, tuple[Any, Any]] = field(default_factory=dict)  # step -> value, kind


def connect(url: sa.URL | str) -> sa.Engine:
    """Open a database for reading only.

    A SQLite file is neither created nor changed, and no file appears beside it, so that a
    published database in a checkout, or in a read-only folder, stays as it is. One that another
    process writes at this moment is read as of its last commit.
    """
    url = sa.make_url(url)
    if url.get_backend_name() != "sqlite":
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        if engine.dialect.name != "postgresql":
            return engine
        # A reading is several queries, and of one moment: the study may be written meanwhile.
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    path = Path(url.database or "").absolute()
    # No pool: a connection is opened for each reading, when its `read_only_uri` is decided.
    return sa.create_engine(
        url,
        poolclass=sa.NullPool,
        creator=lambda: sqlite3.connect(read_only_uri(path), uri=True, timeout=LOCK_TIMEOUT),
    )


def study_rows(engine: sa.Engine) -> list[StudyRows]:
    """Read every study."""
    with closing(engine.connect()) as connection:
        names = connection.execute(sa.select(STUDIES.c.study_id, STUDIES.c.study_name)).all()
        rows = {study_id: StudyRows(study_id, name) for study_id, name in names}
        directions = sa.select(DIRECTIONS.c.study_id, DIRECTIONS.c.direction)
        for study_id, direction in connection.execute(directions.order_by(DIRECTIONS.c.objective)):
            if study_id in rows:
                rows[study_id].directions.append(direction)
        attributes = sa.select(
            STUDY_ATTRIBUTES.c.study_id, STUDY_ATTRIBUTES.c.key, STUDY_ATTRIBUTES.c.value_json
        )
        checksums = (
            sa.select(TRIALS.c.study_id, sa.null(), TRIAL_ATTRIBUTES.c.value_json)
            .join(TRIALS, TRIALS.c.trial_id == TRIAL_ATTRIBUTES.c.trial_id)
            .where(TRIAL_ATTRIBUTES.c.key == CHECKSUM)
        )
        # One statement, and so of one moment: a seal, and the checksums that it is the sum of.
        for study_id, key, text in connection.execute(sa.union_all(attributes, checksums)):
            if study_id not in rows:
                continue
            if key is None:
                rows[study_id].checksums.append(_text(text))
            else:
                rows[study_id].attributes[str(key)] = _text(text)
        count = sa.select(TRIALS.c.study_id, sa.func.count()).group_by(TRIALS.c.study_id)
        for study_id, trials in connection.execute(count):
            if study_id in rows:
                rows[study_id].trial_count = trials
    return list(rows.values())


def trial_rows(
    engine: sa.Engine, study_id: int, *keys: str
) -> tuple[list[TrialRows], dict[str, str]]:
    """Read the trials of a study, by number, and attributes of the study of the same moment.

    Args:
        engine: the database.
        study_id: which study.
        keys: its attributes that are wanted.

    Returns:
        The trials; key -> JSON of those attributes that are there.
    """
    with closing(engine.connect()) as connection:
        heads = connection.execute(
            sa.select(
                TRIALS.c.trial_id,
                TRIALS.c.number,
                TRIALS.c.state,
                TRIALS.c.datetime_start,
                TRIALS.c.datetime_complete,
            )
            .where(TRIALS.c.study_id == study_id)
            .order_by(TRIALS.c.number)
        )
        trials = {trial_id: TrialRows(*head) for trial_id, *head in heads}

        def cells(table: sa.TableClause, *columns: str) -> Iterator[tuple[TrialRows, Any, Any]]:
            rows = connection.execute(
                sa.select(table.c.trial_id, *(table.c[name] for name in columns))
                .join(TRIALS, TRIALS.c.trial_id == table.c.trial_id)
                .where(TRIALS.c.study_id == study_id)
            )
            for trial_id, name, *values in rows:
                if trial_id in trials:  # else it came just now
                    yield trials[trial_id], name, values

        for trial, key, (text,) in cells(TRIAL_ATTRIBUTES, "key", "value_json"):
            trial.attributes[str(key)] = _text(text)
        for trial, name, (value, text) in cells(
            PARAMS, "param_name", "param_value", "distribution_json"
        ):
            trial.params[str(name)] = value, _text(text)
        for trial, objective, (value, kind) in cells(VALUES, "objective", "value", "value_type"):
            trial.values[objective] = value, kind
        for trial, step, (value, kind) in cells(
            INTERMEDIATE, "step", "intermediate_value", "intermediate_value_type"
        ):
            trial.intermediate[step] = value, kind
        wanted = sa.select(STUDY_ATTRIBUTES.c.key, STUDY_ATTRIBUTES.c.value_json).where(
            STUDY_ATTRIBUTES.c.study_id == study_id, STUDY_ATTRIBUTES.c.key.in_(keys)
        )
        attributes = {row.key: _text(row.value_json) for row in connection.execute(wanted)}
    return list(trials.values()), attributes


def _text(cell: Any) -> str:
    """Return a cell that must hold JSON; what is no text is as good as empty."""
    return cell if isinstance(cell, str) else ""
