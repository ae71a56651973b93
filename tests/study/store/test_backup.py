"""A backup takes the place of nothing but a backup, and of none that holds more or holds it sound.

Stands for: a copy that is trusted later. Whatever is in its way stays, and what is written is read
again before it is called done.
"""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from fmnist_common.sqlite import read_only_uri
from study.cli import main
from study.store import backup, location, ownership
from study.store.durability import Durability
from study.store.journal import folder_of
from study.store.replay import recover
from study.store.stored_trial import NewTrial
from study.store.verify import verify
from study.store.writer import StudyWriter, categorical
from trainer.atomic import sync_folder
from trainer.errors import UserError

LEVELS = {"pooling": categorical(["max", "avg"])}


def write(file: Path, values: list[float], study: str = "q") -> None:
    """Add completed trials to a study."""
    with ownership.take(location.locate(str(file)), "test") as database:
        writer = StudyWriter(database, study)
        if not writer.exists:
            writer.create([StudyDirection.MAXIMIZE])
            writer.describe({"plan": {"name": study}})
        new = NewTrial({"pooling": "avg"}, LEVELS, {"variant": "x"})
        for trial, value in zip(writer.start([new for _ in values]), values, strict=True):
            writer.report(trial, 1, value)
            writer.finish([(trial, TrialState.COMPLETE, [value], {})])


def change(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as opened, opened:
        opened.execute(statement)


def values(file: Path) -> list[float]:
    with backup.reading(file) as opened:
        return [value for (value,) in opened.execute("SELECT value FROM trial_values ORDER BY 1")]


def exits(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command in this process; return its exit code, and all that it says."""
    with pytest.raises(SystemExit) as end:
        main(list(words))
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out + said.err


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(tmp_path / "studies.db", [0.5, 0.6])
    return tmp_path / "studies.db"


# What `--out FILE` may replace.


def a_plan(target: Path) -> None:
    target.write_text('name = "precious"\n')


def nothing(target: Path) -> None:
    target.touch()


def a_foreign_database(target: Path) -> None:
    change(target, "CREATE TABLE mine (a)")


def a_damaged_database(target: Path) -> None:
    target.write_bytes(b"SQLite format 3\0" + b"\xaa" * 4096)


def a_folder(target: Path) -> None:
    target.mkdir()


def a_pipe(target: Path) -> None:
    os.mkfifo(target)


def a_device(target: Path) -> None:
    target.symlink_to("/dev/null")


def a_link_to_a_plan(target: Path) -> None:
    a_plan(target.with_name("plan.toml"))
    target.symlink_to("plan.toml")


def a_database_that_is_owned(target: Path) -> None:
    write(target, [0.1])
    folder_of(target).mkdir()  # a run was cut short


@pytest.mark.parametrize(
    "make",
    [
        a_plan, nothing, a_foreign_database, a_damaged_database, a_folder, a_pipe, a_device,
        a_link_to_a_plan, a_database_that_is_owned,
    ],
    ids=lambda make: make.__name__,
)  # fmt: skip
def test_what_is_no_backup_of_ours_is_never_replaced(
    file: Path, make: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    target = file.with_name("target")
    make(target)
    before = target.lstat()
    content = target.read_bytes() if target.is_file() else None
    words = ("backup", "--storage", str(file), "--out", str(target))
    code, said = exits(*words, capsys=capsys)
    assert code == 2
    assert "stays as it is" in said
    assert (target.lstat().st_ino, target.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert content is None or target.read_bytes() == content


@pytest.mark.parametrize(
    "name",
    [
        "studies.db-wal",
        "studies.db-journal",
        "x-shm",
        "studies.db.lock",
        "x.owner.json",
        "x.journal",
    ],
)
def test_no_backup_gets_the_name_of_a_log(
    file: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = file.with_name(name)
    target.unlink(missing_ok=True)
    words = ("backup", "--storage", str(file), "--out", str(target))
    code, said = exits(*words, capsys=capsys)
    assert (code, "is the name of a file beside a database" in said) == (2, True)
    assert not target.exists()


def test_a_database_that_is_owned_just_now_is_not_replaced(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "other.db"
    write(target, [0.1])
    with (
        ownership.take(location.locate(str(target)), "test"),
        pytest.raises(UserError, match="a run writes"),
    ):
        backup.check_replaceable(target)
    backup.check_replaceable(target)


@pytest.mark.parametrize("there", [False, True], ids=["alone", "beside an older backup"])
def test_a_log_that_was_left_beside_a_backup_is_not_laid_over_it(
    file: Path, tmp_path: Path, there: bool
) -> None:
    target = tmp_path / "copy.db"
    write(target, [0.1, 0.2, 0.3])
    with closing(sqlite3.connect(target)) as opened:
        opened.execute("UPDATE trial_values SET value = 0.9")
        opened.commit()
        log = target.with_name("copy.db-wal").read_bytes()
    older = target.read_bytes()
    target.unlink()
    if there:
        target.write_bytes(older)
    target.with_name("copy.db-wal").write_bytes(log)

    assert backup.back_up(file, target).holds == {("q", "COMPLETE"): 2}

    assert values(target) == [0.5, 0.6]
    with closing(sqlite3.connect(target)) as opened:  # as any other program opens it
        assert opened.execute("SELECT COUNT(*) FROM trials").fetchone() == (2,)
    (kept,) = tmp_path.glob("copy.db.older-*-wal")
    assert kept.read_bytes() == log
    assert kept.with_name(kept.name.removesuffix("-wal")).exists() == there


def test_a_backup_that_does_not_read_as_it_was_written_is_no_success(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = sync_folder

    def rot(folder: Path) -> None:
        sync(folder)
        change(file.with_name("copy.db"), "DELETE FROM trials")

    monkeypatch.setattr(backup, "sync_folder", rot)
    with pytest.raises(UserError, match="does not read as it was written"):
        backup.back_up(file, file.with_name("copy.db"))


def test_a_backup_follows_a_link_to_its_file(file: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    target = tmp_path / "studies.db.backup"
    target.symlink_to("disk/studies.backup")
    for _ in range(2):
        backup.back_up(file, target)
        assert target.is_symlink()
        assert values(tmp_path / "disk" / "studies.backup") == [0.5, 0.6]
        write(file, [])


def test_the_usual_backup_is_not_laid_over_a_file_of_somebody_s(file: Path) -> None:
    a_link_to_a_plan(backup.backup_of(file))
    with pytest.raises(UserError, match="which is not a database of studies"):
        backup.back_up(file, backup.backup_of(file))
    assert (file.parent / "plan.toml").read_text().startswith("name")
    backup.backup_of(file).unlink()
    a_plan(backup.backup_of(file))  # in its very place: it is set aside
    backup.back_up(file, backup.backup_of(file))
    (kept,) = file.parent.glob("*.backup.damaged-*")
    assert kept.read_text().startswith("name")


# Rotten results.

ROT = {
    "a value": "UPDATE trial_values SET value = 0.7 WHERE value = 0.6",
    "an intermediate value": "UPDATE trial_intermediate_values SET intermediate_value = 0",
    "an attribute": "UPDATE trial_user_attributes SET value_json = '\"y\"' WHERE key = 'variant'",
    "a checksum": "UPDATE trial_user_attributes SET value_json = '\"00\"' WHERE key = 'checksum'",
    "a state": "UPDATE trials SET state = 'COMPLEXE' WHERE number = 1",
    "a date": "UPDATE trials SET datetime_complete = 'x' WHERE number = 1",
    "no text": "UPDATE trial_user_attributes SET value_json = CAST(x'ff' AS TEXT)",
    "a trial that vanishes": "DELETE FROM trials WHERE number = 1",
    "the plan": "UPDATE study_user_attributes SET value_json = '{}' WHERE key = 'plan'",
    "the seal": "UPDATE study_user_attributes SET value_json = '[' WHERE key = 'seal'",
}


@pytest.mark.parametrize("statement", ROT.values(), ids=ROT)
def test_what_has_rotted_does_not_replace_its_sound_copy(
    file: Path, statement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = backup.backup_of(file)
    backup.back_up(file, target)
    good = target.read_bytes()
    change(file, statement)
    code, said = exits("backup", "--storage", str(file), capsys=capsys)
    assert code == 2
    assert "study 'q' is damaged" in said
    assert f"{target.name} has it sound" in said
    assert target.read_bytes() == good
    assert not list(file.parent.glob("*.older-*"))


def test_a_run_keeps_the_sound_backup_and_its_journal(file: Path) -> None:
    backup.back_up(file, backup.backup_of(file))
    change(file, ROT["a value"])
    url, said = location.locate(str(file)), list[str]()
    with ownership.take(url, "test") as database:
        durability = Durability(url, said.append)
        writer = StudyWriter(database, "q", journal=durability.journal)
        with durability.guarding(writer):
            (trial,) = writer.start([NewTrial({"pooling": "max"}, LEVELS, {"variant": "y"})])
            writer.finish([(trial, TrialState.COMPLETE, [0.8], {})])
    (line,) = said
    assert "no backup could be made, the journal is kept" in line
    assert "trial 1 is damaged" in line
    for path in file.parent.glob("studies.db*"):  # the database is lost: all is there
        if path.is_file() and path != backup.backup_of(file):
            path.unlink()
    recover(url, said.append)
    assert values(file) == [0.5, 0.6, 0.8]
    with backup.reading(file) as opened:
        assert verify(opened).damaged == {}


def test_the_first_backup_of_what_has_rotted_is_made_and_says_so(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(file, ROT["a value"])
    code, said = exits("backup", "--storage", str(file), capsys=capsys)
    assert code == 0
    assert "study 'q' is damaged, in the database as in the backup: trial 1 is damaged" in said


def test_a_study_that_was_deleted_stays_in_the_older_backup(file: Path) -> None:
    write(file, [0.9], study="other")
    target = backup.backup_of(file)
    backup.back_up(file, target)
    optuna.delete_study(study_name="other", storage=f"sqlite:///{file}")
    write(file, [0.7])
    assert backup.back_up(file, target).holds == {("q", "COMPLETE"): 3}
    (older,) = file.parent.glob("*.backup.older-*")
    assert values(older) == [0.5, 0.6, 0.9]


def test_sound_backups_follow_one_another_and_leave_none_behind(file: Path) -> None:
    for value in (0.7, 0.8):
        backup.back_up(file, backup.backup_of(file))
        write(file, [value])
    assert not list(file.parent.glob("*.older-*"))


# What a start does without a sound backup.


@pytest.mark.parametrize("database", ["gone", "damaged"])
def test_a_damaged_backup_beside_a_whole_journal_hinders_no_start(
    tmp_path: Path, database: str
) -> None:
    file = tmp_path / "studies.db"
    url, said = location.locate(str(file)), list[str]()
    with ownership.take(url, "test") as opened:
        durability = Durability(url, said.append)
        writer = StudyWriter(opened, "q", journal=durability.journal)
        writer.create([StudyDirection.MAXIMIZE])
        writer.describe({"plan": {"name": "q"}})
        for value in (0.5, 0.6):
            (trial,) = writer.start([NewTrial({"pooling": "max"}, LEVELS, {"variant": "y"})])
            writer.finish([(trial, TrialState.COMPLETE, [value], {})])
    garbage = b"SQLite format 3\0" + b"\xaa" * 8192
    backup.backup_of(file).write_bytes(garbage)
    if database == "gone":
        file.unlink()
    else:
        file.write_bytes(garbage)
    recover(url, said.append)
    assert "its backup is damaged too" in said[0]
    assert "2 results put back from the journal" in said
    assert values(file) == [0.5, 0.6]
    (kept,) = tmp_path.glob("studies.db.backup.damaged-*")
    assert kept.read_bytes() == garbage
    recover(url, said.append)  # and again


# Reading beside an owner.

CLOSES = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT COUNT(*) FROM trials").fetchone()
connection.close()
"""


def test_looking_at_a_database_leaves_its_owner_the_locks(file: Path) -> None:
    with closing(sqlite3.connect(file)) as owner:
        owner.execute("UPDATE trial_values SET value = 0.7")
        owner.commit()
        read_only_uri(file)
        subprocess.run([sys.executable, "-c", CLOSES, str(file)], check=True, timeout=60)
        # The last connection that closes takes the log away: that was not the last one.
        assert file.with_name(file.name + "-wal").exists()
