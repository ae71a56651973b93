"""The journal's results are put back where the database lacks them."""

from pathlib import Path
from typing import Any

import sqlalchemy

from study.store import backup, location, ownership, restore
from study.store.connection import OwnedStorage
from study.store.journal import Journal, folder_of
from study.store.restore import Tell
from study.store.writer import StudyWriter


def recover(url: sqlalchemy.URL, tell: Tell) -> None:
    """Restore a database that was damaged or taken away, and its journal's results.

    Raises:
        UserError: another process owns it, or it cannot be used.
    """
    path = location.sqlite_path(url)
    if path is not None and restore.is_possible(path):
        with ownership.take(url, "restore", tell) as database:
            replay(database, Journal(folder_of(path)), tell)


def _set_damaged_aside(journal: Journal, tell: Tell) -> None:
    for file in journal.damaged():
        kept = file.rename(backup.aside(file, "damaged"))
        tell(f"{kept}: is no record of the journal any more; left aside")


def _in_order(journal: Journal) -> list[tuple[dict[str, Any], Path]]:
    """Return every trial with its file, by number: what is missing below one is entered as lost."""
    trials = [(trial, file) for file, records in journal.trials() for trial in records]
    return sorted(trials, key=lambda pair: int(pair[0]["number"]))


def replay(database: OwnedStorage, journal: Journal, tell: Tell) -> None:
    """Put the journal's results into the database, those that it has already excepted.

    What cannot be put back (its number is another trial's now) stays in the journal's folder,
    under another name.
    """
    if not journal.exists:
        return
    _set_damaged_aside(journal, tell)
    writers = {study["name"]: StudyWriter(database, study["name"]) for study in journal.studies()}
    for study in journal.studies():
        if not writers[study["name"]].exists:
            writers[study["name"]].create_again(study)
    restored, misfits = 0, dict[Path, Path]()  # files, and what they will be called
    for trial, file in _in_order(journal):
        name = trial["study"]
        writer = writers.setdefault(name, StudyWriter(database, name))
        fate = writer.restore(trial) if writer.exists else "conflict"
        restored += fate == "restored"
        if fate == "conflict":
            kept = misfits.setdefault(file, backup.aside(file, "conflict"))
            tell(
                f"trial {trial['number']} of {name} in the journal fits no trial of the database: "
                f"it is kept as {kept}"
            )
    for file, kept in misfits.items():
        file.rename(kept)
    if restored:
        results = "result" if restored == 1 else "results"
        tell(f"{restored} {results} put back from the journal")
