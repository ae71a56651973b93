"""The database: where it is, whether it is ours to use, and who owns it while a study runs.

Optuna's schema in SQLite (or any database that SQLAlchemy opens by URL). One process writes:
several processes on one SQLite file may claim the same trial, and Optuna advises against it.
"""

import contextlib
import json
import os
import platform
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy
from filelock import FileLock, Timeout
from sqlalchemy.exc import SQLAlchemyError

from fmnist_common.sqlite import is_wal
from study.store import backup, restore
from study.store.journal import Journal, folder_of
from trainer.errors import UserError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

# What `own` asks a server for: 1 or true, unless another connection has it.
SERVER_LOCKS = {
    "postgresql": "SELECT pg_try_advisory_lock(hashtext('fmnist-study'))",
    "mysql": "SELECT GET_LOCK(CONCAT('fmnist-study.', DATABASE()), 0)",
    "mariadb": "SELECT GET_LOCK(CONCAT('fmnist-study.', DATABASE()), 0)",
}
BUSY_SECONDS = 0.5  # of one try to write; `Ledger` tries again, and hears signals between


def locate(where: str | None) -> sqlalchemy.URL:
    """Return the URL of `--storage URL|PATH`, of `$FMNIST_STUDY_STORAGE`, or of `./studies.db`.

    Raises:
        UserError: it is no URL that SQLAlchemy knows.
    """
    where = where or os.environ.get("FMNIST_STUDY_STORAGE") or "studies.db"
    if "://" not in where:
        return sqlalchemy.URL.create("sqlite", database=str(Path(where).absolute()))
    try:
        url = sqlalchemy.make_url(where)
        url.get_dialect()
    except (SQLAlchemyError, ValueError) as error:
        raise UserError(f"storage {masked(where)}: not a database URL ({reason(error)})") from error
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise UserError("storage: give SQLite a file; a database in memory is lost at the end")
        return sqlalchemy.URL.create("sqlite", database=str(Path(str(url.database)).absolute()))
    return url


def sqlite_path(url: sqlalchemy.URL) -> Path | None:
    """Return the file of an SQLite URL, else None."""
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


def display(url: sqlalchemy.URL) -> str:
    """Return a URL for people: a path for SQLite, and never a password."""
    path = sqlite_path(url)
    if path is None:
        return masked(url.render_as_string(hide_password=False))
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def masked(where: str) -> str:
    """Hide the user and every password of what may be, or may hold, a URL."""
    return re.sub(r"(pass\w*=)[^&\s]*", r"\1***", re.sub(r"://.*@", "://***@", where))


def check_readable(url: sqlalchemy.URL) -> None:
    """Check, without touching it, that a database is there and has Optuna's schema.

    Raises:
        UserError: it is missing, unreadable, no SQLite file, or not Optuna's.
    """
    path = sqlite_path(url)
    if path is None:
        _check_server(url)
        return
    if not path.exists() and folder_of(path).is_dir():
        raise UserError(
            f"storage {display(url)}: no such file any more, but its journal is there: "
            "'fmnist-study run ...' restores it"
        )
    if not path.exists():
        raise UserError(f"storage {display(url)}: no such file; 'fmnist-study run ...' makes one")
    if is_new(url):
        raise UserError(f"storage {display(url)}: holds no study yet")


def is_new(url: sqlalchemy.URL) -> bool:
    """Whether there is no database yet: no file, or one without tables.

    Raises:
        UserError: as `check_readable`.
    """
    path = sqlite_path(url)
    return path is not None and not (path.exists() and _check_file(url, path))


def check_writable(url: sqlalchemy.URL) -> None:
    """Check, without touching it, that a study can be stored here.

    Raises:
        UserError: as `check_readable`, or the place cannot be written.
    """
    path = sqlite_path(url)
    if path is None:
        _check_server(url)
        return
    if not path.parent.is_dir():
        raise UserError(f"storage {display(url)}: the folder {path.parent} does not exist")
    if path.exists():
        _check_file(url, path)
    for place in (path, path.parent):  # the folder too: SQLite and the lock put files beside it
        if place.exists() and not os.access(place, os.W_OK):
            raise UserError(f"storage {display(url)}: {place} is not writable")


def _check_file(url: sqlalchemy.URL, path: Path) -> bool:
    """Check a file that exists; return whether it has tables."""
    shown = display(url)
    if not path.is_file():
        raise UserError(f"storage {shown}: is not a file")
    if path.stat().st_size == 0:
        return False  # SQLite's own empty database
    try:
        with path.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                raise UserError(f"storage {shown}: is not an SQLite database")
        with backup.reading(path) as db:
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
            if tables and not {"studies", "trials", "version_info"} <= tables:
                raise UserError(f"storage {shown}: is an SQLite database, but not one of Optuna's")
            if "alembic_version" in tables:
                _check_version(
                    shown, db.execute("SELECT version_num FROM alembic_version").fetchone()
                )
            return bool(tables)
    except OSError as error:
        raise UserError(f"storage {shown}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise UserError(f"storage {shown}: cannot be read: {error}") from error


def _check_version(shown: str, row: tuple[str] | None) -> None:
    # Of Optuna's 5.0; "v3.2.0.a" and the like, as long as the schema stays.
    if row and row[0] < "v3.2.0.a":
        raise UserError(
            f"storage {shown}: was made by an older Optuna (schema {row[0]}); upgrade a copy of it "
            "with 'optuna storage upgrade --storage URL'"
        )


def _check_server(url: sqlalchemy.URL) -> None:
    try:
        with sqlalchemy.create_engine(url).connect():
            pass
    except ImportError as error:
        raise UserError(f"storage {display(url)}: its driver is not installed ({error})") from error
    except SQLAlchemyError as error:
        raise UserError(f"storage {display(url)}: cannot connect: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Return the database's own words for an error, in one line: no SQL, no password."""
    while error.__cause__ is not None:
        error = error.__cause__
    return masked((str(error).splitlines() or [type(error).__name__])[0])


@contextmanager
def own(
    url: sqlalchemy.URL, command: str, tell: Callable[[str], None] = lambda _: None
) -> Iterator["RDBStorage"]:
    """Open the database for writing, as its only owner.

    A database that was damaged or taken away is restored from its backup first.

    Args:
        url: where it is.
        command: what the owner does, for others who want it.
        tell: called with a line for each thing that was restored.

    Raises:
        UserError: another process owns it, or it cannot be used.
    """
    path = sqlite_path(url)
    if path is None:
        check_writable(url)
        with _server(url) as storage:
            yield storage
        return
    if not restore.is_possible(path):
        check_writable(url)
    with _lock(url, path, command):
        try:
            restore.restore(path, tell)
        except OSError as error:
            raise UserError(f"storage {display(url)}: cannot be restored: {error}") from error
        check_writable(url)
        storage = _open(url)
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()


def mend(url: sqlalchemy.URL, tell: Callable[[str], None]) -> None:
    """Restore a database that was damaged or taken away, and its journal's results.

    Raises:
        UserError: another process owns it, or it cannot be used.
    """
    path = sqlite_path(url)
    if path is not None and restore.is_possible(path):
        with own(url, "restore", tell) as storage:
            restore.replay(storage, Journal(folder_of(path)), tell)


@contextmanager
def _lock(url: sqlalchemy.URL, path: Path, command: str) -> Iterator[None]:
    """Hold a database's lock file, which the system frees when its holder dies."""
    lock = FileLock(f"{path}.lock")
    note = path.with_name(path.name + ".owner.json")
    try:
        Path(lock.lock_file).touch()  # filelock would take a refusal for a lock that is held
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UserError(f"storage {display(url)}: is in use{_owner(note)}") from error
    except OSError as error:
        raise UserError(f"storage {display(url)}: {path.parent} is not writable") from error
    try:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        about = {
            "pid": os.getpid(),
            "host": platform.node(),
            "started": started,
            "command": command,
        }
        with contextlib.suppress(OSError):  # a courtesy to others: the lock is held without it
            note.write_text(json.dumps(about), encoding="utf-8")
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


@contextmanager
def _server(url: sqlalchemy.URL) -> Iterator["RDBStorage"]:
    """Open a database server, as the only owner of this database where the server has such locks.

    The lock belongs to a connection, so it goes when its holder dies.
    """
    storage = _open(url)
    try:
        with storage.engine.connect() as connection:
            take = SERVER_LOCKS.get(url.get_backend_name())
            if take and not connection.exec_driver_sql(take).scalar():
                raise UserError(f"storage {display(url)}: is in use by another process")
            connection.commit()  # the lock is the session's, not the transaction's
            yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _owner(note: Path) -> str:
    try:
        about = json.loads(note.read_text(encoding="utf-8"))
        return (
            f" by process {about['pid']} on {about['host']} since {about['started']} "
            f"({about['command']}); wait for it, or give this run its own --storage"
        )
    except (OSError, ValueError, KeyError):
        return " by another process"


def _open(url: sqlalchemy.URL) -> "RDBStorage":
    import optuna
    from optuna.storages import RDBStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = sqlite_path(url)
    if path is None:
        return RDBStorage(url.render_as_string(hide_password=False))

    wal = is_new(url) or is_wal(path)

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
        raise UserError(f"storage {display(url)}: {reason(error)}") from error


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
        raise UserError(f"the database cannot be written: {reason(error)}") from error


class Identity:
    """The file that a run writes: whether it is still there, the same, and whole.

    SQLite itself goes on writing into a file that has no name any more.

    Args:
        path: the file; its database is open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known = {file: _inode(file) for file in (path, path.with_name(path.name + "-wal"))}
        self.size = path.stat().st_size

    def fault(self) -> str | None:
        """Say what has happened to it; None: nothing."""
        for file, known in self.known.items():
            if known is None:  # SQLite makes the log with the first write after a rest
                self.known[file] = _inode(file)
            elif _inode(file) != known:
                what = "replaced" if file.exists() else "deleted"
                return f"{file} was {what} while the study ran"
        size = self.path.stat().st_size
        if size < self.size:  # SQLite's own files only grow
            return f"{self.path} was cut from {self.size} to {size} bytes while the study ran"
        self.size = size
        return None


def _inode(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
