"""What a run does so that no result is lost: journal, backups, an eye on the database's file.

A finished trial is in the journal before the database is told. The journal goes when the run has
ended in good order; until then, the last backup and the journal together hold every result.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from study.store import backup, location
from study.store.database_file import DatabaseFile
from study.store.journal import Journal, folder_of
from study.store.writer import StudyWriter
from trainer.errors import UserError

BACKUP_TRIALS = 100  # between two backups at least
BACKUP_SHARE = 0.01  # of a run's time that backups may take


class Durability:
    """Keeps one run's results.

    Args:
        url: the database. A server keeps its own backups; its journal is in the current folder.
        tell: called with a line where a backup cannot be made.
    """

    def __init__(self, url: sqlalchemy.URL, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.file = location.sqlite_path(url)
        place = self.file or Path.cwd() / location.server_name(url)
        self.folder = place.parent
        self.journal = Journal(folder_of(place))
        self.failed = False  # the last backup: then the journal is needed still
        self.last = self.seconds = 0.0  # of the last backup: when it ended, how long it took

    @contextmanager
    def guarding(self, writer: StudyWriter) -> Iterator[None]:
        """Guard a run of a study that is open; at its end the journal has nothing left to hold.

        Raises:
            StorageFailed: the database is not the one that was opened; the journal stays.
        """
        if self.file is not None:
            writer.file = DatabaseFile(self.file)
        self._back_up(writer)
        try:
            yield
            self._back_up(writer)
        finally:
            writer.check()
            if writer.in_order and not self.failed:
                self.journal.clear()

    def mind(self, writer: StudyWriter) -> None:
        """Make a backup where one is due."""
        waited = time.monotonic() - self.last
        if writer.ended >= BACKUP_TRIALS and waited > self.seconds / BACKUP_SHARE:
            self._back_up(writer)

    def _back_up(self, writer: StudyWriter) -> None:
        writer.check()
        if self.file is None or backup.is_current(self.file):
            return
        began = time.monotonic()
        self.failed = True
        try:
            made = backup.back_up(self.file, backup.backup_of(self.file))
        except (OSError, sqlite3.Error, SQLAlchemyError, UserError) as error:
            self.tell(f"no backup could be made, the journal is kept: {error}")
            return
        finally:
            self.last = time.monotonic()
            self.seconds = self.last - began
        writer.check()  # else it may be the backup of another file
        self.failed = False
        for study, words in made.damaged.items():
            self.tell(f"the backup holds what the database holds: study {study!r}: {words}")
        writer.ended = 0
        self.journal.forget_trials()
