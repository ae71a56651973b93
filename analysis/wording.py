"""Sentences in parts: numbers of things, lists, durations, differences in points."""

from collections.abc import Sequence

NAMED = 6  # things that a sentence lists; more are counted


def signed(fraction: float | None) -> str:
    """Write a difference in points, with its sign."""
    sign = "−" if (fraction or 0.0) < 0 else "+"
    return sign + size(fraction)


def size(fraction: float | None) -> str:
    """Write a difference in points, without its sign; one that is not 0 never as 0.00."""
    points = 100 * abs(fraction or 0.0)
    return f"{points:.2f}" if points >= 0.005 or not points else f"{points:.1g}"


def bounds(low: float | None, high: float | None, *, sign: bool = True) -> str:
    """Write an interval of a difference in brackets, after a space; nothing without one."""
    if low is None or high is None:
        return ""
    words = signed if sign else size
    return f" (95 % interval {words(low)} to {words(high)})"


def count(number: int, thing: str) -> str:
    """Write a number of things: 1 trial, 1,200 trials."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def are(number: int) -> str:
    """Return the verb that goes with so many things."""
    return "is" if number == 1 else "are"


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def some(words: Sequence[str], thing: str = "", most: int = NAMED) -> str:
    """Join words; of too many, name the first and count the rest."""
    if len(words) <= most:
        return listed(words)
    more = len(words) - most + 1
    other = f"{more:,} other {thing}s" if thing else f"{more:,} others"
    return listed([*words[: most - 1], other])
