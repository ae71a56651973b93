"""The rows of trials in Optuna's tables: read, and written many at a time.

Optuna's storage writes each value in a transaction of its own, which costs 110 ms of CPU per trial
of 20 epochs; the rows are the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy
from optuna.storages._rdb import models  # the schema's only definition; Optuna exports no other
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from study.store.stored_trial import StoredTrial

READ_AT_ONCE = 500  # trials
UNREADABLE = (LookupError, ValueError, TypeError, AttributeError)  # of SQLAlchemy's types

trials = sqlalchemy.inspect(models.TrialModel).local_table
study_attributes = sqlalchemy.inspect(models.StudyUserAttributeModel).local_table
attributes = sqlalchemy.inspect(models.TrialUserAttributeModel).local_table
_params = sqlalchemy.inspect(models.TrialParamModel).local_table
_intermediate = sqlalchemy.inspect(models.TrialIntermediateValueModel).local_table
_values = sqlalchemy.inspect(models.TrialValueModel).local_table
_END = (
    sqlalchemy.update(trials)
    .where(trials.c.trial_id == sqlalchemy.bindparam("of"))
    .values(state=sqlalchemy.bindparam("became"), datetime_complete=sqlalchemy.bindparam("at"))
)


def load(session: Session, which: sqlalchemy.ColumnElement[bool]) -> dict[int, StoredTrial]:
    """Read trials as they are stored, by id."""
    heads = sqlalchemy.select(
        trials.c.trial_id,
        trials.c.number,
        trials.c.datetime_start,
        trials.c.datetime_complete,
        trials.c.state,
    ).where(which)
    loaded = {
        trial_id: StoredTrial(number, started, {}, {}, state=state.name, completed=completed)
        for trial_id, number, started, completed, state in session.execute(heads)
    }

    def rows(table: sqlalchemy.Table, *columns: str) -> Iterator[Any]:
        return _rows(session, which, table, *columns)

    stored = ("param_name", "param_value", "distribution_json")
    for trial_id, name, value, text in rows(_params, *stored):
        loaded[trial_id].params[name] = value, text
    for trial_id, key, text in rows(attributes, "key", "value_json"):
        loaded[trial_id].attributes[key] = text
    stored = ("step", "intermediate_value", "intermediate_value_type")
    for trial_id, step, value, kind in rows(_intermediate, *stored):
        loaded[trial_id].intermediate[step] = value, kind.name
    for trial_id, objective, value, kind in rows(_values, "objective", "value", "value_type"):
        loaded[trial_id].values[objective] = value, kind.name
    return loaded


def _rows(
    session: Session,
    which: sqlalchemy.ColumnElement[bool],
    table: sqlalchemy.Table,
    *columns: str,
) -> Iterator[Any]:
    """Read columns of a table that belongs to trials, after the trial's id."""
    chosen = sqlalchemy.select(table.c.trial_id, *(table.c[name] for name in columns))
    of_these = trials.c.trial_id == table.c.trial_id
    yield from session.execute(chosen.join(trials, of_these).where(which))


def load_each(session: Session, study_id: int) -> Iterator[tuple[int, StoredTrial | None]]:
    """Read the trials of a study by number, with their ids; None: its rows are damaged.

    Raises:
        SQLAlchemyError: the database cannot be read.
    """
    every = sqlalchemy.select(trials.c.trial_id).where(trials.c.study_id == study_id)
    ids = list(session.scalars(every.order_by(trials.c.number, trials.c.trial_id)))
    for first in range(0, len(ids), READ_AT_ONCE):
        some = ids[first : first + READ_AT_ONCE]
        loaded = load_some(session, some)
        yield from ((trial_id, loaded.get(trial_id)) for trial_id in some)


def load_some(session: Session, ids: Sequence[int]) -> Mapping[int, StoredTrial | None]:
    """Read a few hundred trials by their ids; None: its rows are damaged.

    Raises:
        SQLAlchemyError: the database cannot be read.
    """
    try:
        return load(session, trials.c.trial_id.in_(ids))
    except (SQLAlchemyError, *UNREADABLE):
        return {trial_id: _load_alone(session, trial_id) for trial_id in ids}


def _load_alone(session: Session, trial_id: int) -> StoredTrial | None:
    try:
        return load(session, trials.c.trial_id == trial_id)[trial_id]
    except UNREADABLE:
        return None
    except SQLAlchemyError as error:
        if "decode" in str(error):  # a text that is none
            return None
        raise


def insert(session: Session, study_id: int, started: Sequence[StoredTrial]) -> list[int]:
    """Insert running trials; return their ids."""
    if not started:
        return []
    heads = [
        {
            "number": trial.number,
            "study_id": study_id,
            "state": TrialState.RUNNING,
            "datetime_start": trial.started,
        }
        for trial in started
    ]
    made = trials.insert().returning(trials.c.trial_id, sort_by_parameter_order=True)
    ids = [int(trial_id) for trial_id in session.scalars(made, heads)]
    insert_attributes(
        session, {key: trial.attributes for key, trial in zip(ids, started, strict=True)}
    )
    params = [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": value,
            "distribution_json": distribution,
        }
        for trial_id, trial in zip(ids, started, strict=True)
        for name, (value, distribution) in trial.params.items()
    ]
    if params:
        session.execute(_params.insert(), params)
    return ids


def insert_attributes(session: Session, made: Mapping[int, Mapping[str, str]]) -> None:
    """Insert attributes of trials: id -> key -> JSON."""
    rows = [
        {"trial_id": trial_id, "key": key, "value_json": text}
        for trial_id, texts in made.items()
        for key, text in texts.items()
    ]
    if rows:
        session.execute(attributes.insert(), rows)


def insert_steps(session: Session, rows: list[dict[str, Any]]) -> None:
    """Insert intermediate values, made by `step`."""
    if rows:
        session.execute(_intermediate.insert(), rows)


def step(trial_id: int, number: int, value: float | None, kind: str) -> dict[str, Any]:
    """Return the row of an intermediate value."""
    return {
        "trial_id": trial_id,
        "step": number,
        "intermediate_value": value,
        "intermediate_value_type": kind,
    }


def end(
    session: Session,
    running: Mapping[int, StoredTrial],
    records: Mapping[int, Mapping[str, Any]],
) -> None:
    """Write the ends of running trials, by id.

    Args:
        session: in a transaction.
        running: what the database has of them.
        records: what they have come to; see `StoredTrial.end_record`.
    """
    fresh = {
        trial_id: {
            key: text
            for key, text in record["attributes"].items()
            if key not in running[trial_id].attributes
        }
        for trial_id, record in records.items()
    }
    insert_attributes(session, fresh)
    rows = [
        {"trial_id": trial_id, "objective": i, "value": value, "value_type": kind}
        for trial_id, record in records.items()
        for i, (value, kind) in enumerate(record["values"])
    ]
    if rows:
        session.execute(_values.insert(), rows)
    ends = [
        {
            "of": trial_id,
            "became": TrialState[record["state"]],
            "at": datetime.fromisoformat(record["completed"]),
        }
        for trial_id, record in records.items()
    ]
    if ends:
        session.connection().execute(_END, ends)  # not by the session, which takes one at a time
