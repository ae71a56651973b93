"""What a start finds and mends: a database that is gone, damaged or replaced; results it lacks.

The last backup is put in its place, then the journal is replayed. Nothing is ever deleted: what
was in the way is kept under a name that says why. A database that was removed after a run had
ended in good order stays removed: without a journal nothing says that it is missed. Of one that was
put back to an older state, what only the backup has is offered.
"""

import shlex
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from study.store import backup
from study.store.journal import folder_of
from trainer.atomic import sync_file, sync_folder

Tell = Callable[[str], None]


def is_possible(database: Path) -> bool:
    """Whether there is something to recover from."""
    return folder_of(database).is_dir() or backup.backup_of(database).is_file()


def restore(database: Path, tell: Tell) -> None:
    """Put the last backup in the place of a database that is not what it was.

    Called by the owner, before it opens the database.

    Args:
        database: the file.
        tell: called with a line for each thing that was done.

    Raises:
        OSError: the place cannot be written.
    """
    if not is_possible(database):
        return
    copy, unfinished = backup.backup_of(database), folder_of(database).is_dir()
    usable = copy.is_file() and backup.is_ours(copy)
    if not database.exists():
        if not unfinished:
            return  # removed on purpose
        fault = "is gone"
        # Its log may have stayed. SQLite would lay it over the backup, which it does not fit.
        backup.put_aside(database, "gone")
    else:
        damage = _fault(database, copy if unfinished else None)
        if damage is None:
            if usable and not unfinished:
                _offer(database, copy, tell)
            return
        if database.stat().st_size == 0 and not usable:
            return
        if not usable and not unfinished:
            return  # there is nothing to put in its place
        fault = f"{damage}; it is kept as {backup.put_aside(database, 'damaged').name}"
    if copy.is_file() and not usable:
        fault += (
            f"; its backup is damaged too, and kept as {backup.put_aside(copy, 'damaged').name}"
        )
    if usable:
        _copy(copy, database)
        tell(f"{database.name} {fault}: its backup has been put in its place")
    else:
        tell(f"{database.name} {fault}: it is made again from its journal")


def _fault(database: Path, copy: Path | None) -> str | None:
    """Say what is wrong with a database that exists; `copy`: what it must hold at least."""
    if not database.is_file() or database.stat().st_size == 0:
        return "is empty"
    try:
        with backup.reading(database) as opened:
            fault = backup.damage(opened)
            if fault is not None:
                return f"is damaged ({fault})"
            holds = backup.contents(opened)
    except sqlite3.Error as error:
        return f"is damaged ({error})"
    if copy is not None and copy.is_file() and not backup.covers(holds, copy):
        return "lacks results that its backup has"
    return None


def _offer(database: Path, copy: Path, tell: Tell) -> None:
    """Say which studies a sound database lacks that its backup has, and how to have them back.

    A file under version control is put back to an older state by `git checkout` or `git stash`; or
    somebody deleted a study on purpose. The backup gets a name that the next one does not take.
    """
    with backup.reading(database) as opened:
        lost = backup.lacks(backup.contents(opened), copy)
    if not lost:
        return
    kept = backup.put_aside(copy, "older")
    for study, (trials, is_there) in lost.items():
        more = f"{trials} more trials" if is_there else f"{trials} trials"
        name = ["--as", f"{study}-before"] if is_there else []
        words = ["copy", study, "--storage", str(kept), "--to", str(database), *name]
        tell(
            f"{database.name} lacks {more} of study {study!r}, which {kept.name} has; to have them "
            f"back: {shlex.join(['fmnist-study', *words])}"
        )


def _copy(source: Path, target: Path) -> None:
    """Copy a backup, which nobody writes."""
    temporary = target.with_name(f".{target.name}.restored.tmp")
    temporary.unlink(missing_ok=True)  # it would be written through a link
    shutil.copyfile(source, temporary)
    sync_file(temporary)
    temporary.replace(target)
    sync_folder(target.parent)
