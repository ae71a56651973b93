"""What a check says."""

from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
CODES = (
    "test-selection",
    "single-run",
    "copied-runs",
    "survivors",
    "collapsed-run",
    "confounded",
    "unread-factor",
    "loss-scale",
    "softmax-loss",
    "no-nonlinearity",
    "not-training",
    "contradicted-claim",
    "edge-of-range",
    "variance-as-std",
    "bias-under-batchnorm",
)


@dataclass(frozen=True)
class Finding:
    """A mistake.

    An *error* makes a conclusion wrong, a *warning* weakens one; a *note* says what to know,
    among it every mistake that a source made and a plan reproduces.
    """

    code: str  # one of CODES
    severity: Severity
    where: str  # "plan", "factors.dropout", "results", "source", ...
    message: str  # what was found, with its numbers, why it matters, and what to do

    def as_dict(self) -> dict[str, str]:
        """Return it JSON-ready."""
        return asdict(self)


def listed(names: list[str], most: int = 3) -> str:
    """Join the first of some names, and say how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def counted(number: int, word: str) -> str:
    """Return `1 row`, `2 rows`."""
    return f"{number} {word}{'' if number == 1 else 's'}"
