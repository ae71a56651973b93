"""Levels and durations as text."""

from collections.abc import Mapping
from typing import Any


def level_text(level: Any) -> str:
    """Write a level as a plan file does: true, 0.001, flip+erase; nothing as none.

    Every digit of a number is written, so that two levels never have the same text.
    """
    if level is None:
        return "none"
    if isinstance(level, bool):
        return str(level).lower()
    return repr(level).removesuffix(".0") if isinstance(level, float) else str(level)


def variant_label(changes: Mapping[str, Any]) -> str:
    """Name a variant by what differs from the baseline, as trials do: `depth=2 residual=true`."""
    return " ".join(f"{name}={level_text(level)}" for name, level in changes.items()) or "baseline"


def duration(seconds: float) -> str:
    """Write seconds in the units that people use: 0.8 s, 45 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 9.95:  # what would be rounded to 10.0
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"
