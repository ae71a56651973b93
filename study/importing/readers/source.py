"""A file or folder that is looked at, and what reading one needs."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from study.importing.table import MAX_COLUMNS, MAX_NAME, MAX_ROWS, Table, TableRow
from trainer.errors import UserError, choose

SQLITE = b"SQLite format 3\x00"


class Source:
    """A file or folder, as far as readers look at it to recognise it."""

    def __init__(self, path: Path, pick: str | None = None) -> None:
        self.path = path
        self.pick = pick  # which study, experiment or sheet, where there are several
        self.table: Table | None = None  # as `plain.read` has read it
        if not path.exists():
            raise UserError(f"file {path}: No such file or directory")

    @cached_property
    def head(self) -> bytes:
        """The first bytes of a file; none of a folder."""
        if self.path.is_dir():
            return b""
        with self.path.open("rb") as file:
            return file.read(4096)

    @cached_property
    def data(self) -> bytes:
        """All bytes of a file."""
        return self.path.read_bytes()

    def files(self, *patterns: str) -> list[Path]:
        """List the files below a folder that match any pattern, sorted."""
        return sorted({path for p in patterns for path in self.path.rglob(p) if path.is_file()})

    def choose(self, plural: str, names: Iterable[str]) -> str:
        """Return the one that is there, or the one that was picked.

        Args:
            plural: what is chosen from: "studies".
            names: those that are there.

        Raises:
            UserError: there are several and none was picked, or the picked one is not there.
        """
        there = list(dict.fromkeys(names))
        if not there:
            raise UserError(f"holds no {plural}")
        if self.pick is not None and self.pick not in there:
            raise UserError(choose("--pick", self.pick, there))
        if self.pick is None and len(there) > 1:
            raise UserError(f"holds {len(there)} {plural}; say which: --pick {' | '.join(there)}")
        return self.pick or there[0]


@dataclass(frozen=True)
class Reader:
    """An adapter: how a source is recognised by its content, and read."""

    kind: str  # for --from
    title: str  # "an MLflow folder"
    recognises: Callable[[Source], bool]
    read: Callable[[Source], Table]


def digest(files: Iterable[Path], root: Path) -> str:
    """Return one SHA-256 over files of a folder, names and contents."""
    total = hashlib.sha256()
    for path in sorted(files):
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(root).as_posix()} {checksum}\n".encode())
    return total.hexdigest()


def make_table(
    source: Source, title: str, rows: Iterable[TableRow], sha256: str | None = None
) -> Table:
    """Make a table of rows, its columns in the order in which they first occur.

    Raises:
        UserError: there is no row, too many rows or columns, or a column's name is longer than any.
    """
    kept = tuple(rows)
    if not kept:
        raise UserError("holds no results")
    if len(kept) > MAX_ROWS:
        raise UserError(f"holds more than {MAX_ROWS:,} rows")
    columns = tuple(dict.fromkeys(name for row in kept for name in row.cells))
    if len(columns) > MAX_COLUMNS:
        raise UserError(
            f"has {len(columns):,} columns; at most {MAX_COLUMNS:,} are read: leave out those that "
            "are neither settings nor figures"
        )
    for name in columns:
        if len(name) > MAX_NAME:
            raise UserError(f"column {name[:20]!r}...: its name is longer than {MAX_NAME}")
    made = hashlib.sha256(source.data).hexdigest() if sha256 is None else sha256
    return Table(title, source.path.name, made, columns, kept)
