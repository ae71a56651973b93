"""One study in the database: its attributes, its seal, and transactions that keep both true."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy
from optuna.storages._rdb import models  # the schema's only definition; Optuna exports no other
from optuna.study import StudyDirection
from sqlalchemy.orm import Session

from fmnist_common.checksums import SEAL
from study.store import trial_rows
from study.store.commit_mark import CommitMark
from study.store.connection import OwnedStorage
from study.store.database_file import DatabaseFile
from study.store.failures import StorageFailed, refusals
from study.store.journal import Journal
from study.store.seal import Seal
from study.store.signals import shielded
from trainer.errors import UserError

COLUMNS = trial_rows.trials.c

Done = TypeVar("Done")


class SealedStudy:
    """A study whose seal is written with every change.

    Args:
        storage: the database, owned by this process.
        name: the study's name.
        journal: where the study is described, so that it can be made again.
        file: the database's, looked at before each write.

    Raises:
        UserError: the study is there, but damaged.
    """

    def __init__(
        self,
        storage: OwnedStorage,
        name: str,
        *,
        journal: Journal | None = None,
        file: DatabaseFile | None = None,
    ) -> None:
        self.storage, self.name = storage, name
        self.journal, self.file = journal, file
        self._last = -1, 0  # number and id of the last trial inserted here
        self._study_id: int | None = None
        with contextlib.suppress(KeyError):
            self._study_id = storage.patiently(lambda: storage.get_study_id_from_name(name))
        self._seal = self._read_seal()
        self._marks = CommitMark(storage, self._study_id)
        self._sealed = ""  # the seal's text in the database, as far as it was written here

    @property
    def exists(self) -> bool:
        """Whether the study is in the database."""
        return self._study_id is not None

    @property
    def study_id(self) -> int:
        """The study's number in the database; it must exist."""
        assert self._study_id is not None
        return self._study_id

    def create(self, directions: Sequence[StudyDirection]) -> None:
        """Create the study with a direction per objective."""

        self._seal = Seal(self.name, [direction.name for direction in directions])
        self._create(lambda session, _: self._insert_study(session, directions))

    def _create(self, write: Callable[[Session, Seal], None]) -> None:
        """Run the transaction that inserts the study: it is there afterwards, or not at all."""
        try:
            self.commit(write)
        except BaseException:
            self._study_id = None
            raise

    def _insert_study(self, session: Session, directions: Sequence[StudyDirection]) -> None:
        """Insert the study, without attributes."""
        study = models.StudyModel(study_name=self.name)
        session.add(study)
        session.flush()
        self._study_id = int(study.study_id)
        session.add_all(
            models.StudyDirectionModel(
                study_id=self._study_id, objective=index, direction=direction
            )
            for index, direction in enumerate(directions)
        )

    def check(self) -> None:
        """Check that the database is the one that was opened, and still this process's alone.

        Raises:
            StorageFailed: it is not.
        """
        fault = self.file.fault() if self.file else None
        if fault:
            raise StorageFailed(f"{fault}; its results are kept in the journal")
        self.storage.check()

    def _read_seal(self) -> Seal | None:
        """Return the study's seal; of an older study, one for what is still to come."""
        if not self.exists:
            return None
        stored = self.attributes().get(SEAL)
        if stored is not None:
            try:
                return Seal.parse(stored)
            except (LookupError, ValueError, TypeError, AttributeError) as error:
                raise self._damaged(error) from error
        directions = self.storage.patiently(
            lambda: self.storage.get_study_directions(self.study_id)
        )
        names = [direction.name for direction in directions]
        return Seal(self.name, names, before=self.next_number)

    def attributes(self) -> dict[str, Any]:
        """Return the study's user attributes.

        Raises:
            UserError: they are damaged.
        """
        try:
            return self.storage.patiently(
                lambda: dict(self.storage.get_study_user_attrs(self.study_id))
            )
        except (ValueError, RecursionError) as error:  # no JSON
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> UserError:
        return UserError(
            f"study {self.name!r}: its attributes in the database are damaged ({error}); "
            "restore the database from a backup, or choose another --study-name"
        )

    def plan(self) -> dict[str, Any] | None:
        """Return the plan that the study was made with; None: no study, or not one of ours."""
        return self.attributes().get("plan") if self.exists else None

    def describe(self, attributes: Mapping[str, Any]) -> None:
        """Set user attributes of the study, in one transaction."""
        texts = {key: json.dumps(value) for key, value in attributes.items()}

        def write(session: Session, seal: Seal) -> None:
            for key, text in texts.items():
                self.set_attribute(session, key, text)
                seal.take_attribute(key, text)

        with shielded():
            self.commit(write)
            if self.journal is not None:
                with refusals():
                    self.journal.describe(self._description())

    def _description(self) -> dict[str, Any]:
        """Return what the study must be made of again, should its database be lost."""
        assert self._seal is not None
        attributes = {key: value for key, value in self.attributes().items() if key != SEAL}
        return {"name": self.name, "directions": self._seal.directions, "attributes": attributes}

    def create_again(self, study: Mapping[str, Any]) -> None:
        """Create the study that a journal describes."""
        self.create([StudyDirection[name] for name in study["directions"]])
        self.describe(study["attributes"])

    def touch(self) -> None:
        """Make this the study that ran last."""
        self.describe({"last_run": datetime.now(UTC).isoformat(timespec="milliseconds")})

    @property
    def next_number(self) -> int:
        """The number of the next trial; other programs may have added some."""
        if not self.exists:
            return 0
        last = sqlalchemy.select(sqlalchemy.func.max(COLUMNS.number))

        def read() -> int | None:
            with self.storage.engine.connect() as connection:
                return connection.scalar(last.where(*self._after_the_last()))

        number = self.storage.patiently(read)
        return 1 + max(self._last[0], -1 if number is None else int(number))

    def _after_the_last(self) -> tuple[sqlalchemy.ColumnElement[bool], ...]:
        """Return which trials are this study's and younger than the last one inserted here.

        One look at a long study's every number takes longer than writing a trial. On a server,
        where others may commit an older id later, all are looked at.
        """
        return COLUMNS.study_id == self.study_id, COLUMNS.trial_id > self._last[1]

    def _seen(self, number: int, trial_id: int) -> None:
        """Take note of the last trial that was inserted: its number and its id."""
        if not self._marks.is_kept:
            self._last = max(self._last[0], number), max(self._last[1], trial_id)

    def commit(self, write: Callable[[Session, Seal], Done]) -> Done:
        """Run one transaction; again while another process holds the database, for a while.

        Args:
            write: writes, and changes the seal with it.

        Raises:
            StorageFailed: it was not written, none of it.
        """
        mark, written = self._marks.fresh(), None

        def attempt() -> tuple[Done, Seal, str]:
            nonlocal written
            fault = self.file.fault() if self.file else None
            if fault:
                raise StorageFailed(f"{fault}; its results are kept in the journal")
            with Session(self.storage.engine) as session, session.begin():
                # What was repeated may have come through: only its answer was lost.
                if written is None or not self._marks.is_there(session, self.study_id, mark):
                    written = self._write(session, write)
                    self._marks.swap(session, self.study_id, mark)
            return written

        with shielded():
            done, self._seal, self._sealed = self.storage.patiently(attempt)
            self._marks.last = mark
        return done

    def _write(
        self, session: Session, write: Callable[[Session, Seal], Done]
    ) -> tuple[Done, Seal, str]:
        """Write, and seal it; return what `write` does, the seal and its text."""
        assert self._seal is not None
        seal = self._seal.copy()
        done = write(session, seal)
        text = seal.text()
        if text != self._sealed:
            self.set_attribute(session, SEAL, text)
        return done, seal, text

    def set_attribute(self, session: Session, key: str, text: str) -> None:
        """Write an attribute of the study, in a transaction that `commit` began."""
        table = trial_rows.study_attributes
        there = sqlalchemy.update(table).where(
            table.c.study_id == self.study_id, table.c.key == key
        )
        if session.execute(there.values(value_json=text)).rowcount == 0:  # type: ignore[attr-defined] # of every update
            row = {"study_id": self.study_id, "key": key, "value_json": text}
            session.execute(table.insert().values(row))
