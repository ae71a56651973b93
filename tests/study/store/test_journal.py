"""The journal gives back what was written, and a start puts it where it belongs."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from fmnist_common.checksums import digest
from study.store import backup, location, ownership, replay, restore
from study.store.journal import Journal, folder_of
from study.store.stored_trial import NewTrial
from study.store.writer import End, StudyWriter, categorical
from trainer.errors import UserError

LEVELS = {"pooling": categorical(["max", "avg"])}
RECORDS = [{"study": "group/ä", "number": n, "values": [0.1 + n, None]} for n in (0, 7, 123456)]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(folder_of(tmp_path / "studies.db"))


def test_what_was_written_comes_back_in_order(journal: Journal) -> None:
    assert not journal.exists
    assert (list(journal.trials()), journal.studies()) == ([], [])
    journal.describe({"name": "group/ä", "attributes": {"plan": {}}})
    journal.write(RECORDS[1:])  # finished together
    journal.write(RECORDS[:1])
    journal.write([])
    first, second = (journal.file_of(record) for record in RECORDS[:2])
    assert list(journal.trials()) == [(first, RECORDS[:1]), (second, RECORDS[1:])]
    assert journal.studies() == [{"name": "group/ä", "attributes": {"plan": {}}}]
    assert journal.damaged() == []
    journal.forget_trials()
    assert (list(journal.trials()), len(journal.studies())) == ([], 1)
    journal.clear()
    assert not journal.exists


def test_a_torn_or_changed_record_is_none(journal: Journal) -> None:
    for record in RECORDS:
        journal.write([record])
    first, second, third = (journal.file_of(record) for record in RECORDS)
    content = first.read_bytes()
    first.write_bytes(content.replace(b"0.1", b"0.3"))
    second.write_bytes(content[:20])
    (journal.folder / ".x.json.123.tmp").write_bytes(content)  # of a process that was killed
    assert list(journal.trials()) == [(third, RECORDS[2:])]
    assert journal.damaged() == [first, second]


def test_a_file_of_an_older_version_holds_one_record(journal: Journal) -> None:
    journal.write(RECORDS[:1])
    (file,) = journal.folder.iterdir()
    file.write_text(json.dumps({"record": RECORDS[0], "sha256": digest(RECORDS[0])}))
    assert list(journal.trials()) == [(file, RECORDS[:1])]


def test_foreign_files_stay(journal: Journal) -> None:
    journal.write(RECORDS)
    mine = {"notes.txt", "notes.json", "run-1.json", ".notes.tmp"}
    for name in mine:
        (journal.folder / name).write_text("mine")
    (journal.folder / f".{journal.file_of(RECORDS[0]).name}.123.tmp").touch()
    journal.forget_trials()
    journal.clear()
    assert {path.name for path in journal.folder.iterdir()} == mine


# Replaying.


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "studies.db"


@pytest.fixture
def database(file: Path) -> Iterator[Any]:
    with ownership.take(location.locate(str(file)), "test") as opened:
        yield opened


def writer_in(database: Any, journal: Journal) -> StudyWriter:
    writer = StudyWriter(database, "own", journal=journal)
    if not writer.exists:
        writer.create([StudyDirection.MAXIMIZE])
        writer.describe({"plan": {"name": "own"}})
    return writer


def new(seed: int) -> NewTrial:
    return NewTrial({"pooling": "avg"}, LEVELS, {"variant": "x", "seed": seed})


def finish(writer: StudyWriter, trial: int, value: float) -> None:
    writer.report(trial, 1, value)
    writer.finish([(trial, TrialState.COMPLETE, [value], {"seconds": value})])


def said_by(database: Any, journal: Journal) -> list[str]:
    said: list[str] = []
    replay.replay(database, journal, said.append)
    return said


def test_what_the_database_has_is_left_alone(database: Any, journal: Journal) -> None:
    writer = writer_in(database, journal)
    finish(writer, writer.start([new(0)])[0], 0.5)
    before = writer.trials()
    assert said_by(database, journal) == []
    assert StudyWriter(database, "own").trials() == before


def test_a_result_that_was_not_committed_ends_its_running_trial(
    database: Any, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = writer_in(database, journal)
    (trial,) = writer.start([new(0)])
    monkeypatch.setattr(writer, "_close", lambda _: None)  # killed between journal and commit
    finish(writer, trial, 0.5)
    assert said_by(database, journal) == ["1 result put back from the journal"]
    (sound,) = StudyWriter(database, "own").sound_trials()
    assert (sound.state, sound.values, sound.params) == (
        TrialState.COMPLETE,
        [0.5],
        {"pooling": "avg"},
    )
    assert sound.intermediate_values == {1: 0.5}
    assert said_by(database, journal) == []  # twice is once


def test_a_study_is_made_again_with_its_numbers(
    tmp_path: Path, database: Any, journal: Journal
) -> None:
    writer = writer_in(database, journal)
    trials = writer.start([new(seed) for seed in range(4)])
    for trial in trials[1:3]:
        finish(writer, trial, 0.5)
    url = location.locate(str(tmp_path / "other.db"))
    with ownership.take(url, "test") as other:
        assert said_by(other, journal) == ["2 results put back from the journal"]
        again = StudyWriter(other, "own")
        assert again.plan() == {"name": "own"}
        sound = again.sound_trials()
        assert [trial.number for trial in sound] == [0, 1, 2]
        assert [trial.state.name for trial in sound] == ["FAIL", "COMPLETE", "COMPLETE"]
        assert sound[0].user_attrs["failure_reason"] == "lost with the database"
        assert sound[1].user_attrs["seed"] == 1
        assert again.next_number == 3


def test_trials_that_ended_together_are_put_back_among_those_of_other_files(
    tmp_path: Path, database: Any, journal: Journal
) -> None:
    writer = writer_in(database, journal)
    first, second, third = writer.start([new(seed) for seed in range(3)])
    finish(writer, second, 0.5)
    ends: list[End] = [(trial, TrialState.COMPLETE, [0.25], {}) for trial in (first, third)]
    writer.finish(ends)  # one file, whose first number is below the other's, and its last above
    assert len(list(journal.trials())) == 2
    with ownership.take(location.locate(str(tmp_path / "other.db")), "test") as other:
        assert said_by(other, journal) == ["3 results put back from the journal"]
        again = StudyWriter(other, "own").sound_trials()
    assert [trial.values for trial in again] == [[0.25], [0.5], [0.25]]


def test_a_result_that_fits_nowhere_is_kept(
    tmp_path: Path, database: Any, journal: Journal
) -> None:
    writer = writer_in(database, journal)
    finish(writer, writer.start([new(0)])[0], 0.5)
    other_journal = Journal(tmp_path / "other")
    url = location.locate(str(tmp_path / "other.db"))
    with ownership.take(url, "test") as other:
        another = writer_in(other, other_journal)
        finish(another, another.start([new(9)])[0], 0.9)
        (said,) = said_by(other, journal)
        assert "trial 0 of own in the journal fits no trial of the database" in said
        (kept,) = journal.folder.glob("*.conflict-*")
        assert str(kept) in said
        assert [trial.values for trial in another.trials()] == [[0.9]]


def test_a_damaged_record_is_left_aside(database: Any, journal: Journal) -> None:
    writer = writer_in(database, journal)
    finish(writer, writer.start([new(0)])[0], 0.5)
    (file,) = journal.folder.glob("*-[0-9]*.json")
    file.write_bytes(file.read_bytes()[:-9])
    (said,) = said_by(database, journal)
    assert "is no record of the journal any more" in said
    assert not file.exists()
    assert len(list(journal.folder.glob("*.damaged-*"))) == 1


# Backups.


def test_a_damaged_database_is_not_backed_up_over_a_good_backup(
    file: Path, journal: Journal
) -> None:
    with ownership.take(location.locate(str(file)), "test") as opened:
        writer = writer_in(opened, journal)
        finish(writer, writer.start([new(0)])[0], 0.5)
    target = backup.backup_of(file)
    assert backup.back_up(file, target).holds == {("own", "COMPLETE"): 1}
    assert backup.is_current(file)
    good = target.read_bytes()
    content = bytearray(file.read_bytes())
    content[8192:20480] = b"\xaa" * 12288
    file.write_bytes(content)
    with pytest.raises((UserError, sqlite3.Error), match=r"damaged|malformed"):
        backup.back_up(file, target)
    assert target.read_bytes() == good
    assert [path.name for path in file.parent.glob(".*")] == []


def test_a_log_that_its_database_left_is_not_laid_over_the_backup(
    file: Path, journal: Journal
) -> None:
    said: list[str] = []
    with ownership.take(location.locate(str(file)), "test") as opened:
        writer = writer_in(opened, journal)
        finish(writer, writer.start([new(0)])[0], 0.5)
        backup.back_up(file, backup.backup_of(file))
        with backup.reading(file) as reader:  # holds the log open
            reader.execute("BEGIN")
            finish(writer, writer.start([new(1)])[0], 0.6)
            file.unlink()
            log = file.with_name(file.name + "-wal").read_bytes()
            assert log
            restore.restore(file, said.append)
    assert said == [f"{file.name} is gone: its backup has been put in its place"]
    assert file.read_bytes() == backup.backup_of(file).read_bytes()
    assert not file.with_name(file.name + "-wal").exists()
    (kept,) = file.parent.glob("*.gone-*-wal")
    assert kept.read_bytes() == log


def test_a_reader_is_told_of_the_journal_of_a_database_that_is_gone(
    file: Path, journal: Journal
) -> None:
    journal.write(RECORDS)
    with pytest.raises(UserError, match="its journal is there"):
        location.check_readable(location.locate(str(file)))
