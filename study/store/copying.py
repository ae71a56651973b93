"""A study is copied into another database, as Optuna's `copy_study` does: every row, and sealed.

What is copied is verified before, and in the copy before it is committed, in one transaction: so
the copy is whole and what was written, or it is not there.
"""

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from optuna.storages._rdb import models  # the schema's only definition; Optuna exports no other
from optuna.trial import TrialState
from sqlalchemy.orm import Session

from fmnist_common.checksums import SEAL
from study.store import location, ownership, trial_rows
from study.store.commit_mark import KEY as MARK
from study.store.commit_mark import CommitMark
from study.store.connection import OwnedStorage, use_wal
from study.store.failures import StorageFailed
from study.store.reading import reading
from study.store.trial_rows import READ_AT_ONCE, trials
from study.store.verify import VerifiedStudy, verify_study
from study.store.writer import StudyWriter
from trainer.errors import UserError, choose

INTERRUPTED = "was running when its study was copied"
STUDY_TABLES = tuple(
    sqlalchemy.inspect(model).local_table
    for model in (
        models.StudyDirectionModel,
        models.StudyUserAttributeModel,
        models.StudySystemAttributeModel,
    )
)
TRIAL_TABLES = tuple(
    sqlalchemy.inspect(model).local_table
    for model in (
        models.TrialUserAttributeModel,
        models.TrialSystemAttributeModel,
        models.TrialParamModel,
        models.TrialValueModel,
        models.TrialIntermediateValueModel,
    )
)


@dataclass(frozen=True)
class Copied:
    """What was copied.

    Attributes:
        trials: how many.
        interrupted: of them, those that were running; in the copy they have failed.
        weights: how many trials name a file of weights, which is not copied.
    """

    trials: int
    interrupted: int
    weights: int


def copy(
    source: sqlalchemy.URL, name: str, target: sqlalchemy.URL, new_name: str, command: str
) -> Copied:
    """Copy a study, as it is at this moment, into a database that this process then owns.

    Raises:
        UserError: there is no such study, it is damaged, its new name is taken, or the target
            cannot be used; nothing is written then.
    """
    location.check_readable(source)
    with reading(source) as session:
        _id_of(session, name)  # refused before a database is made
    with ownership.take(target, command) as database:
        use_wal(database)
        writer = StudyWriter(database, new_name)
        if writer.exists:
            raise UserError(f"study {new_name!r}: is in {location.display(target)} already")
        try:
            with reading(source) as session:
                copied = _Copy(session, name, database, new_name).run()
            writer = StudyWriter(database, new_name)
            if copied.interrupted and SEAL in writer.attributes():
                writer.fail_running(INTERRUPTED)
        except StorageFailed as failure:
            raise UserError(f"storage {location.display(target)}: {failure}") from failure
    return copied


def _id_of(session: Session, name: str) -> int:
    """Return a study's number.

    Raises:
        UserError: there is none of this name.
    """
    names = sqlalchemy.select(models.StudyModel.study_name, models.StudyModel.study_id)
    known = {str(stored): int(number) for stored, number in session.execute(names)}
    if name not in known:
        raise UserError(choose("study", name, list(known)))
    return known[name]


class _Copy:
    """One study on its way.

    Args:
        source: reads the study, as of one moment.
        name: its name there.
        database: where it goes.
        new_name: what it is called there.
    """

    def __init__(self, source: Session, name: str, database: OwnedStorage, new_name: str) -> None:
        self.source, self.name = source, name
        self.database, self.new_name = database, new_name
        self.study_id = _id_of(source, name)
        self.original = verify_study(source, self.study_id, name)
        if self.original.damage:
            raise UserError(f"study {name!r}: is damaged, and not copied: {self.original.damage}")

    def run(self) -> Copied:
        """Copy it in one transaction.

        Raises:
            StorageFailed: nothing was written.
        """
        mark = CommitMark(self.database, None)
        text = mark.fresh()

        def attempt() -> None:
            with Session(self.database.engine) as session, session.begin():
                same = sqlalchemy.select(models.StudyModel.study_id)
                there = session.scalar(same.where(models.StudyModel.study_name == self.new_name))
                if there is None or not mark.is_there(session, there, text):
                    study_id = self._write(session)
                    mark.swap(session, study_id, text)

        self.database.patiently(attempt)
        states = self._states()
        return Copied(len(states), states.count(TrialState.RUNNING), self._weights())

    def _write(self, session: Session) -> int:
        """Write the study and verify it; return its number."""
        study = models.StudyModel(study_name=self.new_name)
        session.add(study)
        session.flush()
        study_id = int(study.study_id)
        for table in STUDY_TABLES:
            rows = self._rows(table, table.c.study_id == self.study_id, study_id=study_id)
            _insert(session, table, [row for row in rows if row.get("key") != MARK])
        self._write_trials(session, study_id)
        if self.new_name != self.name:
            self._seal_again(session, study_id)
        self._verify(verify_study(session, study_id, self.new_name))
        return study_id

    def _write_trials(self, session: Session, study_id: int) -> None:
        every = sqlalchemy.select(trials.c.trial_id).where(trials.c.study_id == self.study_id)
        ids = list(self.source.scalars(every.order_by(trials.c.number, trials.c.trial_id)))
        for first in range(0, len(ids), READ_AT_ONCE):
            some = ids[first : first + READ_AT_ONCE]
            heads = {
                row["trial_id"]: row
                for row in self._rows(trials, trials.c.trial_id.in_(some), study_id=study_id)
            }
            made = session.scalars(
                trials.insert().returning(trials.c.trial_id, sort_by_parameter_order=True),
                [_without(heads[trial_id], "trial_id") for trial_id in some],
            )
            now = dict(zip(some, made, strict=True))
            for table in TRIAL_TABLES:
                rows = self._rows(table, table.c.trial_id.in_(some))
                _insert(session, table, [{**row, "trial_id": now[row["trial_id"]]} for row in rows])

    def _rows(
        self, table: sqlalchemy.Table, which: sqlalchemy.ColumnElement[bool], **changes: Any
    ) -> list[dict[str, Any]]:
        """Read rows, without the number of each, which the other database gives."""
        columns = [
            column for column in table.c if column is trials.c.trial_id or not column.primary_key
        ]
        found = self.source.execute(sqlalchemy.select(*columns).where(which))
        return [{**row, **changes} for row in found.mappings()]

    def _seal_again(self, session: Session, study_id: int) -> None:
        """Let the seal say the new name: it was verified under the old one."""
        table = trial_rows.study_attributes
        seal = (table.c.study_id == study_id) & (table.c.key == SEAL)
        text = session.scalar(sqlalchemy.select(table.c.value_json).where(seal))
        if text is not None:
            text = json.dumps({**json.loads(text), "name": self.new_name})
            session.execute(sqlalchemy.update(table).where(seal).values(value_json=text))

    def _verify(self, made: VerifiedStudy) -> None:
        """Check that the copy is what was copied.

        Raises:
            StorageFailed: it is not.
        """
        if made.damage or made.sound != self.original.sound:
            why = made.damage or "it does not hold what the original holds"
            raise StorageFailed(
                f"the copy does not read as it was written ({why}); nothing written"
            )

    def _states(self) -> list[TrialState]:
        states = sqlalchemy.select(trials.c.state).where(trials.c.study_id == self.study_id)
        return list(self.source.scalars(states))

    def _weights(self) -> int:
        table = TRIAL_TABLES[0]
        count = sqlalchemy.select(sqlalchemy.func.count()).select_from(table.join(trials))
        return (
            self.source.scalar(
                count.where(trials.c.study_id == self.study_id, table.c.key == "checkpoint")
            )
            or 0
        )


def _insert(session: Session, table: sqlalchemy.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        session.execute(table.insert(), rows)


def _without(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != key}
