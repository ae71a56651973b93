"""How a table becomes text, Markdown or LaTeX: headed blocks of words, and notes below."""

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from analysis.quantity import Quantity
from analysis.text import percent

WIDTH = 80


@dataclass(frozen=True)
class Block:
    """A part of a table as words: columns of equal length by heading.

    The first `labels` columns say what a row is about; in a nested block these are the factor and
    its level, and a row without a level, such as the baseline, stands by itself. Figures are padded
    so that their decimal points stand below each other. The column `below` is words, too long to
    stand beside figures: text writes them below their row.
    """

    title: str
    columns: dict[str, list[str]]
    labels: int = 2
    nested: bool = False
    below: str | None = None

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells row by row, without the padding."""
        return [tuple(map(_squeeze, row)) for row in zip(*self.columns.values(), strict=True)]


@dataclass(frozen=True)
class Page:
    """A table laid out: what it is about, its parts, and how to read it."""

    title: str
    facts: list[str]
    blocks: list[Block]
    notes: list[str]


def spreads(quantity: Quantity, pairs: Sequence[tuple[float | None, float | None]]) -> list[str]:
    """Write means and standard deviations of a compared figure."""
    return joined(
        (quantity.number(mean), "" if std is None else f"±{quantity.number(std)}")
        for mean, std in pairs
    )


def accuracies(pairs: Sequence[tuple[float | None, float | None]]) -> list[str]:
    """Write means and standard deviations, given as fractions, in percent."""
    return joined((percent(mean), "" if std is None else f"±{percent(std)}") for mean, std in pairs)


def joined(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Join the parts of each row, every part right-aligned over all rows."""
    rows = list(rows)
    widths = [max(map(len, parts)) for parts in zip(*rows, strict=True)]
    return [
        " ".join(part.rjust(width) for part, width in zip(row, widths, strict=True) if width)
        for row in rows
    ]


def _squeeze(cell: str) -> str:
    return " ".join(cell.split())


def _text(page: Page) -> str:
    lines = [page.title]
    for fact in page.facts:
        lines += textwrap.wrap(fact, WIDTH, subsequent_indent="  ")
    for block in page.blocks:
        lines += ["", block.title, *(_nested_rows if block.nested else _text_rows)(block)]
    lines.append("")
    for note in page.notes:
        lines += textwrap.wrap(note, WIDTH, subsequent_indent="  ")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _text_rows(block: Block) -> list[str]:
    """Lay a block out with a line per row, and the words of `below` indented under it."""
    figures = {name: cells for name, cells in block.columns.items() if name != block.below}
    head, *rows = aligned(figures, left={list(figures)[block.labels - 1], "verdict"})
    words = block.columns[block.below] if block.below else [""] * len(rows)
    lines = [head]
    for row, under in zip(rows, words, strict=True):
        lines.append(row)
        lines += textwrap.wrap(
            under, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False
        )
    return lines


def _nested_rows(block: Block) -> list[str]:
    """Lay a block out with a line per factor and its levels indented below."""
    factors, levels, *_ = block.columns.values()
    head, *rows = aligned(dict(list(block.columns.items())[2:]), left={"verdict"})
    labels = [
        f"  {level}" if level else factor for factor, level in zip(factors, levels, strict=True)
    ]
    space = max(12, WIDTH - len(head) - 1)
    indent = min(space, max(map(len, labels)))
    lines = [f"{'':{indent}} {head}"]
    factor = None
    for name, level, label, row in zip(factors, levels, labels, rows, strict=True):
        if level and name != factor:
            lines.append(name)
        factor = name
        if len(label) > indent:  # a long level takes a line for itself
            lines.append(label)
        lines.append(f"{label if len(label) <= indent else '':{indent}} {row}")
    return lines


def aligned(columns: dict[str, list[str]], left: set[str]) -> list[str]:
    """Lay columns out side by side, a heading and rows; those in `left` begin at the left."""
    cells = []
    for heading, column in columns.items():
        width = max(map(len, [heading, *column]))
        side = str.ljust if heading in left else str.rjust
        cells.append([side(cell, width) for cell in [heading, *column]])
    return ["  ".join(row) for row in zip(*cells, strict=True)]


def _markdown(page: Page) -> str:
    parts = [f"### {escape_markdown(page.title)}", *map(escape_markdown, page.facts)]
    for block in page.blocks:
        parts.append(f"**{escape_markdown(block.title)}**")
        figures = len(block.columns) - block.labels - (block.below is not None)
        ruler = ["---"] * block.labels + ["--:"] * figures + ["---"] * (block.below is not None)
        lines = [list(block.columns), ruler]
        lines += [[escape_markdown(cell) for cell in row] for row in block.rows]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    parts.append("\n".join(f"- {escape_markdown(note)}" for note in page.notes))
    return "\n\n".join(parts) + "\n"


def escape_markdown(text: str) -> str:
    """Write text so that Markdown shows it as it is."""
    # An underscore inside a word is plain text on GitHub; learning\\_rate would be hard to read.
    text = re.sub(r"([\\`*\[\]|#~$])|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _latex(page: Page) -> str:
    # A table for each block: one for all would not fit on a page, and LaTeX breaks none.
    about = _escape_latex(". ".join([page.title, *page.facts]))
    title = _escape_latex(page.title)
    tables = [
        [
            rf"\caption{{{title if number else about}. {_escape_latex(block.title)}}}",
            *_tabular(block),
        ]
        for number, block in enumerate(page.blocks)
    ] or [[rf"\caption{{{about}}}"]]
    lines = [
        line
        for table in tables
        for line in (
            r"\begin{table}[!htbp]",
            r"\centering\footnotesize\setlength{\tabcolsep}{2pt}",
            *table,
            r"\end{table}",
        )
    ]
    notes = [rf"{_escape_latex(note)}\par" for note in page.notes]
    return "\n".join([*lines, r"{\footnotesize\raggedright", *notes, "}"]) + "\n"


def _tabular(block: Block) -> list[str]:
    """Write a block; a nested one with a line per factor and its levels indented below."""
    headings = list(block.columns)
    labels = block.labels
    rows = [tuple(map(_escape_latex, row)) for row in block.rows]
    if block.nested:
        headings, labels = ["", *headings[2:]], 1
        rows = list(_indented(rows))
    figures = len(headings) - labels - (block.below is not None)
    words = r"p{0.2\linewidth}" if block.below else ""
    return [
        r"\par\smallskip",
        rf"\begin{{tabular}}{{{'l' * labels}{'r' * figures}{words}}}",
        r"\toprule",
        " & ".join(map(_escape_latex, headings)) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _indented(rows: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    factor = None
    for name, level, *figures in rows:
        if level and name != factor:
            yield (rf"\multicolumn{{{len(figures) + 1}}}{{l}}{{{name}}}",)
        factor = name
        yield (rf"\quad {level}" if level else name, *figures)


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",  # \textquotedbl is in no font that LaTeX begins with
    "±": r"$\pm$",
    "×": r"$\times$",
    "≠": r"$\neq$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "†": r"\dag{}",
    "[": "{[}",  # after a line break, \\ would take it for its argument
    "]": "{]}",
    **{c: rf"\{c}" for c in "_%&#{}$"},
}


def _escape_latex(text: str) -> str:
    text = "".join(LATEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", text)  # a minus sign, not a hyphen


WRITERS: dict[str, Callable[[Page], str]] = {
    "text": _text,
    "markdown": _markdown,
    "latex": _latex,
}


def for_scale(test_accuracy: float | None, images: int | None) -> list[str]:
    """Say how much of a test accuracy is the luck of its images: the binomial standard error."""
    if test_accuracy is None or not images:
        return []
    error = math.sqrt(test_accuracy * (1 - test_accuracy) / images)
    return [
        f"For scale: one test of {images:,} images at {percent(test_accuracy, 1)} % has a binomial "
        f"standard error of {percent(error)} points."
    ]
