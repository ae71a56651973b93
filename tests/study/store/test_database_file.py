"""What happens to the file that a run writes is noticed; what SQLite itself does is no fault."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from study.store.database_file import DatabaseFile


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A database in use, most of whose pages are free."""
    with closing(sqlite3.connect(tmp_path / "x.db")) as opened:
        opened.execute("PRAGMA journal_mode=WAL")
        opened.execute("CREATE TABLE ballast (a)")
        opened.execute("INSERT INTO ballast VALUES (zeroblob(1000000))")
        opened.commit()
        opened.execute("DELETE FROM ballast")
        opened.commit()
        opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield opened


def vacuum(file: Path) -> None:
    with closing(sqlite3.connect(file)) as other:
        other.execute("VACUUM")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def grow(file: Path) -> None:
    with closing(sqlite3.connect(file)) as other:
        other.execute("INSERT INTO ballast VALUES (zeroblob(2000000))")
        other.commit()
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def vacuum_and_go_on(file: Path) -> None:
    vacuum(file)
    with closing(sqlite3.connect(file)) as other:  # its pages are in the log alone
        other.execute("CREATE TABLE more (a)")
        other.execute("INSERT INTO more VALUES (zeroblob(50000))")
        other.commit()


@pytest.mark.parametrize("change", [vacuum, vacuum_and_go_on, grow])
def test_what_sqlite_does_to_a_file_is_no_fault(
    connection: sqlite3.Connection, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    file = DatabaseFile(tmp_path / "x.db")
    size = file.size
    change(tmp_path / "x.db")
    assert file.fault() is None
    assert file.size != size
    assert file.fault() is None


@pytest.mark.parametrize("pages", [0, 1, 3])
def test_a_file_that_is_cut_is_noticed(
    connection: sqlite3.Connection, tmp_path: Path, pages: int
) -> None:
    file = DatabaseFile(tmp_path / "x.db")
    with (tmp_path / "x.db").open("r+b") as opened:
        opened.truncate(4096 * pages)
    assert "was cut from" in (file.fault() or "")


def link_elsewhere(file: Path) -> None:
    file.rename(file.with_name("moved.db"))
    file.symlink_to("moved.db")


@pytest.mark.parametrize(
    ("change", "said"), [(Path.unlink, "was deleted"), (link_elsewhere, "was replaced")]
)
def test_a_name_that_is_of_no_file_or_of_another_is_noticed(
    connection: sqlite3.Connection, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    file = DatabaseFile(tmp_path / "x.db")
    change(tmp_path / "x.db")
    assert said in (file.fault() or "")
