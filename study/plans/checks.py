"""Checks of single keys of a plan; each says in one line what is wrong."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.errors import UserError, choose

MAX_LEVELS = 1000  # of a factor
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


def check_name(what: str, name: str) -> None:
    """Check a study's name: it is part of paths and pages.

    Raises:
        UserError: the name is not made of letters, digits and `._/-`, or could leave its folder.
    """
    if not _NAME.fullmatch(name) or ".." in name or len(name) > 200:
        raise UserError(
            f"{what} = {name!r}: use letters, digits, '_', '-', '.' and '/', "
            "no leading dot or '-', no '..', at most 200 characters"
        )


def check_table(key: str, table: Mapping[str, Any], valid: Sequence[str]) -> None:
    """Check that a table has only valid names.

    Raises:
        UserError: it is not so; the message names the key.
    """
    for name in table:
        if not valid:
            raise UserError(f"{key}.{name}: a training of yours is varied by its [trainer_options]")
        if name not in valid:
            raise UserError(choose(key, name, valid))


def check_whole(key: str, value: Any, most: int) -> None:
    """Check a whole number from 1 to `most`.

    Raises:
        UserError: it is not so; the message names the key.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise UserError(f"{key} = {value!r}: must be a whole number from 1 to {most}")


def check_negligible(points: Any) -> None:
    """Check a difference of accuracy that would not matter; None: there is none.

    Raises:
        UserError: it is no number of points, up to 100.
    """
    number = isinstance(points, (int, float)) and not isinstance(points, bool)
    if points is not None and not (number and 0 < points <= 100):
        raise UserError(f"negligible = {points!r}: must be a number of points, up to 100")


def check_levels(name: str, levels: Any) -> None:
    """Check a factor's list: some levels, none twice; 1 and true are two.

    Raises:
        UserError: it is not so; the message names the key.
    """
    if not isinstance(levels, (list, tuple)):
        raise UserError(f"factors.{name} = {levels!r}: must be a list of levels")
    if not 0 < len(levels) <= MAX_LEVELS:
        raise UserError(f"factors.{name}: has {len(levels)} levels; give 1 to {MAX_LEVELS}")
    for position, level in enumerate(levels):
        if any(
            level == other and isinstance(level, bool) == isinstance(other, bool)
            for other in levels[:position]
        ):
            raise UserError(f"factors.{name}: level {level!r} is listed twice")
