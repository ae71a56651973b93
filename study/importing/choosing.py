"""Which of a table's figures is compared where the user does not say: by an order, or ask."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from study.importing.names import BEST, LAST, MEAN, SPREAD, FigureName

_SPLITS = ("validation", None, "test")  # what is compared: the first that is there
# Ours is the accuracy of the best validation epoch; of other images the best is a choice by them.
_QUALIFIERS = {"validation": (BEST, None, MEAN, LAST)}
_OTHER_QUALIFIERS = (None, LAST, MEAN, BEST)


_NUMBERED = re.compile(r"(?P<stem>.*\D)(?P<number>\d{1,3})")
SHOWN = 4  # columns that are listed
_TOP = {1, 3, 5, 10}  # top-1 and top-5 accuracy are two figures


def _rank(name: FigureName) -> int:
    """Order measures: accuracy, its kind, any other named figure, losses, unnamed objectives."""
    if name.name == "accuracy":
        return 0
    if name.name == "error":
        return 1
    if name.name.endswith("loss"):
        return 3
    return 4 if name.better is None else 2


def choose_figure(
    figures: Mapping[str, FigureName], columns: Sequence[str]
) -> tuple[str | None, str | None]:
    """Choose what is compared.

    Args:
        figures: the columns that hold one.
        columns: all of the table, in which runs may stand beside each other.

    Returns:
        The column, or a question that settles it.
    """
    usable = {c: figure for c, figure in figures.items() if figure.qualifier != SPREAD}
    validated = any(figure.split == "validation" for figure in usable.values())
    splits = [split for split in _SPLITS if split != "test" or not validated]
    ranked = {c: figure for c, figure in usable.items() if figure.split in splits}
    if not ranked:
        return None, _none_known(usable, columns)
    rank = min(map(_rank, ranked.values()))
    same = {c: figure for c, figure in ranked.items() if _rank(figure) == rank}
    split = next(kind for kind in _SPLITS if any(name.split == kind for name in same.values()))
    same = {c: figure for c, figure in same.items() if figure.split == split}
    order = _QUALIFIERS.get(split or "", _OTHER_QUALIFIERS)
    first = min(order.index(figure.qualifier) for figure in same.values())
    best = [c for c, figure in same.items() if order.index(figure.qualifier) == first]
    beside = _side_by_side(best[0], columns)
    if beside:
        return None, f"{beside}; or say --metric {best[0]}"
    if len(best) > 1:
        named = f"{', '.join(best)} could each be what is compared"
        return None, f"{named}; say which: --metric {best[0]}"
    return best[0], None


def _none_known(figures: Mapping[str, FigureName], columns: Sequence[str]) -> str:
    """Say that nothing can be compared, and why."""
    training = [c for c, figure in figures.items() if figure.split == "training"]
    if training:
        return (
            f"only figures of training images are there ({', '.join(training)}), which rank "
            f"nothing; to compare one all the same, say --metric {training[0]!r}"
        )
    beside = next(filter(None, (_side_by_side(column, columns) for column in columns)), "")
    return (
        "no column is known as a figure to compare; say which one is: --metric COLUMN, and "
        f"--lower-is-better if less of it is better{f'; {beside}' if beside else ''}"
    )


def _side_by_side(column: str, columns: Sequence[str]) -> str:
    """Ask about columns that are counted: `acc_seed0, acc_seed1`; nothing where none are."""
    stems: dict[str, dict[int, str]] = defaultdict(dict)
    for name in columns:
        if match := _NUMBERED.fullmatch(name):
            stems[match["stem"]][int(match["number"])] = name
    of = _NUMBERED.fullmatch(column)
    counted = stems[of["stem"]] if of else {}
    numbers = sorted(counted)
    if (
        len(numbers) < 2
        or {*numbers} <= _TOP
        or numbers != list(range(numbers[0], numbers[0] + len(numbers)))
    ):
        return ""
    listed = ", ".join(counted[number] for number in numbers[:SHOWN])
    more = ", ..." if len(numbers) > SHOWN else ""
    return f"{listed}{more}: if these are runs of one setting, write a row for each, with a seed"
