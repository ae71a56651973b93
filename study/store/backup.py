"""Backups of an SQLite database through SQLite's own backup API, never by copying the file.

A copy of the file of a database in use may hold half a transaction; the API copies one state.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from fmnist_common.sqlite import read_only_uri
from study.store.journal import folder_of
from trainer.atomic import sync_file, sync_folder
from trainer.errors import UserError

if TYPE_CHECKING:
    from study.store.verify import Verified

Contents = dict[tuple[str, str], int]  # (study, state) -> trials
COUNTS = """
SELECT s.study_name, t.state, COUNT(t.trial_id) FROM studies s
LEFT JOIN trials t ON t.study_id = s.study_id GROUP BY s.study_id, t.state
"""
SIDE_FILES = ("-wal", "-shm", "-journal")


def backup_of(database: Path) -> Path:
    """Return where the newest backup of a database is."""
    return database.with_name(database.name + ".backup")


@dataclass(frozen=True)
class Backup:
    """A backup that was made.

    Attributes:
        holds: its trials.
        damaged: study -> what is not as it was written; there was no older backup to compare with
            that has it sound.
    """

    holds: Contents
    damaged: Mapping[str, str]


def check_replaceable(target: Path) -> None:
    """Check that a file which a person has named may become a backup.

    Raises:
        UserError: it is none of our databases, or one that is in use, or a name of SQLite's.
    """
    name = _resolved(target)
    if name.name.endswith((*SIDE_FILES, ".lock", ".owner.json", ".journal")):
        raise UserError(f"{target}: is the name of a file beside a database; choose another")
    if not name.parent.is_dir():
        raise UserError(f"{target}: the folder {name.parent} does not exist")
    if not name.exists():
        return
    if not name.is_file():
        raise UserError(f"{target}: is not a regular file; it stays as it is")
    if not is_ours(name):
        raise UserError(f"{target}: is not a database of studies; it stays as it is")
    if folder_of(name).is_dir() or _is_locked(name):
        raise UserError(f"{target}: is a database that a run writes; it stays as it is")


def _resolved(target: Path) -> Path:
    try:
        return target.resolve()
    except (OSError, RuntimeError) as error:
        raise UserError(f"{target}: {error}") from error


def _is_locked(database: Path) -> bool:
    lock = FileLock(f"{database}.lock")
    if not Path(lock.lock_file).is_file():
        return False
    try:
        with lock.acquire(blocking=False):
            return False
    except Timeout:
        return True


def is_ours(database: Path) -> bool:
    """Whether a file is a database with Optuna's tables, as far as can be told."""
    try:
        with database.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                return False
        with reading(database) as opened:
            tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_master")}
            return {"studies", "trials", "version_info"} <= tables and damage(opened) is None
    except (OSError, sqlite3.Error):
        return False


def back_up(database: Path, target: Path) -> Backup:
    """Write a checked copy of a database to `target`, whole or not at all.

    The database may be in use. What `target` was before is kept beside it, under a name with the
    time, where it holds what the new copy does not, is no database, or has a log: SQLite would lay
    that over the copy. Where the database is damaged in what an older backup has sound, that one
    keeps its place.

    Raises:
        OSError, sqlite3.Error, SQLAlchemyError: it cannot be written; `target` stays as it was.
        UserError: the copy is damaged, as then the database is.
    """
    target = _place(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # SQLite would write through a link
    try:
        holds, fresh = _copy(database, temporary)
        sync_file(temporary)
        why = _why_aside(database, target, fresh)
        if why:
            put_aside(target, why)
        temporary.replace(target)
        sync_folder(target.parent)
        _read_again(target, holds)
        return Backup(holds, fresh.damaged)
    finally:
        for suffix in ("", *SIDE_FILES):
            temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)


def _place(target: Path) -> Path:
    """Return where a backup will be: links are followed, but not to what is none of ours."""
    place = _resolved(target)
    if place.exists() and not place.is_file():
        raise UserError(f"{target}: is not a regular file")
    if target.is_symlink() and place.exists() and not is_ours(place):
        raise UserError(f"{target}: leads to {place}, which is not a database of studies")
    return place


def _copy(database: Path, temporary: Path) -> "tuple[Contents, Verified]":
    """Copy a database; return what the copy holds."""
    from study.store.verify import verify

    with reading(database) as source, closing(sqlite3.connect(temporary)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # a backup is one file, without a log
        fault = damage(copy)
        if fault:
            raise UserError(f"{database}: is damaged, so there is no backup: {fault}")
        return contents(copy), verify(copy)


def _why_aside(database: Path, target: Path, fresh: "Verified") -> str | None:
    """Return the word under which what is in a backup's place is kept; None: it need not be.

    Raises:
        UserError: it must stay where it is.
    """
    from study.store.verify import verify

    beside = any(target.with_name(target.name + suffix).exists() for suffix in SIDE_FILES)
    if not target.exists():
        return "older" if beside else None
    if not is_ours(target):
        return "damaged"
    with reading(target) as opened:
        older = verify(opened)
    for study, words in fresh.rotten_beside(older).items():
        raise UserError(
            f"{database}: study {study!r} is damaged ({words}), and {target.name} has it sound: "
            "that is kept, and no other made in its place; move it away to have one made"
        )
    return "older" if beside or not older.sound <= fresh.sound else None


def _read_again(target: Path, holds: Contents) -> None:
    with reading(target) as opened:
        fault = damage(opened)
        if fault or contents(opened) != holds:
            raise UserError(f"{target}: does not read as it was written{fault and f': {fault}'}")


def is_current(database: Path) -> bool:
    """Whether the newest backup holds as many trials of each state as the database."""
    try:
        with reading(backup_of(database)) as copy, reading(database) as opened:
            return contents(copy) == contents(opened)
    except sqlite3.Error:
        return False


def covers(holds: Contents, other: Path) -> bool:
    """Whether a database that holds this has each study of another, with no fewer trials."""
    return not lacks(holds, other)


def lacks(holds: Contents, other: Path) -> dict[str, tuple[int, bool]]:
    """Return what a database that holds this lacks of another: study -> trials, is it there."""
    try:
        with reading(other) as opened:
            theirs = _per_study(contents(opened))
    except sqlite3.Error:
        return {}  # it is damaged: there is nothing to be lost
    ours = _per_study(holds)
    return {
        name: (count - ours.get(name, 0), name in ours)
        for name, count in theirs.items()
        if name not in ours or ours[name] < count
    }


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


def put_aside(database: Path, why: str) -> Path:
    """Rename what there is of a database and its side files; return its new name."""
    kept = aside(database, why)
    for suffix in ("", *SIDE_FILES):
        file = database.with_name(database.name + suffix)
        if file.exists():
            file.rename(kept.with_name(kept.name + suffix))
    return kept


def aside(path: Path, why: str) -> Path:
    """Return a free name beside a file: `studies.db.damaged-20261121T063000Z`."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (f"{path.name}.{why}-{stamp}{f'-{n}' if n else ''}" for n in range(1000))
    return next(free for name in names if not (free := path.with_name(name)).exists())
