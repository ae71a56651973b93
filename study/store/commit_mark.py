"""Whether a commit came through whose answer was lost: on a server, every one leaves a mark.

The connection to a server may be cut after a commit was asked for and before it was answered. Who
repeats the transaction then must know whether it is there already. So each puts a fresh mark in
the place of the last one: the mark found afterwards is the last, this one, or another run's.
"""

import json
import secrets

import sqlalchemy
from optuna.storages._rdb import models  # the schema's only definition; Optuna exports no other
from sqlalchemy.orm import Session

from study.store.connection import OwnedStorage
from study.store.failures import StorageFailed

KEY = "fmnist-study:commit"
_TABLE = sqlalchemy.inspect(models.StudySystemAttributeModel).local_table


class CommitMark:
    """The mark of one study on a server. A file of SQLite has no answers to lose, and no mark.

    Args:
        storage: the database, owned by this process.
        study_id: the study's; None: it is still to be made.
    """

    def __init__(self, storage: OwnedStorage, study_id: int | None) -> None:
        self.is_kept = storage.engine.dialect.name != "sqlite"
        self.last: str | None = None  # as its JSON is stored
        if self.is_kept and study_id is not None:
            self.last = storage.patiently(lambda: self._stored(storage, study_id))

    def _stored(self, storage: OwnedStorage, study_id: int) -> str | None:
        with Session(storage.engine) as session:
            return self._read(session, study_id)

    def _read(self, session: Session, study_id: int) -> str | None:
        text = sqlalchemy.select(_TABLE.c.value_json).where(*self._of(study_id))
        return session.scalar(text)

    @staticmethod
    def _of(study_id: int) -> tuple[sqlalchemy.ColumnElement[bool], ...]:
        return _TABLE.c.study_id == study_id, _TABLE.c.key == KEY

    @staticmethod
    def fresh() -> str:
        """Return a mark that nobody else has."""
        return json.dumps(secrets.token_hex(8))

    def is_there(self, session: Session, study_id: int, mark: str) -> bool:
        """Whether the transaction of this mark came through."""
        return self.is_kept and self._read(session, study_id) == mark

    def swap(self, session: Session, study_id: int, mark: str) -> None:
        """Put a mark in the place of the last one, in the transaction that it stands for.

        Raises:
            StorageFailed: another run has written the study meanwhile.
        """
        if not self.is_kept:
            return
        if self.last is None:
            row = {"study_id": study_id, "key": KEY, "value_json": mark}
            session.execute(_TABLE.insert().values(row))
            return
        swap = sqlalchemy.update(_TABLE).where(
            *self._of(study_id), _TABLE.c.value_json == self.last
        )
        if session.execute(swap.values(value_json=mark)).rowcount != 1:  # type: ignore[attr-defined] # of every update
            raise StorageFailed("another run wrote the study while this one's connection was cut")
