"""Foreign names, percentages and p-values as text that is safe to show."""


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
