"""Backups of an SQLite database through SQLite's own backup API, never by copying the file.

A copy of the file of a database in use may hold half a transaction; the API copies one state.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from fmnist_common.sqlite import read_only_uri
from trainer.atomic import sync_file, sync_folder
from trainer.errors import UserError

Contents = dict[tuple[str, str], int]  # (study, state) -> trials
COUNTS = """
SELECT s.study_name, t.state, COUNT(t.trial_id) FROM studies s
LEFT JOIN trials t ON t.study_id = s.study_id GROUP BY s.study_id, t.state
"""
SIDE_FILES = ("-wal", "-shm", "-journal")


def backup_of(database: Path) -> Path:
    """Return where the newest backup of a database is."""
    return database.with_name(database.name + ".backup")


def back_up(database: Path, target: Path) -> Contents:
    """Write a checked copy of a database to `target`, whole or not at all; return what it holds.

    The database may be in use. What `target` was before is kept beside it, under a name with the
    time, where it holds more trials of any study than the new copy.

    Raises:
        OSError, sqlite3.Error: it cannot be written; `target` stays as it was.
        UserError: the copy is damaged, as then the database is.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with reading(database) as source, closing(sqlite3.connect(temporary)) as copy:
            source.backup(copy)
            # A backup is one file: without a log beside it.
            copy.execute("PRAGMA journal_mode=DELETE")
            fault = damage(copy)
            if fault:
                raise UserError(f"{database}: is damaged, so there is no backup: {fault}")
            holds = contents(copy)
        sync_file(temporary)
        if target.exists() and not covers(holds, target):
            target.replace(aside(target, "older"))
        temporary.replace(target)
        sync_folder(target.parent)
        return holds
    finally:
        for suffix in ("", *SIDE_FILES):
            temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)


def is_current(database: Path) -> bool:
    """Whether the newest backup holds as many trials of each state as the database."""
    try:
        with reading(backup_of(database)) as copy, reading(database) as opened:
            return contents(copy) == contents(opened)
    except sqlite3.Error:
        return False


def covers(holds: Contents, other: Path) -> bool:
    """Whether a database that holds this has each study of another, with no fewer trials."""
    try:
        with reading(other) as opened:
            theirs = _per_study(contents(opened))
    except sqlite3.Error:
        return True  # it is damaged: there is nothing to be lost
    ours = _per_study(holds)
    return all(name in ours and ours[name] >= count for name, count in theirs.items())


def contents(connection: sqlite3.Connection) -> Contents:
    """Count the trials of each study and state."""
    return {(name, state or ""): count for name, state, count in connection.execute(COUNTS)}


def _per_study(holds: Contents) -> dict[str, int]:
    totals: dict[str, int] = {}
    for (name, _), count in holds.items():
        totals[name] = totals.get(name, 0) + count
    return totals


def damage(connection: sqlite3.Connection) -> str | None:
    """Return what SQLite's own check finds, in one line; None: nothing."""
    (fault,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return None if fault == "ok" else str(fault).splitlines()[-1]


@contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading; nothing appears beside it.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    uri = read_only_uri(database)
    with closing(sqlite3.connect(uri, uri=True, timeout=60)) as connection:
        yield connection


def aside(path: Path, why: str) -> Path:
    """Return a free name beside a file: `studies.db.damaged-20261121T063000Z`."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (f"{path.name}.{why}-{stamp}{f'-{n}' if n else ''}" for n in range(1000))
    return next(free for name in names if not (free := path.with_name(name)).exists())
