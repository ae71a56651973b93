"""Connections to a database that is written: Optuna's storage over them, with our pragmas."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from fmnist_common.sqlite import is_wal
from study.store import location
from study.store.failures import Disconnected, patiently, refusals
from trainer.errors import UserError

BUSY_SECONDS = 0.5  # of one try to write; `StudyWriter` tries again, and hears signals between

Done = TypeVar("Done")


class Claim(Protocol):
    """What makes a process the only owner of a database."""

    def fault(self, connection: sqlalchemy.Connection) -> str | None:
        """Say why it is not any more; None: it is.

        Args:
            connection: in the transaction that is to be committed.
        """

    def renew(self) -> None:
        """Take it again, where it went with a connection to a server.

        Raises:
            StorageFailed: somebody else has it; Busy: the server cannot be asked just now.
        """


class OwnedStorage(RDBStorage):
    """Optuna's storage of a database that this process owns; looked at before each commit."""

    claim: Claim | None = None

    def guard(self, claim: Claim) -> None:
        """Commit nothing from here on unless a claim still holds."""
        self.claim = claim
        sqlalchemy.event.listen(self.engine, "commit", self._check)

    def check(self) -> None:
        """Check that this process is still the only owner.

        Raises:
            StorageFailed: it is not, or that cannot be told.
        """

        def look() -> None:
            with self.engine.connect() as connection:
                self._check(connection)

        self.patiently(look)

    def _check(self, connection: sqlalchemy.Connection) -> None:
        fault = self.claim.fault(connection) if self.claim else None
        if fault:
            raise Disconnected(fault)

    def patiently(self, act: Callable[[], Done]) -> Done:
        """Read or write; again while the database is busy, or a server's connection is cut.

        Raises:
            StorageFailed: it could not be done, for so long or at all.
        """

        @refusals()
        def guarded() -> Done:
            return act()

        return patiently(guarded, self._reconnect)

    def _reconnect(self) -> None:
        if self.claim is not None:
            self.claim.renew()

    def wait_for_writers(self) -> None:
        """Wait until nobody writes an SQLite database: what is read from here on is the last word.

        An earlier owner may be in the commit that it began while it still had the lock.

        Raises:
            StorageFailed: somebody does, for longer than is waited.
        """

        def begin() -> None:
            with refusals(), self.engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                connection.rollback()

        patiently(begin)

    def close(self) -> None:
        """Close all connections."""
        self.remove_session()
        self.engine.dispose()


def open_storage(url: sqlalchemy.URL) -> OwnedStorage:
    """Open a database for writing; its owner does.

    Raises:
        UserError: it cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = location.sqlite_path(url)
    if path is None:
        with refused(url):
            where = url.render_as_string(hide_password=False)
            return OwnedStorage(where, engine_kwargs={"pool_pre_ping": True})

    wal = location.is_new(url) or is_wal(path)

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
        if wal:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    # Connections come from `connect`, so that the pragmas hold from the first one on; Optuna would
    # also take braces in a path for a template.
    options: dict[str, Any] = {"creator": connect, "poolclass": sqlalchemy.QueuePool}
    with refused(url):
        return OwnedStorage("sqlite:///studies.db", engine_kwargs=options)


@contextmanager
def refused(url: sqlalchemy.URL) -> Iterator[None]:
    """Turn what is raised where a database cannot be opened into a line."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, sqlite3.Error, RuntimeError) as error:
        raise UserError(
            f"storage {location.display(url)}: {location.reason(error, url)}"
        ) from error


def use_wal(storage: RDBStorage) -> None:
    """Let readers read while this process writes: the file's first change, if it is another tool's.

    Raises:
        UserError: somebody reads it just now.
    """
    if storage.engine.dialect.name != "sqlite":
        return
    try:
        with storage.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    except SQLAlchemyError as error:
        raise UserError(f"the database cannot be written: {location.reason(error)}") from error
