"""What a reader makes of its source: rows of cells, and what the source itself says of columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

CellValue = bool | int | float | str | None  # of a text file: str, and None where it is empty

MAX_ROWS = 1_000_000
MAX_COLUMNS = 2000
MAX_NAME = 200  # characters of a column's name


@dataclass(frozen=True)
class TableRow:
    """A row, and where it stands in its source: `line 3`, `record 3`, `run 1f3a`."""

    where: str
    cells: Mapping[str, CellValue]


@dataclass(frozen=True)
class Table:
    """One long table: a row per run, or per epoch of one.

    `roles` holds what the source says by its own format (`params.lr` of MLflow is a setting);
    columns without a role are told by the rules for tables of anybody. Nothing is converted yet.
    """

    kind: str  # what it was recognised as: "an MLflow folder"
    file: str  # its name without folders
    sha256: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)  # column -> why
    notes: Sequence[str] = ()  # what was done to read it
    roles: Mapping[str, str] = field(default_factory=dict)  # column -> a role of `names.ROLES`
    better: Mapping[str, str] = field(default_factory=dict)  # column -> "higher" or "lower"
    split: Mapping[str, str] = field(default_factory=dict)  # column -> images it is measured on
    one_run_per_id: bool = False  # rows with the same run id are one run, whatever else differs

    def column(self, name: str) -> list[CellValue]:
        """Return a column's cells; None where a row has none."""
        return [row.cells.get(name) for row in self.rows]
