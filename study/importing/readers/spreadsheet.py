"""Excel workbooks and Parquet files, decoded by pandas with the extra `[import]`."""

import datetime
import math
import zipfile
from typing import TYPE_CHECKING, Any

from study.importing.readers.source import Source, make_table
from study.importing.table import CellValue, Table, TableRow
from trainer.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

ZIP, PARQUET, OLD_EXCEL = b"PK\x03\x04", b"PAR1", b"\xd0\xcf\x11\xe0"


def recognises(source: Source) -> bool:
    """Whether a file is a workbook or a Parquet file."""
    if source.head.startswith(ZIP):
        with zipfile.ZipFile(source.path) as archive:
            return "xl/workbook.xml" in archive.namelist()
    return source.head.startswith((PARQUET, OLD_EXCEL))


def read(source: Source) -> Table:
    """Read the only sheet with a table, or the one that `--pick` names.

    Raises:
        UserError: the extra is missing, the file is damaged, or there are several sheets.
    """
    if source.head.startswith(OLD_EXCEL):
        raise UserError("is an Excel file of before 2007 (.xls); save it as .xlsx or CSV")
    parquet = source.head.startswith(PARQUET)
    title, package = ("a Parquet file", "pyarrow") if parquet else ("an Excel sheet", "openpyxl")
    try:
        frame = _parquet(source) if parquet else _sheet(source)
    except ImportError as error:
        raise missing(title, package) from error
    except UserError:
        raise
    except Exception as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"is {title} that cannot be read: {line}") from error
    return of_frame(source, title, frame)


def missing(title: str, package: str) -> UserError:
    """Name the extra that a format needs."""
    return UserError(
        f"is {title}, which needs the package {package}: pip install 'fmnist-study[import]'"
    )


def of_frame(source: Source, title: str, frame: "pd.DataFrame", sha256: str | None = None) -> Table:
    """Make a table of a data frame; its index is a column where it has a name."""
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    names = [str(name).strip() for name in frame.columns]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"column {name!r} is there twice")
    # The heading is row 1 of a sheet.
    rows = [
        TableRow(f"row {number}", {n: _cell(c) for n, c in zip(names, cells, strict=True)})
        for number, cells in enumerate(frame.itertuples(index=False, name=None), 2)
    ]
    return make_table(source, title, rows, sha256)


def _parquet(source: Source) -> "pd.DataFrame":
    import pandas as pd

    return pd.read_parquet(source.path, engine="pyarrow")


def _sheet(source: Source) -> "pd.DataFrame":
    import pandas as pd

    frames: dict[str, pd.DataFrame] = {
        str(name): frame
        for name, frame in pd.read_excel(
            source.path, sheet_name=None, dtype=object, engine="openpyxl"
        ).items()
    }
    filled = [name for name, sheet in frames.items() if len(sheet) and len(sheet.columns) > 1]
    frame = frames[source.choose("sheets", filled)].dropna(how="all")
    blank = [n for n in frame.columns if str(n).startswith("Unnamed: ") and frame[n].isna().all()]
    frame = frame.drop(columns=blank)
    unnamed = [n for n in frame.columns if str(n).startswith("Unnamed: ")]
    if unnamed == [frame.columns[0]]:
        return frame.rename(columns={unnamed[0]: "index"})  # pandas' own row numbers
    if unnamed:
        raise UserError("has columns without a name; its first row must be the heading")
    return frame


def _cell(value: Any) -> CellValue:
    if value is None or isinstance(value, str):
        return value.strip() or None if value else None
    if hasattr(value, "tolist"):
        value = value.tolist()  # numpy's scalars and arrays
    if isinstance(value, bool | int | float):
        return None if isinstance(value, float) and math.isnan(value) else value
    if isinstance(value, datetime.datetime | datetime.date | datetime.timedelta):
        return None if value != value else str(value)  # noqa: PLR0124 # NaT equals nothing
    return None if repr(value) in ("NaT", "<NA>") else str(value)
