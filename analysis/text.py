"""Names and levels as text that is safe to show."""

from collections.abc import Mapping
from typing import Any


def level_label(level: Any) -> str:
    """Write a level as a plan file does: true, 0.001, flip+erase; nothing as none."""
    if level is None:
        return "none"
    if isinstance(level, bool):
        return str(level).lower()
    if isinstance(level, float):
        return repr(level).removesuffix(".0")
    return str(level)


def variant_label(changes: Mapping[str, Any]) -> str:
    """Name a variant by what differs from the baseline, as trials do: `depth=2 residual=true`."""
    return " ".join(f"{n}={level_label(level)}" for n, level in changes.items()) or "baseline"


def printable(text: str) -> str:
    """Spell out what would not be seen or would steer a terminal: an escape becomes `\\x1b`.

    Names in a database may come from anywhere. Control characters, line separators and marks
    that reorder a line are written as Python escapes; letters of any script stay.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def percent(fraction: float | None, digits: int = 2) -> str:
    """Write a fraction as a percentage without its sign; None as nothing."""
    return "" if fraction is None else f"{100 * fraction:.{digits}f}"


def p_text(p: float | None) -> str:
    """Write a p-value; None as nothing."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
