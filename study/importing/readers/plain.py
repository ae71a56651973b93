"""The table that a text file, spreadsheet or Parquet file holds, before any meaning."""

from study.importing.readers import markdown, records, spreadsheet, text
from study.importing.readers.source import Source
from study.importing.table import Table
from trainer.errors import UserError

FORMATS = {  # first bytes -> what it is
    b"SQLite format 3": "a SQLite database of no tool that is known",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"%PDF": "a PDF file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x80\x02": "a Python pickle",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"<!DOCTYPE html": "a web page",
    b"<html": "a web page",
}


def read(source: Source) -> Table:
    """Read a source as a table, once: several readers look at its headings.

    Raises:
        UserError: it holds none, or is malformed; names the line.
    """
    if source.table is None:
        source.table = _read(source)
    return source.table


def _read(source: Source) -> Table:
    if source.path.is_dir():
        raise UserError("is a directory of no kind that is known; name the file in it")
    if spreadsheet.recognises(source):
        return spreadsheet.read(source)
    named = next((name for magic, name in FORMATS.items() if source.head.startswith(magic)), None)
    if named is not None:
        raise UserError(f"is {named}, which holds no table that can be read")
    wide = source.head[:2] in text.MARKS or text.is_wide(source.head)
    if b"\x00" in source.head and not wide:
        raise UserError("is no text, and no binary format that is known")
    if records.recognises(source):
        return records.read(source)
    return markdown.read(source) if markdown.recognises(source) else text.read(source)
