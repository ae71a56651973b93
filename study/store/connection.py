"""Connections to a database that is written: Optuna's storage over them, with our pragmas."""

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from study.store import location
from trainer.errors import UserError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

BUSY_SECONDS = 0.5  # of one try to write; `StudyWriter` tries again, and hears signals between


def open_storage(url: sqlalchemy.URL) -> "RDBStorage":
    """Open a database for writing; its owner does.

    Raises:
        UserError: it cannot be opened.
    """
    import optuna
    from optuna.storages import RDBStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = location.sqlite_path(url)
    if path is None:
        return RDBStorage(url.render_as_string(hide_password=False))

    wal = location.is_new(url) or _is_wal(path)

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
    try:
        return RDBStorage("sqlite:///studies.db", engine_kwargs=options)
    except (SQLAlchemyError, sqlite3.Error, RuntimeError) as error:
        raise UserError(f"storage {location.display(url)}: {location.reason(error)}") from error


def _is_wal(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(20)[18:20] == b"\x02\x02"


def use_wal(storage: "RDBStorage") -> None:
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
