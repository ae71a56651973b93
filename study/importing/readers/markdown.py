"""A table in Markdown, such as a README's."""

import re

from study.importing.readers import text
from study.importing.readers.source import Source, make_table
from study.importing.table import Table, TableRow
from trainer.errors import UserError

_RULE = re.compile(r"\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?")
_EMPHASIS = re.compile(r"^(\*\*|__|\*|_|`)(.+)\1$")


def recognises(source: Source) -> bool:
    """Whether a line of dashes and bars follows a line with bars."""
    content, _ = text.decode(source.data) if b"|" in source.head else ("", [])
    return bool(_headings(content.splitlines()))


def read(source: Source) -> Table:
    """Read the only table of a file.

    Raises:
        UserError: there are several, or a row has another number of cells.
    """
    content = text.decode(source.data)[0].splitlines()
    tables = _headings(content)
    pick = source.choose("tables", [f"{number}" for number in range(1, len(tables) + 1)])
    start = tables[int(pick) - 1]
    heading = _cells(content[start])
    rows = []
    for number, line in enumerate(content[start + 2 :], start + 3):
        if "|" not in line:
            break
        cells = _cells(line)
        if len(cells) != len(heading):
            raise UserError(
                f"line {number}: {len(cells)} cells, but the heading has {len(heading)}"
            )
        row = {name: cell or None for name, cell in zip(heading, cells, strict=True) if name}
        rows.append(TableRow(f"line {number}", row))
    for name in filter(None, heading):
        if heading.count(name) > 1:
            raise UserError(f"line {start + 1}: column {name!r} is there twice")
    return make_table(source, "a Markdown table", rows)


def _headings(content: list[str]) -> list[int]:
    """Return the positions of the lines above a rule."""
    return [
        number - 1
        for number, line in enumerate(content)
        if number and "|" in line and _RULE.fullmatch(line.strip()) and "|" in content[number - 1]
    ]


def _cells(line: str) -> list[str]:
    inner = re.sub(r"^\||(?<!\\)\|$", "", line.strip())
    cells = [cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", inner)]
    return [_EMPHASIS.sub(r"\2", cell) for cell in cells]
