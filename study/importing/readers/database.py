"""SQLite files of other tools, opened for reading only."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from study.importing.readers.source import SQLITE, Source
from trainer.errors import UserError


def tables(source: Source) -> frozenset[str]:
    """Return the names of a SQLite file's tables; none of another file."""
    if not source.head.startswith(SQLITE):
        return frozenset()
    with opened(source) as connection:
        rows = query(connection, "SELECT name FROM sqlite_master WHERE type = 'table'")
    return frozenset(str(name) for (name,) in rows)


@contextmanager
def opened(source: Source) -> Iterator[sqlite3.Connection]:
    """Open a SQLite file without ever writing to it or beside it.

    Raises:
        UserError: it is damaged.
    """
    log = source.path.with_name(source.path.name + "-wal")
    at_rest = "" if log.exists() else "&immutable=1"
    uri = f"{source.path.absolute().as_uri()}?mode=ro{at_rest}"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise UserError(f"is a SQLite file that cannot be read: {error}") from error


def query(connection: sqlite3.Connection, sql: str, values: Sequence[Any] = ()) -> list[Any]:
    """Return all rows of a query."""
    return connection.execute(sql, values).fetchall()
