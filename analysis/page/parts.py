"""What sections are made of: tables, figures, pictures, sentences, all as plain text."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from analysis.figures.base import Figure
from analysis.quantity import ACCURACY, Quantity
from analysis.table_formats import Block

NOTHING = "–"
FRAMED = 60  # rows; a longer table would hide what follows
WORDS = {"verdict", "chosen on", "these"}  # columns of words in tables of figures


@dataclass(frozen=True)
class Column:
    """A column of a table on the page."""

    title: str
    numeric: bool = True
    hint: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell: what is read, what it is sorted by (None: its text), and its style."""

    text: str
    sort: float | str | None = None
    kind: str = ""


@dataclass(frozen=True)
class Sheet:
    """A table on the page. Pinned rows stay on top however it is sorted."""

    caption: str
    columns: list[Column]
    rows: list[list[Cell]]
    pinned: list[list[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folded: bool = False  # shown on a click

    @property
    def sortable(self) -> bool:
        """Whether sorting could change anything."""
        return len(self.rows) > 2

    @property
    def long(self) -> bool:
        """Whether it scrolls in a frame of its own."""
        return len(self.rows) > FRAMED


@dataclass(frozen=True)
class Image:
    """A picture inside the page."""

    source: str  # a data: URL
    alt: str
    caption: str


@dataclass(frozen=True)
class Part:
    """A piece of a section: in this order, what it has of these."""

    title: str = ""
    sentences: list[str] = field(default_factory=list)
    findings: list[dict[str, str]] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    id: str
    title: str
    intro: list[str]
    parts: list[Part]


def capital(text: str) -> str:
    """Begin a sentence."""
    return text[:1].upper() + text[1:]


def missing() -> Cell:
    """Return the cell of a figure that is not known."""
    return Cell(NOTHING, "", "number open")


def number(value: float | None, digits: int = 0) -> Cell:
    """Return the cell of a number."""
    if value is None or not math.isfinite(value):
        return missing()
    return Cell(f"{value:,.{digits}f}", value, "number")


def difference(delta: float | None, quantity: Quantity = ACCURACY) -> Cell:
    """Return the cell of a difference; of accuracies in points."""
    return missing() if delta is None else Cell(gap(quantity, delta), delta, "number")


def headed(quantity: Quantity) -> str:
    """Return the heading of a column of the compared figure."""
    return f"{quantity.noun} {quantity.unit}".strip()


def gap(quantity: Quantity, delta: float) -> str:
    """Write a difference with a sign as pages do."""
    return quantity.signed(delta).replace("-", "−")


def interval(low: float | None, high: float | None, words: Callable[[float], str]) -> Cell:
    """Return the cell of an interval, whose bounds `words` writes."""
    if low is None or high is None:
        return missing()
    return Cell(f"[{words(low)}, {words(high)}]", low, "number")


def spread(mean: float | None, std: float | None, quantity: Quantity = ACCURACY) -> Cell:
    """Return the cell of a mean and its standard deviation."""
    if mean is None:
        return missing()
    beside = "" if std is None else f" ± {quantity.number(std)}"
    return Cell(quantity.number(mean) + beside, mean, "number")


def sheets(blocks: Iterable[Block]) -> list[Sheet]:
    """Take over tables that are laid out in words."""
    return [_sheet(block) for block in blocks]


def _sheet(block: Block) -> Sheet:
    columns = [
        Column(title, numeric=index >= block.labels and title not in WORDS)
        for index, title in enumerate(block.columns)
    ]
    rows = [
        [
            Cell(text or NOTHING, _sort(text), "number") if column.numeric else Cell(text)
            for text, column in zip(row, columns, strict=True)
        ]
        for row in block.rows
    ]
    return Sheet(block.title, columns, rows)


def _sort(text: str) -> float | str:
    """Return the number that a cell begins with; else its text."""
    try:
        return float(text.partition(" ")[0].replace(",", "").removeprefix("<"))
    except ValueError:
        return text
