"""Cells as levels of a setting and as figures.

Figures keep their value: what is converted (percentages of an accuracy, minutes) is converted in
decimal arithmetic, and what is neither a number nor a word for a missing one is an error.
"""

import ast
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fmnist_common.text import level_text
from study.importing.table import CellValue, TableRow
from study.plans.plan import Level
from trainer.errors import UserError

MISSING = frozenset(
    {"", "nan", "na", "n/a", "null", "none", "-", "–", "—", "inf", "-inf", "+inf", "infinity"}
)
_STATES = {
    "COMPLETE": "complete completed finished done ok success succeeded successful terminated",
    "PRUNED": "pruned stopped earlystopped",
    "FAIL": "fail failed failure crashed crash error errored diverged killed preempted preempting "
    "invalid aborted canceled cancelled timeout interrupted oom running waiting pending "
    "scheduled queued paused idle created stopping unknown",
}
STATES = {word: state for state, words in _STATES.items() for word in words.split()}
# Ended from outside, which says nothing of the settings.
_INTERRUPTED = (
    "killed preempted preempting aborted canceled cancelled timeout interrupted running waiting "
    "pending scheduled queued paused idle created stopping"
)
INTERRUPTED = frozenset(_INTERRUPTED.split())
MAX_WHOLE = 2**53  # a number column of the database holds no larger one exactly

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
# Of a level: one that begins with a needless 0 is a name, such as 007.
_LEVEL = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d*)", re.ASCII)
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+", re.ASCII)
_COMMA = re.compile(r"[+-]?\d+(,\d+)+([eE][+-]?\d{1,3})?", re.ASCII)
_SUMMARY = re.compile(r"\d\s*(±|\+/-|\+-|\\pm|\$\\pm\$|\()\s*\d")
_TRUE, _FALSE = frozenset({"true", "yes", "y", "on"}), frozenset({"false", "no", "n", "off"})
_DATE = re.compile(r"(\d{4}-\d\d?-\d\d?|\d\d?([./])\d\d?\2\d{4})([T ,].*)?", re.ASCII)
_DURATION = re.compile(r"(?:(\d+) days? )?(\d+):(\d{2}):(\d{2}(?:\.\d+)?)", re.ASCII)


def state_of(cell: CellValue) -> str | None:
    """Return the state that a word means: COMPLETE, PRUNED or FAIL; None for other words."""
    word = str(cell).rpartition(".")[2]  # TrialState.FAIL
    return STATES.get(re.sub(r"[\W_]", "", word.lower()))


def is_date(cell: CellValue) -> bool:
    """Whether a text is a day, perhaps with a time."""
    return isinstance(cell, str) and bool(_DATE.fullmatch(cell))


def is_interrupted(cell: CellValue) -> bool:
    """Whether a word for a state says that a run was ended, or is not done, from outside."""
    return re.sub(r"[\W_]", "", str(cell).rpartition(".")[2].lower()) in INTERRUPTED


def levels_of(cells: Sequence[CellValue]) -> tuple[list[Level], list[str]]:
    """Read a setting's cells as levels; return them, and what was taken for the same level.

    All true/false, all numbers, or else texts. An empty cell, and a NaN, is no level (None). Texts
    that differ only in case, and numbers that are written differently, are one level.
    """
    plain = [None if isinstance(cell, float) and math.isnan(cell) else cell for cell in cells]
    distinct = {cell for cell in plain if cell is not None}
    truth = _truths(distinct)
    if truth is not None:
        made: list[Level] = [None if cell is None else truth[cell] for cell in plain]
        return made, _alike({cell: made[plain.index(cell)] for cell in distinct})
    if all(_is_number(cell) for cell in distinct):
        values = {cell: _value(cell) for cell in distinct}
        if all(abs(value) <= MAX_WHOLE for value in values.values()):  # an infinity is not exact
            if any(isinstance(value, float) for value in values.values()):
                values = {cell: float(value) for cell, value in values.items()}
            return [None if cell is None else values[cell] for cell in plain], []
    if len({type(cell) for cell in distinct}) == 1 and not any(
        isinstance(cell, str) for cell in distinct
    ):
        return [cell if isinstance(cell, bool) else None if cell is None else level_text(cell)
                for cell in plain], []  # fmt: skip
    texts, first = dict[Any, Level](), dict[str, str]()
    for cell in plain:
        if cell is not None and (cell, type(cell)) not in texts:
            text = level_text(_value(cell)) if _is_plain_number(cell) else level_text(cell)
            texts[cell, type(cell)] = first.setdefault(text.casefold(), text)
    made = [None if cell is None else texts[cell, type(cell)] for cell in plain]
    return made, _alike({cell: level for (cell, _), level in texts.items()})


def _truths(cells: set[bool | int | float | str]) -> dict[Any, bool] | None:
    """Return what words mean true and what false, if all of them do; 0 and 1 beside words only."""
    made: dict[Any, bool] = {}
    for cell in cells:
        word = str(cell).lower()
        if word in _TRUE or word in _FALSE:
            made[cell] = word in _TRUE
        elif word not in ("0", "1"):
            return None
    if not any(isinstance(cell, str) for cell in made) or len(set(made.values())) == 0:
        return None if not any(isinstance(cell, str) for cell in made) else made
    return {cell: made.get(cell, str(cell) == "1") for cell in cells}


def _alike(levels: dict[Any, Level]) -> list[str]:
    groups: dict[Level, list[str]] = {}
    for cell, level in levels.items():
        groups.setdefault(level, []).append(str(cell))
    return [", ".join(sorted(group)) for group in groups.values() if len(set(group)) > 1]


def _is_number(cell: Any) -> bool:
    if isinstance(cell, str):
        return bool(_LEVEL.fullmatch(cell))
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _is_plain_number(cell: Any) -> bool:
    return isinstance(cell, str) and _is_number(cell) and abs(_value(cell)) <= MAX_WHOLE


def _value(cell: Any) -> int | float:
    if not isinstance(cell, str):
        return cell  # type: ignore[no-any-return]
    return int(cell) if _INTEGER.fullmatch(cell) and len(cell) < 17 else float(cell)


@dataclass(frozen=True)
class Share:
    """Accuracies as fractions, and whether they were percentages."""

    values: list[float | None]
    percent: bool


def accuracies(name: str, rows: Iterable[TableRow], *, percent: bool, unit: str | None) -> Share:
    """Read a column of accuracies; it is either fractions or percentages.

    Args:
        name: the column.
        rows: the table's.
        percent: whether its heading says so.
        unit: "percent" or "fraction", as told by the user; None: by the heading and the cells.

    Raises:
        UserError: a cell is no number, out of range, or fractions and percentages are mixed.
    """
    read = [(row.where, number(name, row)) for row in rows]
    present = [(where, figure) for where, figure in read if figure is not None]
    signed = [entry for entry in present if entry[1][1]]
    if signed and len(signed) < len(present):
        where = next(where for where, figure in present if not figure[1])
        raise UserError(f"{where}: {name}: some cells have a % sign and this one has none")
    large = [entry for entry in present if entry[1][0] > 1]
    fractions = any(value for _, (value, _) in present) and not large and not signed
    if unit is None and percent and fractions:
        raise _no_percentage(f"{present[0][0]}: {name} = {present[0][1][0]}")
    told = unit == "percent" or (unit is None and percent) or bool(signed)
    if large and not told and unit is None:
        for where, (value, _) in present:
            if 0 < value <= 1:
                raise _mixed(f"{where}: {name} = {value}", f"{large[0][1][0]} in {large[0][0]}")
    percent = told or (unit is None and bool(large))
    for where, (value, _) in present:
        if not 0 <= value <= (100 if percent else 1):
            raise UserError(
                f"{where}: {name} = {value}: must be a fraction from 0 to 1, or a percentage"
            )
    return Share(
        [
            None if figure is None else float(figure[0] / 100 if percent else figure[0])
            for _, figure in read
        ],
        percent,
    )


def check_shares(name: str, rows: Iterable[TableRow], *, percent: bool, lower: bool) -> None:
    """Refuse a column of shares (F1, AUC, errors) that mixes fractions and percentages.

    An error of 0.9 % beside one of 1.2 % is no mixture: of shares of which less is better, only
    figures a hundred times as large as others are one.

    Raises:
        UserError: fractions and percentages are mixed, or the heading says what the cells are not.
    """
    read = [(row.where, number(name, row)) for row in rows]
    shares = [(where, figure[0]) for where, figure in read if figure is not None and figure[0] > 0]
    small = [entry for entry in shares if entry[1] <= 1]
    large = sorted(value for _, value in shares if value > 1)
    if not small:
        return
    if not large and percent and not lower:
        raise _no_percentage(f"{small[0][0]}: {name} = {small[0][1]}")
    odd = [entry for entry in small
           if large and (not lower or large[0] / 2 <= 100 * entry[1] <= 2 * large[-1])]  # fmt: skip
    if odd:
        raise _mixed(f"{odd[0][0]}: {name} = {odd[0][1]}", str(large[0]))


def _no_percentage(cell: str) -> UserError:
    return UserError(
        f"{cell}: the heading says per cent, but all cells are fractions; say which it is: --unit "
        "percent, or --unit fraction"
    )


def _mixed(cell: str, other: str) -> UserError:
    return UserError(
        f"{cell}: is it a fraction or a percentage? others, such as {other}, are percentages; "
        "write them alike, or say --unit percent"
    )


def number(name: str, row: TableRow) -> tuple[Decimal, bool] | None:
    """Return a cell's number and whether it has a % sign; None for a missing one.

    Raises:
        UserError: it is no number; a mean with its spread is named as such.
    """
    cell = row.cells.get(name)
    if cell is None:
        return None
    if isinstance(cell, str):
        text = cell.removesuffix("%").strip()
        if _NUMBER.fullmatch(text):
            return Decimal(text), text != cell
        if cell.lower() in MISSING:
            return None
        if _SUMMARY.search(cell):
            raise UserError(
                f"{row.where}: {name} = {cell!r}: is a mean and its spread, so the row is a "
                "summary of several runs; import the runs themselves"
            )
        days = _DURATION.fullmatch(text)
        if days:
            parts = [Decimal(part or 0) for part in days.groups()]
            return ((parts[0] * 24 + parts[1]) * 60 + parts[2]) * 60 + parts[3], False
        if _COMMA.fullmatch(text):
            raise UserError(
                f"{row.where}: {name} = {cell!r}: a decimal comma, or thousands? Write the number "
                "without a comma"
            )
    elif not isinstance(cell, bool):
        # repr has the fewest digits that mean this very float: 92.69, not 92.689999...
        return (Decimal(repr(cell)), False) if abs(cell) < float("inf") else None
    raise UserError(f"{row.where}: {name} = {cell!r}: must be a number")


def numbers(
    name: str, rows: Iterable[TableRow], *, times: Decimal, whole: bool, signed: bool = False
) -> list[float | int | None]:
    """Read a column of numbers; whole ones may group their thousands by commas.

    Args:
        name: the column.
        rows: the table's.
        times: what a number is multiplied by.
        whole: whether it must be a whole number.
        signed: whether a % sign is welcome.

    Raises:
        UserError: a cell is no (whole) number; names the line.
    """
    values: list[float | int | None] = []
    for row in rows:
        cell = row.cells.get(name)
        if whole and isinstance(cell, str) and _THOUSANDS.fullmatch(cell):
            row = TableRow(row.where, {name: cell.replace(",", "")})  # noqa: PLW2901 # same cell, plain
        read = number(name, row)
        if read is None:
            values.append(None)
            continue
        made = read[0] * times
        wrong = whole and (made != made.to_integral_value() or abs(made) > MAX_WHOLE)
        if (read[1] and not signed) or wrong or abs(float(made)) == float("inf"):
            raise UserError(f"{row.where}: {name} = {cell!r}: must be a {'whole ' * whole}number")
        values.append(int(made) if whole else float(made))
    return values


def opened(name: str, cells: Sequence[CellValue]) -> list[dict[str, Any]] | None:
    """Read cells that all hold an object, as JSON or Python writes it; None if one does not."""
    present = [cell for cell in cells if cell is not None]
    if not present or not all(isinstance(cell, str) and cell[:1] == "{" for cell in present):
        return None
    parsed = [{} if cell is None else _object(str(cell)) for cell in cells]
    return None if any(entry is None for entry in parsed) else [entry or {} for entry in parsed]


def _object(text: str) -> dict[str, Any] | None:
    readers: tuple[Callable[[str], Any], ...] = (json.loads, ast.literal_eval)
    for read in readers:
        try:
            value = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, dict):
            return {str(name): member for name, member in value.items()}
    return None
