"""The database is found, refused where it is not ours, and owned by one process."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy

from study.store import location
from study.store.location import check_readable, check_writable, display, is_new, locate
from study.store.ownership import take
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
    with take(url, "second") as found:
        assert found.get_all_studies() == []


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
        with take(locate(str(tmp_path / "x.db")), "test") as found:
            first, second = opened[0], found.engine.raw_connection().dbapi_connection
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

    with take(locate(str(ours)), "third") as found:
        assert [study.study_name for study in found.get_all_studies()] == ["test"]


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
