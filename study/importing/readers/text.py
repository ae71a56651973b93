"""Delimited text: commas, tabs or semicolons; what people's programs write around it."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from study.importing.readers.source import Source, make_table
from study.importing.table import Table, TableRow
from trainer.errors import UserError

MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\s*%?", re.ASCII)
_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d{1,3})?\s*%?", re.ASCII)  # 0,01
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+", re.ASCII)
_AFTER_QUOTE = re.compile(r'"[ \t]+(?=[,;\t\r\n]|$)')

Records = list[tuple[str, list[str]]]  # where, cells


def is_wide(head: bytes) -> bool:
    """Whether bytes look like UTF-16 without its mark: every other byte of the start is zero."""
    return len(head) > 3 and (head[1:8:2] == b"\0" * len(head[1:8:2])) and 0 not in head[0:8:2]


def decode(data: bytes) -> tuple[str, list[str]]:
    """Return a file's text, and a note where its encoding had to be told from its bytes.

    Raises:
        UserError: it is no text.
    """
    if data[:2] in MARKS or is_wide(data[:8]):
        try:
            return data.decode(MARKS.get(data[:2], "utf-16-le")), []
        except UnicodeDecodeError as error:
            raise UserError("is not text in UTF-16") from error
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        pass
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise UserError("is not text in UTF-8, UTF-16 or Windows-1252") from error
    if any(ord(character) < 32 and character not in "\t\r\n" for character in text):
        raise UserError("is not text in UTF-8, UTF-16 or Windows-1252")
    return text, ["read as Windows-1252, as it is not UTF-8"]


def read(source: Source) -> Table:
    """Read a delimited text with a heading.

    Raises:
        UserError: it has no heading, a row of another length, or a quote that never ends.
    """
    text, notes = decode(source.data)
    text, delimiter, skipped = _opening(text, source.path.suffix.lower())
    if is_aligned(text, delimiter):
        text = re.sub(r"(?m)^[ \t]+|[ \t]+$", "", text)
        text, delimiter = re.sub(r"[ \t]+", "\t", text), "\t"
        notes.append("columns are separated by spaces")
    try:
        records = list(_records(text, delimiter, skipped))
    except csv.Error:  # such as `"a"   ,1`, which aligns its columns
        records = _strict(_AFTER_QUOTE.sub('"', text), delimiter, skipped)
        notes.append("spaces between a closing quote and the next column are left out")
    if not records:
        raise UserError("is empty")
    heading, rows = _same_length(records)
    if len(heading[1]) > 0 and all(NUMBER.fullmatch(name) for name in heading[1] if name):
        raise UserError(
            f"{heading[0]}: has no heading: its first line holds numbers only "
            f"({', '.join(heading[1][:4])}); write the columns' names above"
        )
    names = [_name(heading, position, rows) for position in range(len(heading[1]))]
    for name in filter(None, names):
        if names.count(name) > 1:
            raise UserError(f"{heading[0]}: column {name!r} is there twice")
    if _has_decimal_commas(rows):
        rows = [(where, [_with_point(cell) for cell in cells]) for where, cells in rows]
        notes.append("commas within numbers are decimal points")
    made = (
        TableRow(where, {n: cell or None for n, cell in zip(names, cells, strict=True) if n})
        for where, cells in rows
    )
    return replace(make_table(source, "a text table", made), notes=notes)


def is_aligned(text: str, delimiter: str) -> bool:
    """Whether spaces separate columns: as many words in each line, of which no mark makes two."""
    lines = [line for line in text.splitlines() if line.strip()]
    words = {len(line.split()) for line in lines}
    return (
        len(lines) > 1
        and len(words) == 1
        and words != {1}
        and '"' not in text
        and all(len(line.strip().split(delimiter)) == 1 for line in lines)
    )


def _opening(text: str, suffix: str) -> tuple[str, str, int]:
    """Return the text from its heading on, its delimiter, and how many lines are above."""
    lines = text.splitlines(keepends=True)
    skipped, told = 0, "\t" if suffix == ".tsv" else ""
    for line in lines:
        plain = line.strip()
        if plain.lower().startswith("sep=") and len(plain) == 5:  # Excel's own
            told = plain[-1]
        elif plain and not plain.startswith("#"):
            break
        elif plain.startswith("#") and skipped + 1 < len(lines) and _names_columns(plain, lines):
            lines[skipped] = line.replace("#", "", 1)  # numpy.savetxt comments its heading
            break
        skipped += 1
    rest = "".join(lines[skipped:])
    heading = _heading_line(rest)
    best = max(",\t;|", key=lambda mark: len(next(csv.reader([heading], delimiter=mark), [])))
    return rest, told or best, skipped


def _names_columns(comment: str, lines: Sequence[str]) -> bool:
    """Whether a comment is the heading: as many columns as the numbers that come right after."""
    rest = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not rest:
        return False
    cells = re.split(r"[,;\t]", rest[0])
    return (
        len(cells) > 1
        and len(cells) == len(re.split(r"[,;\t]", comment))
        and all(NUMBER.fullmatch(cell.strip()) for cell in cells)
    )


def _heading_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")


def _strict(text: str, delimiter: str, skipped: int) -> Records:
    try:
        return list(_records(text, delimiter, skipped))
    except csv.Error as error:
        raise UserError(str(error)) from error


def _records(text: str, delimiter: str, skipped: int) -> Iterator[tuple[str, list[str]]]:
    """Yield the records that are not blank, with the line on which each begins."""
    # Line breaks are left to the reader, which knows those inside quotes.
    lines = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    begin = skipped + 1
    try:
        for cells in lines:
            stripped = [cell.strip() for cell in cells]
            if any(stripped) and not stripped[0].startswith("#"):
                yield f"line {begin}", stripped
            begin = skipped + lines.line_num + 1
    except csv.Error as error:
        raise csv.Error(f"line {begin}: {error}") from error


def _same_length(records: Records) -> tuple[tuple[str, list[str]], Records]:
    """Return heading and rows of one length; empty cells at the end of every row are none.

    Raises:
        UserError: a row has another number of cells.
    """
    (where, heading), *rows = records
    width = len(heading)
    if rows and all(len(cells) > width and not any(cells[width:]) for _, cells in rows):
        rows = [(place, cells[:width]) for place, cells in rows]
    for place, cells in rows:
        if len(cells) != width:
            raise UserError(f"{place}: {len(cells)} cells, but the heading has {width}")
    return (where, heading), rows


def _name(heading: tuple[str, list[str]], position: int, rows: Records) -> str:
    """Name a column; nothing for an empty one, such as a comma at the end of each line makes."""
    where, names = heading
    if names[position]:
        return names[position]
    if not any(cells[position] for _, cells in rows):
        return ""
    if position == 0 and "index" not in names:
        return "index"  # pandas writes its row numbers under no name
    raise UserError(f"{where}: column {position + 1} has no name")


def _has_decimal_commas(rows: Records) -> bool:
    """Whether numbers are written with commas: some must be, and none with a point."""
    cells = [cell for _, row in rows for cell in row]
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    if all(_THOUSANDS.fullmatch(cell) for cell in commas):
        return False
    return not any("." in cell and NUMBER.fullmatch(cell) for cell in cells)


def _with_point(cell: str) -> str:
    return cell.replace(",", ".") if _COMMA.fullmatch(cell) else cell
