"""Whether somebody owns a database, by the note that its owner leaves beside it; no Optuna here."""

import json
import os
import platform
from pathlib import Path

import sqlalchemy

from study.store import location


def has_owner(url: sqlalchemy.URL) -> bool | None:
    """Whether a process owns a database; None: it cannot be told, as on a server or another host.

    Nothing is locked for that: an owner that starts just now must not be turned away.
    """
    path = location.sqlite_path(url)
    if path is None or os.name != "posix":
        return None
    try:
        about = json.loads(note_of(path).read_text(encoding="utf-8"))
        if about["host"] != platform.node():
            return None
        os.kill(int(about["pid"]), 0)  # sends nothing
    except (FileNotFoundError, ProcessLookupError):
        return False  # it ended in good order, or was killed
    except PermissionError:
        return True  # somebody else's
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return True


def note_of(path: Path) -> Path:
    """Return where the owner of a database says who it is."""
    return path.with_name(path.name + ".owner.json")
