"""Files that are written whole or not at all, and survive a power cut. No torch here."""

import contextlib
import os
from pathlib import Path


def write_atomically(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a part.

    Args:
        path: the file.
        content: all of it.
        sync: make the name durable too; False: the caller does it for several (`sync_folder`).

    Raises:
        OSError: it cannot be written; the old one is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if sync:
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make a file's content durable.

    Raises:
        OSError: it cannot be.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    with contextlib.suppress(OSError):  # not every file system syncs folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
