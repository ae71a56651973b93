"""The database is found, refused where it is not ours, and owned by one process."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.study import StudyDirection

from study.store import location
from study.store.failures import StorageFailed
from study.store.location import check_readable, check_writable, display, is_new, locate
from study.store.ownership import take
from study.store.stored_trial import NewTrial
from study.store.writer import StudyWriter
from tests.support.plans import fingerprint
from tests.support.studies import POOLING, database, trial
from trainer.errors import UserError


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A database with one study."""
    database(tmp_path, [trial(POOLING, {}, 0, 0.9)], of=POOLING)
    return tmp_path / "studies.db"


def test_where_the_database_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FMNIST_STUDY_STORAGE", raising=False)
    assert locate(None).database == str(tmp_path / "studies.db")
    monkeypatch.setenv("FMNIST_STUDY_STORAGE", "sub/own.db")
    assert locate(None).database == str(tmp_path / "sub" / "own.db")
    assert locate("given.db").database == str(tmp_path / "given.db")
    assert locate("sqlite:///given.db") == locate("given.db")
    assert locate("postgresql://host/db").host == "host"
    assert display(locate("given.db")) == "given.db"
    assert display(locate("/elsewhere/x.db")) == "/elsewhere/x.db"


@pytest.mark.parametrize("name", ["a?b.db", "50%41.db", "a b.db", "{a}.db", "a#b.db", "ü&x=1.db"])
def test_any_path_works(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name.removesuffix(".db")
    folder.mkdir()
    url = locate(str(folder / name))
    assert is_new(url)

    with take(url, "first"):
        pass

    assert (folder / name).is_file()
    assert not is_new(url)
    check_readable(url)
    with take(url, "second") as opened:
        assert opened.get_all_studies() == []


@pytest.mark.parametrize(
    "where",
    [
        "nope://user:secret@host/db",
        "postgresql://user:secret@host:port/db",
        "://user:secret@host",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql//user:x@://",
    ],
)
def test_what_is_no_url_is_refused_without_its_password(where: str) -> None:
    with pytest.raises(UserError, match=r"^storage") as caught:
        locate(where)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "where",
    [
        "postgresql://user:secret@host:5432/db",
        "postgresql://user:se@secret@host/db",
        "postgresql://host/db?user=u&password=secret&sslmode=require",
        "postgresql+psycopg2://user:secret@host/db",
    ],
)
def test_a_password_is_never_shown(where: str) -> None:
    url = locate(where)
    assert "secret" not in display(url)
    assert "secret" not in location.masked(where)
    assert "secret" not in location.masked(f"--storage={where}")
    assert "host" in display(url)
    with pytest.raises(UserError, match=r"^storage") as caught:  # no driver, or no such host
        check_readable(url)
    assert "secret" not in str(caught.value)


def test_a_path_is_shown_as_it_is() -> None:
    assert location.masked("a@b/c d.db") == "a@b/c d.db"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("/srv/me/studies.db", "studies.db"),
        ("--data-dir=/data/images", "--data-dir=images"),
        ("folder:/srv/me/leaves", "folder:leaves"),
        ("~/plans/mine.toml", "mine.toml"),
        ("../shared", "../shared"),
        ("reference/ablation", "reference/ablation"),
        ("normalization=0.286/0.353", "normalization=0.286/0.353"),
        ("postgresql://me:secret@host/base", "postgresql://***@host/base"),
    ],
)
def test_a_stored_command_does_not_tell_the_folders_of_a_machine(word: str, told: str) -> None:
    assert location.shareable(word) == told


def test_a_missing_database_is_a_reader_s_error_only(tmp_path: Path) -> None:
    url = locate(str(tmp_path / "missing.db"))
    check_writable(url)
    with pytest.raises(UserError, match="no such file"):
        check_readable(url)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"the folder {tmp_path}/no does not exist"):
        check_writable(locate(str(tmp_path / "no" / "x.db")))


@pytest.mark.parametrize("content", [b"", None])
def test_an_empty_database_may_be_written_and_holds_no_study(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "empty.db"
    if content is None:
        sqlite3.connect(file).execute("VACUUM").connection.close()
    else:
        file.write_bytes(content)
    url = locate(str(file))

    assert is_new(url)
    check_writable(url)
    with pytest.raises(UserError, match="holds no study yet"):
        check_readable(url)


def not_sqlite(file: Path) -> None:
    file.write_text("name,accuracy\nbaseline,0.9\n" * 9)


def foreign(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE accounts (owner TEXT)")
    connection.commit()
    connection.close()


def damaged(file: Path) -> None:
    file.write_bytes(b"SQLite format 3\0" + b"\xaa" * 4096)


def older(file: Path) -> None:
    database(file.parent, [], of=POOLING, file=file.name)
    connection = sqlite3.connect(file)
    connection.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.mkdir, "is not a file"),
        (not_sqlite, "is not an SQLite database"),
        (foreign, "is an SQLite database, but not one of Optuna's"),
        (damaged, "cannot be read"),
        (older, r"older Optuna \(schema v2.6.0.a\); upgrade a copy of it with 'optuna storage"),
    ],
)
def test_what_is_not_ours_is_refused_and_stays_as_it_is(
    tmp_path: Path, make: "object", message: str
) -> None:
    file = tmp_path / "other.db"
    assert callable(make)
    make(file)
    before = fingerprint(file) if file.is_file() else None
    url = locate(str(file))

    for use in (check_readable, check_writable, lambda url: take(url, "test").__enter__()):
        with pytest.raises(UserError, match=message):
            use(url)

    assert [path.name for path in tmp_path.iterdir()] == ["other.db"]
    assert (fingerprint(file) if file.is_file() else None) == before


@pytest.mark.parametrize("which", ["file", "folder"])
def test_what_cannot_be_written_is_refused(
    ours: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    # Simulated: for root every file is writable.
    closed = ours if which == "file" else ours.parent
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != closed)
    with pytest.raises(UserError, match=f"{closed} is not writable"):
        check_writable(locate(str(ours)))
    check_readable(locate(str(ours)))


def test_checking_leaves_no_trace(ours: Path) -> None:
    before = fingerprint(ours)
    check_readable(locate(str(ours)))
    check_writable(locate(str(ours)))
    assert [path.name for path in ours.parent.iterdir()] == ["studies.db"]
    assert fingerprint(ours) == before


def test_pragmas_hold_on_every_connection_from_the_first_on(tmp_path: Path) -> None:
    opened: list[sqlalchemy.engine.interfaces.DBAPIConnection] = []
    listener = lambda connection, _record: opened.append(connection)  # noqa: E731 # removed below
    sqlalchemy.event.listen(sqlalchemy.pool.Pool, "connect", listener)
    try:
        with take(locate(str(tmp_path / "x.db")), "test") as database:
            first, second = opened[0], database.engine.raw_connection().dbapi_connection
            for connection in (first, second):
                assert connection is not None
                cursor = connection.cursor()
                pragmas = {
                    name: cursor.execute(f"PRAGMA {name}").fetchone()
                    for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
                }
                assert pragmas == {
                    "journal_mode": ("wal",),
                    "synchronous": (2,),  # FULL
                    "busy_timeout": (500,),
                    "foreign_keys": (1,),
                }
    finally:
        sqlalchemy.event.remove(sqlalchemy.pool.Pool, "connect", listener)


def test_nothing_but_the_database_and_its_lock_is_left(tmp_path: Path) -> None:
    with take(locate(str(tmp_path / "x.db")), "test"):
        note = json.loads((tmp_path / "x.db.owner.json").read_text())
        assert (note["pid"], note["command"]) == (os.getpid(), "test")
    assert {path.name for path in tmp_path.iterdir()} <= {"x.db", "x.db.lock"}


OWNER = """
import sys, time
from study.store import location, ownership
with ownership.take(location.locate(sys.argv[1]), "fmnist-study run first"):
    print("owned", flush=True)
    time.sleep(60)
"""


def test_a_second_owner_is_told_who_the_first_is_and_a_dead_one_owns_nothing(
    ours: Path,
) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(ours)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "owned\n"
        with pytest.raises(UserError) as caught, take(locate(str(ours)), "second"):
            pass
        message = str(caught.value)
        assert f"is in use by process {first.pid} on " in message
        assert "(fmnist-study run first)" in message
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert first.stdout is not None
        first.stdout.close()

    with take(locate(str(ours)), "third") as opened:
        assert [study.study_name for study in opened.get_all_studies()] == ["test"]


def test_a_new_owner_reads_only_when_nobody_writes_any_more(ours: Path) -> None:
    connection = sqlite3.connect(ours, check_same_thread=False)
    connection.execute("UPDATE trial_values SET value = 0.1")  # an earlier owner, in its commit
    commit = threading.Timer(1.0, connection.commit)
    commit.start()
    with take(locate(str(ours)), "second") as database:
        assert [trial.value for trial in database.get_all_trials(1)] == [0.1]
    commit.join()
    connection.close()


def test_a_missing_driver_names_its_package() -> None:
    with pytest.raises(UserError, match=r"its driver is not installed .*: pip install mysqlclient"):
        check_readable(locate("mysql://localhost/s"))


@pytest.mark.parametrize("where", ["x" * 300, "a\0b", "x/" * 3000])
def test_a_path_that_cannot_be_one_is_refused_in_one_line(where: str) -> None:
    with pytest.raises(UserError, match=r"^storage .{1,150}$") as caught:
        check_writable(locate(where))
    assert "\n" not in str(caught.value)


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").symlink_to("b.db")
    (tmp_path / "b.db").symlink_to("a.db")
    with pytest.raises(UserError, match=r"^storage "):
        check_writable(locate(str(tmp_path / "a.db")))


@pytest.mark.parametrize("content", ["[]", '{"pid": 1}', "[" * 100_000, "3", '{"pid": "\\u001b"'])
def test_a_note_of_the_owner_that_is_none_is_no_hindrance(tmp_path: Path, content: str) -> None:
    url = locate(str(tmp_path / "x.db"))
    with take(url, "first"):
        (tmp_path / "x.db.owner.json").write_text(content)
        with pytest.raises(UserError, match="is in use by another process"), take(url, "second"):
            pass


def test_a_note_of_the_owner_does_not_control_the_terminal(tmp_path: Path) -> None:
    url = locate(str(tmp_path / "x.db"))
    with take(url, "first"):
        note = {"pid": 1, "host": "\x1b[2J", "started": "now\n", "command": "x"}
        (tmp_path / "x.db.owner.json").write_text(json.dumps(note))
        with pytest.raises(UserError, match="is in use by process 1") as caught, take(url, "two"):
            pass
    assert str(caught.value).isprintable()


# One file, one owner; with processes: tests/faults/test_identity.py.


def test_a_link_is_the_database_that_it_leads_to(ours: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    link = tmp_path / "sub" / "link.db"
    link.symlink_to("../studies.db")
    assert locate(str(link)) == locate(f"sqlite:///{link}") == locate(str(ours))
    with (
        take(locate(str(link)), "first"),
        pytest.raises(UserError, match="is in use"),
        take(locate(str(ours)), "second"),
    ):
        pass
    assert [path.name for path in link.parent.iterdir()] == ["link.db"]


def test_a_link_that_leads_nowhere_yet_is_where_the_database_is_made(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link.db").symlink_to("disk/studies.db")
    with take(locate(str(tmp_path / "link.db")), "first"):
        pass
    assert (tmp_path / "link.db").is_symlink()
    assert (tmp_path / "disk" / "studies.db").is_file()


def test_a_file_under_two_names_is_written_under_neither(ours: Path, tmp_path: Path) -> None:
    (tmp_path / "other.db").hardlink_to(ours)
    for file in (ours, tmp_path / "other.db"):
        check_readable(locate(str(file)))
        with pytest.raises(UserError, match="is one file under 2 names"):
            check_writable(locate(str(file)))
        with pytest.raises(UserError, match="2 names"), take(locate(str(file)), "test"):
            pass
    assert not list(tmp_path.glob("*.lock"))


def remove(lock: Path) -> None:
    lock.unlink()


def replace(lock: Path) -> None:
    lock.with_name("fresh").touch()
    lock.with_name("fresh").replace(lock)


@pytest.mark.parametrize("lose", [remove, replace])
def test_an_owner_without_its_lock_commits_nothing_more(
    ours: Path, lose: Callable[[Path], None]
) -> None:
    before = ours.with_name("studies.db.owner.json")
    with take(locate(str(ours)), "first") as database:
        writer = StudyWriter(database, "test")
        lose(ours.with_name("studies.db.lock"))
        with take(locate(str(ours)), "second") as other:
            for write in (
                lambda: writer.start([NewTrial({}, {}, {})]),
                lambda: writer.describe({"a": 1}),
                lambda: database.create_new_study([StudyDirection.MAXIMIZE], "z"),
                writer.check,
            ):
                with pytest.raises(StorageFailed, match=r"studies.db.lock was re\w+d while"):
                    write()
            assert len(other.get_all_trials(1)) == 1
            assert StudyWriter(other, "test").start([NewTrial({}, {}, {})])
    assert not before.exists()


def test_the_note_of_the_owner_of_a_lost_lock_is_another_s(ours: Path) -> None:
    note = ours.with_name("studies.db.owner.json")
    first = take(locate(str(ours)), "first")
    first.__enter__()
    ours.with_name("studies.db.lock").unlink()
    with take(locate(str(ours)), "second"):
        first.__exit__(None, None, None)
        assert json.loads(note.read_text())["command"] == "second"


def test_what_beside_a_database_is_a_link_is_not_written_through(ours: Path) -> None:
    precious = ours.with_name("precious.txt")
    precious.write_text("mine")
    note, lock = (ours.with_name(f"studies.db.{name}") for name in ("owner.json", "lock"))
    note.symlink_to(precious)
    with take(locate(str(ours)), "first"):
        pass
    lock.unlink()
    lock.symlink_to(precious)
    before = precious.stat()
    with (
        pytest.raises(UserError, match=r"studies.db.lock is a symbolic link"),
        take(locate(str(ours)), "second"),
    ):
        pass
    assert precious.read_text() == "mine"
    assert precious.stat().st_mtime_ns == before.st_mtime_ns


def test_trials_of_another_program_take_no_number_twice(ours: Path) -> None:
    url = locate(str(ours))
    with take(url, "first") as database:
        writer = StudyWriter(database, "test")
        writer.start([NewTrial({}, {}, {})])
        optuna_study = optuna.load_study(study_name="test", storage=f"sqlite:///{ours}")
        optuna_study.ask()
        optuna_study.enqueue_trial({})
        writer.start([NewTrial({}, {}, {})])
    with take(url, "second") as database:
        writer = StudyWriter(database, "test")
        assert writer.fail_running("its owner is gone") == 3
        assert [trial.number for trial in writer.trials()] == [0, 1, 2, 3, 4]
        assert writer.next_number == 5
