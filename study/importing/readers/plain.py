"""The table that a text file, spreadsheet or Parquet file holds, before any meaning."""

from functools import lru_cache

from study.importing.readers import markdown, records, spreadsheet, text
from study.importing.readers.source import Source
from study.importing.table import Table
from trainer.errors import UserError


@lru_cache(maxsize=1)  # several readers look at the headings of one source
def read(source: Source) -> Table:
    """Read a source as a table.

    Raises:
        UserError: it holds none, or is malformed; names the line.
    """
    if source.path.is_dir():
        raise UserError("is a directory of no kind that is known; name the file in it")
    if spreadsheet.recognises(source):
        return spreadsheet.read(source)
    wide = source.head[:2] in text.MARKS or text.is_wide(source.head)
    if b"\x00" in source.head and not wide:
        raise UserError("is no text, and no binary format that is known")
    for room in (records, markdown):
        if room.recognises(source):
            return room.read(source)
    return text.read(source)
