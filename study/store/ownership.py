"""The one owner of a database: the process that writes it while a study runs.

Several processes on one SQLite file may claim the same trial, and Optuna advises against it. A
lock can be lost while it is held: its file is removed, its connection to a server cut. So it is
looked at again before each commit, when nobody else can write any more. An owner that has lost it
stops, unless it can take it again on the server before anybody else has.
"""

import contextlib
import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy
from filelock import FileLock, Timeout
from sqlalchemy.exc import SQLAlchemyError

from study.store import location, restore, server_lock
from study.store.connection import OwnedStorage, open_storage, refused
from study.store.database_file import inode
from study.store.failures import StorageFailed
from study.store.owner_note import note_of
from trainer.atomic import write_atomically
from trainer.errors import UserError


@contextmanager
def take(
    url: sqlalchemy.URL, command: str, tell: Callable[[str], None] = lambda _: None
) -> Iterator[OwnedStorage]:
    """Open the database for writing, as its only owner.

    A database that was damaged or taken away is restored from its backup first.

    Args:
        url: where it is; see `location.locate`, which resolves links.
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
    with _lock(url, path, command) as claim:
        try:
            restore.restore(path, tell)
        except OSError as error:
            shown = location.display(url)
            raise UserError(f"storage {shown}: cannot be restored: {error}") from error
        location.check_writable(url)
        storage = open_storage(url)
        storage.guard(claim)
        try:
            _wait_for_writers(url, storage)
            yield storage
        finally:
            storage.close()


def _wait_for_writers(url: sqlalchemy.URL, storage: OwnedStorage) -> None:
    try:
        storage.wait_for_writers()
    except StorageFailed as failure:
        raise UserError(f"storage {location.display(url)}: {failure}") from failure


class FileClaim:
    """A lock file that this process has locked.

    Args:
        lock: the file.
    """

    def __init__(self, lock: Path) -> None:
        self.lock, self.inode = lock, inode(lock)

    def fault(self, _connection: sqlalchemy.Connection | None = None) -> str | None:
        """Say what has happened to it; None: nothing."""
        now = inode(self.lock)
        if now == self.inode:
            return None
        what = "removed" if now is None else "replaced"
        return (
            f"{self.lock} was {what} while the study ran, so another run may own the database; "
            "nothing more is written"
        )

    def renew(self) -> None:
        """Say that it is lost: a file that was taken away is not made again.

        Raises:
            StorageFailed: always, where there is a fault.
        """
        fault = self.fault()
        if fault:
            raise StorageFailed(fault)


@contextmanager
def _lock(url: sqlalchemy.URL, path: Path, command: str) -> Iterator[FileClaim]:
    """Hold a database's lock file, which the system frees when its holder dies."""
    lock = FileLock(f"{path}.lock")
    file = Path(lock.lock_file)
    note = note_of(path)
    if file.is_symlink():
        raise UserError(f"storage {location.display(url)}: {file} is a symbolic link; remove it")
    try:
        file.touch()  # filelock would take a refusal for a lock that is held
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UserError(f"storage {location.display(url)}: is in use{_owner(note)}") from error
    except OSError as error:
        shown = location.display(url)
        raise UserError(f"storage {shown}: {path.parent} is not writable") from error
    claim = FileClaim(file)
    try:
        _write_note(note, command)
        yield claim
    finally:
        if claim.fault() is None:  # else it is the note of another owner
            note.unlink(missing_ok=True)
        lock.release()


def _write_note(note: Path, command: str) -> None:
    about = {
        "pid": os.getpid(),
        "host": platform.node(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
    }
    with contextlib.suppress(OSError):  # a courtesy to others: the lock is held without it
        # Renamed into its place: what has that name may be a link to a file of somebody's.
        write_atomically(note, json.dumps(about).encode(), sync=False)


def _owner(note: Path) -> str:
    try:
        about = json.loads(note.read_text(encoding="utf-8"))
        words = (
            f" by process {about['pid']} on {about['host']} since {about['started']} "
            f"({about['command']}); wait for it, or give this run its own --storage"
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return " by another process"
    return "".join(character if character.isprintable() else "?" for character in words)


@contextmanager
def _server(url: sqlalchemy.URL) -> Iterator[OwnedStorage]:
    """Open a database server, as the only owner of this database where the server has locks."""
    lock = server_lock.of(url.get_backend_name())
    if lock is None:
        with contextlib.closing(open_storage(url)) as storage:
            yield storage
        return
    claim = server_lock.ServerClaim(lock, url)
    try:
        with refused(url):
            if not claim.take():
                raise UserError(f"storage {location.display(url)}: is in use by another process")
        storage = open_storage(url)  # only now: two who make the tables are in each other's way
        storage.guard(claim)
        try:
            yield storage
        finally:
            storage.claim = None  # closing commits nothing
            with contextlib.suppress(SQLAlchemyError):  # where the server is gone
                storage.close()
    finally:
        claim.close()
