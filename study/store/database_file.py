"""The file that a run writes: whether it is still there, the same, and whole."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

CHECKPOINT_SECONDS, CHECKPOINT_TRIES = 1.0, 20  # that one is waited for, where a file is smaller


class DatabaseFile:
    """The file that a run writes.

    SQLite itself goes on writing into a file that has no name any more.

    Args:
        path: the file; its database is open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inodes = {file: inode(file) for file in (path, path.with_name(path.name + "-wal"))}
        self.size = path.stat().st_size

    def fault(self) -> str | None:
        """Say what has happened to it; None: nothing."""
        for file, before in self.inodes.items():
            if before is None:  # SQLite makes the log with the first write after a rest
                self.inodes[file] = inode(file)
            elif inode(file) != before:
                what = "replaced" if file.exists() else "deleted"
                return f"{file} was {what} while the study ran"
        size = self.path.stat().st_size
        if size < self.size and not self._was_vacuumed():  # else SQLite's files only grow
            return f"{self.path} was cut from {self.size} to {size} bytes while the study ran"
        self.size = size
        return None

    def _was_vacuumed(self) -> bool:
        """Whether SQLite itself has made the file this small: it then holds what its header says.

        A checkpoint of another process writes the header first and the last pages last.
        """
        for _ in range(CHECKPOINT_TRIES):
            if self._holds_its_pages():
                return True
            time.sleep(CHECKPOINT_SECONDS / CHECKPOINT_TRIES)
        return False

    def _holds_its_pages(self) -> bool:
        # Of the file alone: pages that only the log has are none that it lost. SQLite opens it, as
        # any other way to close it would take this process's locks on it away.
        uri = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
        try:
            with closing(sqlite3.connect(uri, uri=True)) as opened:
                (pages,) = opened.execute("PRAGMA page_count").fetchone()
                (bytes_each,) = opened.execute("PRAGMA page_size").fetchone()
        except sqlite3.Error:
            return False
        return bool(0 < pages * bytes_each <= self.path.stat().st_size)


def inode(file: Path) -> tuple[int, int] | None:
    """Return which file a name is of: device and inode; None: of none."""
    try:
        status = file.stat(follow_symlinks=False)
    except OSError:
        return None
    return status.st_dev, status.st_ino
