"""The one owner of a database: the process that writes it while a study runs.

Several processes on one SQLite file may claim the same trial, and Optuna advises against it.
"""

import contextlib
import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy
from filelock import FileLock, Timeout

from study.store import location, restore
from study.store.connection import open_storage
from trainer.errors import UserError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

# What `take` asks a server for: 1 or true, unless another connection has it.
SERVER_LOCKS = {
    "postgresql": "SELECT pg_try_advisory_lock(hashtext('fmnist-study'))",
    "mysql": "SELECT GET_LOCK(CONCAT('fmnist-study.', DATABASE()), 0)",
    "mariadb": "SELECT GET_LOCK(CONCAT('fmnist-study.', DATABASE()), 0)",
}


@contextmanager
def take(
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
    path = location.sqlite_path(url)
    if path is None:
        location.check_writable(url)
        with _server(url) as storage:
            yield storage
        return
    if not restore.is_possible(path):
        location.check_writable(url)
    with _lock(url, path, command):
        try:
            restore.restore(path, tell)
        except OSError as error:
            raise UserError(
                f"storage {location.display(url)}: cannot be restored: {error}"
            ) from error
        location.check_writable(url)
        storage = open_storage(url)
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()


@contextmanager
def _lock(url: sqlalchemy.URL, path: Path, command: str) -> Iterator[None]:
    """Hold a database's lock file, which the system frees when its holder dies."""
    lock = FileLock(f"{path}.lock")
    note = path.with_name(path.name + ".owner.json")
    try:
        Path(lock.lock_file).touch()  # filelock would take a refusal for a lock that is held
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UserError(f"storage {location.display(url)}: is in use{_owner(note)}") from error
    except OSError as error:
        raise UserError(
            f"storage {location.display(url)}: {path.parent} is not writable"
        ) from error
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
    storage = open_storage(url)
    try:
        with storage.engine.connect() as connection:
            take = SERVER_LOCKS.get(url.get_backend_name())
            if take and not connection.exec_driver_sql(take).scalar():
                raise UserError(f"storage {location.display(url)}: is in use by another process")
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
