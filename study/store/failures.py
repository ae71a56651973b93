"""What goes wrong where the database is written, in words of our own."""

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from study.store import signals
from study.store.location import reason

DELETED = "the study was deleted from the database while it ran"
PATIENCE_SECONDS = 60.0  # with another process that holds the database, or a server that restarts
RECONNECT_SECONDS = 0.2  # between two attempts

Done = TypeVar("Done")


class StorageFailed(Exception):  # noqa: N818 # it is a state of affairs, not a mistake
    """The database refused a write: the file is gone or damaged, or somebody holds it."""


class DiskFull(StorageFailed):
    """There is no room for a write; it can be repeated when there is."""


class Busy(StorageFailed):
    """Another process holds the database just now."""


class Disconnected(Busy):
    """The connection to a server was cut, or the server is not there just now."""


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what SQLAlchemy, Optuna and the system raise where a write fails into our own."""
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        words = reason(error)
        if _is_cut(error):
            raise Disconnected(words) from error
        kinds = {"database or disk is full": DiskFull, "database is locked": Busy}
        raise kinds.get(words, StorageFailed)(_explained(words)) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        words = str(error) + (_limit() if error.errno == errno.EFBIG else "")
        raise (DiskFull if full else StorageFailed)(words) from error


def _is_cut(error: BaseException) -> bool:
    """Whether a server did not answer: it restarts, or the connection was ended."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DBAPIError):
        cause = cause.__cause__
    if cause is None:
        return False
    # psycopg's name for it, psycopg2's; None: not even connected. SQLite's errors have neither.
    code = getattr(cause.orig, "sqlstate", getattr(cause.orig, "pgcode", ""))
    gone = code is None or code.startswith(("08", "57P"))
    return cause.connection_invalidated or (isinstance(cause, OperationalError) and gone)


def _explained(words: str) -> str:
    """Say what a database's words mean, where they do not."""
    if "foreign key constraint" in words.lower():  # SQLite, PostgreSQL, MySQL
        return DELETED
    if words == "disk I/O error":
        return words + _limit()
    return words


def _limit() -> str:
    """Return a remark on the size that files may have here, where that is limited."""
    try:
        import resource
    except ImportError:  # not a system that has such limits
        return ""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == resource.RLIM_INFINITY:
        return ""
    return f": a file may have at most {limit} bytes here (ulimit -f)"


def patiently(write: Callable[[], Done], reconnect: Callable[[], None] = lambda: None) -> Done:
    """Write; again while another process holds the database, for a while or until a signal.

    Args:
        write: is repeated whole.
        reconnect: called before it is, where the connection to a server was cut.
    """
    began = time.monotonic()
    cut = False
    while True:
        try:
            if cut:
                reconnect()
            return write()
        except Busy as error:
            if signals.has_come() or time.monotonic() - began > PATIENCE_SECONDS:
                raise
            cut = isinstance(error, Disconnected)
            if cut:
                time.sleep(RECONNECT_SECONDS)
