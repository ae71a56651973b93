"""Figures of an image and its mirror image together (`test_time_flip`): how they are marked."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from analysis.table_formats import joined

MARK = "†"
WORDS = "the mean over an image and its mirror image (test_time_flip)"
NOTE = f"{MARK}: {WORDS}, two looks at each image; validation looks so, too."


class MayFlip(Protocol):
    """Figures that may be of image and mirror image."""

    @property
    def test_time_flip(self) -> bool:
        """Whether they are."""


def mark(text: str, of: MayFlip) -> str:
    """Mark a figure where it is of image and mirror image."""
    return f"{text} {MARK}" if text.strip() and of.test_time_flip else text


def marked(cells: Sequence[str], rows: Sequence[MayFlip]) -> list[str]:
    """Mark the cells of a column, whose figures stay below each other."""
    return joined(
        (cell, MARK if cell.strip() and row.test_time_flip else "")
        for cell, row in zip(cells, rows, strict=True)
    )


def notes(rows: Iterable[MayFlip]) -> list[str]:
    """Say what the mark means, if any of the rows has it."""
    return [NOTE] if any(row.test_time_flip for row in rows) else []
