"""What functions of the façade are given: checked by kind, before anything is done with it."""

import math
import os
from typing import Any

from trainer.errors import UserError


def path(name: str, given: Any) -> str | None:
    """Return a path, or a URL, as text; None where none is given.

    Raises:
        UserError: it is neither.
    """
    if given is None:
        return None
    text = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(text, str):
        raise UserError(f"{name} = {given!r}: must be a path, as text or a Path")
    return text


def word(name: str, given: Any) -> None:
    """Check text.

    Raises:
        UserError: it is none.
    """
    if not isinstance(given, str):
        raise UserError(f"{name} = {given!r}: must be a string")


def whole(name: str, given: Any) -> None:
    """Check a whole number, of whatever size.

    Raises:
        UserError: it is none.
    """
    if isinstance(given, bool) or not isinstance(given, int):
        raise UserError(f"{name} = {given!r}: must be a whole number")


def seconds(name: str, given: Any) -> None:
    """Check a time.

    Raises:
        UserError: it is no number above 0.
    """
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not is_number or math.isnan(given) or given <= 0:
        raise UserError(f"{name} = {given!r}: must be a number of seconds above 0")
