"""SQLite files, opened without leaving a trace."""

from pathlib import Path

WAL_VERSION = b"\x02\x02"  # in bytes 18 and 19 of a file in WAL mode


def is_wal(database: Path) -> bool:
    """Whether a file is in WAL mode, in which readers and one writer do not wait for each other.

    Raises:
        OSError: it cannot be read.
    """
    with database.open("rb") as file:
        return file.read(20)[18:20] == WAL_VERSION


def read_only_uri(database: Path) -> str:
    """Return the address under which SQLite reads a file and creates nothing beside it.

    A database in WAL mode without its log is open nowhere: every connection keeps one. With
    mode=ro alone SQLite would create the log and leave it there; immutable=1 does not. The log
    lies beside the resolved path.

    Raises:
        OSError: the file cannot be read.
    """
    path = database.resolve()
    log = path.with_name(path.name + "-wal")
    # The log first: where it is, nothing but SQLite must open the file. This process may have it
    # open, and closing it once more would drop all locks that SQLite holds on it (POSIX).
    at_rest = not log.exists() and path.is_file() and is_wal(path)
    return f"{path.as_uri()}?mode=ro" + ("&immutable=1" if at_rest else "")
