"""Where the database is, and whether it is ours to use.

Optuna's schema in SQLite (or any database that SQLAlchemy opens by URL).
"""

import hashlib
import os
import re
import shutil
import sqlite3
from pathlib import Path

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from fmnist_common.environment import variable
from study.store import backup
from study.store.journal import folder_of
from trainer.errors import UserError

SHOWN_CHARACTERS = 100  # of a path that is refused
FULL_BYTES = 64 << 10  # SQLite needs half of it for the index of its log, even to read
PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
PACKAGES = {  # of the drivers that SQLAlchemy imports, where they are called otherwise
    "psycopg": "'fmnist-study[postgres]'",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "pymysql": "PyMySQL",
    "mysql": "mysql-connector-python",
    "cx_Oracle": "cx-Oracle",
}


def locate(where: str | None) -> sqlalchemy.URL:
    """Return the URL of `--storage URL|PATH`, of `$FMNIST_STUDY_STORAGE`, or of `./studies.db`.

    Raises:
        UserError: it is no URL that SQLAlchemy knows.
    """
    where = where or variable("STORAGE")[1] or "studies.db"
    if "://" not in where:
        return _file_url(where)
    try:
        url = sqlalchemy.make_url(where)
        url.get_dialect()
    except (SQLAlchemyError, ValueError) as error:
        raise UserError(f"storage {masked(where)}: not a database URL ({reason(error)})") from error
    if url.drivername == "postgresql":  # no driver named: the one that the extra installs
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise UserError("storage: give SQLite a file; a database in memory is lost at the end")
        if url.query:
            options = ", ".join(url.query)
            raise UserError(f"storage {masked(where)}: options of SQLite are not read: {options}")
        return _file_url(str(url.database))
    return url


def _file_url(where: str) -> sqlalchemy.URL:
    """Return the URL of a file, wherever links lead to: once, as all that belongs to a database
    lies beside the file itself, its log first of all.
    """
    try:
        path = Path(where).resolve()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long, in a circle, not a path
        words = (error.strerror if isinstance(error, OSError) else None) or str(error)
        shown = where if len(where) < SHOWN_CHARACTERS else f"{where[:SHOWN_CHARACTERS]}..."
        raise UserError(f"storage {shown}: {words}") from error
    return sqlalchemy.URL.create("sqlite", database=str(path))


def sqlite_path(url: sqlalchemy.URL) -> Path | None:
    """Return the file of an SQLite URL, else None."""
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


def server_name(url: sqlalchemy.URL) -> str:
    """Return a file name for a database on a server: another one for each, on whatever server.

    It is the same however the server is spelled: with its usual port, or as localhost's number.
    """
    host = str(url.host or url.query.get("host") or "localhost").lower()
    host = "localhost" if host in ("127.0.0.1", "::1") else host
    port = url.port or url.query.get("port") or PORTS.get(url.get_backend_name(), 0)
    where = hashlib.sha256(f"{host}:{port}/{url.database}".encode()).hexdigest()[:12]
    return f"{re.sub(r'[^0-9A-Za-z_.-]', '_', str(url.database))}-{where}.server"


def display(url: sqlalchemy.URL) -> str:
    """Return a URL for people: a path for SQLite, and never a password."""
    path = sqlite_path(url)
    if path is None:
        return masked(url.render_as_string(hide_password=False))
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def masked(where: str) -> str:
    """Hide the user and every password of what may be, or may hold, a URL."""
    return re.sub(r"(pass\w*=)[^&\s]*", r"\1***", re.sub(r"://.*@", "://***@", where))


def shareable(word: str) -> str:
    """Leave out of a word of a command where on this machine a file lies, and what `masked` hides.

    A stored command tells others how a study was made; they have other folders.
    """
    if "://" in word:
        return masked(word)
    return re.sub(r"(^|[=:])~?/(?:[^/]+/)*([^/]*)$", r"\1\2", masked(word))


def check_readable(url: sqlalchemy.URL) -> None:
    """Check, without touching it, that a database is there and has Optuna's schema.

    Raises:
        UserError: it is missing, unreadable, no SQLite file, or not Optuna's.
    """
    path = sqlite_path(url)
    if path is not None and not path.exists() and folder_of(path).is_dir():
        raise UserError(
            f"storage {display(url)}: no such file any more, but its journal is there: "
            "'fmnist-study run ...' restores it"
        )
    if path is not None and not path.exists():
        raise UserError(f"storage {display(url)}: no such file; 'fmnist-study run ...' makes one")
    if is_new(url):
        raise UserError(f"storage {display(url)}: holds no study yet")


def is_new(url: sqlalchemy.URL) -> bool:
    """Whether there is no database yet: no file, or one without tables.

    Raises:
        UserError: as `check_readable`.
    """
    path = sqlite_path(url)
    if path is None:
        return not _check_server(url)
    return not (path.exists() and _check_file(url, path))


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
        _check_names(url, path)
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
        raise UserError(f"storage {shown}: cannot be read: {reason(error, url)}") from error


def _check_names(url: sqlalchemy.URL, path: Path) -> None:
    # SQLite's log lies beside one name: who comes by the other does not see it, nor the lock.
    names = path.stat().st_nlink
    if names > 1:
        raise UserError(
            f"storage {display(url)}: is one file under {names} names (hard links), and can be "
            "written safely under one alone; make a copy (cp) and use that"
        )


def _check_version(shown: str, row: tuple[str] | None) -> None:
    # Of Optuna's 5.0; "v3.2.0.a" and the like, as long as the schema stays.
    if row and row[0] < "v3.2.0.a":
        raise UserError(
            f"storage {shown}: was made by an older Optuna (schema {row[0]}); upgrade a copy of it "
            "with 'optuna storage upgrade --storage URL'"
        )


def _check_server(url: sqlalchemy.URL) -> bool:
    """Check that a server can be reached; return whether it has Optuna's tables."""
    try:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        return sqlalchemy.inspect(engine).has_table("studies")
    except ImportError as error:
        name = error.name or url.get_driver_name()  # none: psycopg without its library
        package = PACKAGES.get(name, name)
        raise UserError(
            f"storage {display(url)}: its driver is not installed ({error}): pip install {package}"
        ) from error
    except SQLAlchemyError as error:
        words = reason(error)
        host = str(url.host or "")
        if "@" in host:  # of a password that is not quoted: its end is taken for the host's name
            words = words.replace(host, host.rpartition("@")[2])
        raise UserError(f"storage {display(url)}: cannot connect: {words}") from error


def reason(error: BaseException, url: sqlalchemy.URL | None = None) -> str:
    """Return the database's own words for an error, in one line: no SQL, no password.

    Args:
        error: what was raised.
        url: the database, whose disk is named where it is full: SQLite's words do not tell.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    words = masked((str(error).splitlines() or [type(error).__name__])[0])
    path = sqlite_path(url) if url is not None else None
    return words + (_full_disk(path.parent) if path and isinstance(error, sqlite3.Error) else "")


def _full_disk(folder: Path) -> str:
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return ""
    return f" (no room in {folder}: {free} bytes are free)" if free < FULL_BYTES else ""
