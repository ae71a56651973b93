"""The file that a run writes: whether it is still there, the same, and whole."""

from pathlib import Path


class DatabaseFile:
    """The file that a run writes: whether it is still there, the same, and whole.

    SQLite itself goes on writing into a file that has no name any more.

    Args:
        path: the file; its database is open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inodes = {file: _inode(file) for file in (path, path.with_name(path.name + "-wal"))}
        self.size = path.stat().st_size

    def fault(self) -> str | None:
        """Say what has happened to it; None: nothing."""
        for file, inode in self.inodes.items():
            if inode is None:  # SQLite makes the log with the first write after a rest
                self.inodes[file] = _inode(file)
            elif _inode(file) != inode:
                what = "replaced" if file.exists() else "deleted"
                return f"{file} was {what} while the study ran"
        size = self.path.stat().st_size
        if size < self.size:  # SQLite's own files only grow
            return f"{self.path} was cut from {self.size} to {size} bytes while the study ran"
        self.size = size
        return None


def _inode(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
