"""What a check says."""

from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
CODES = (
    "test-selection",
    "training-selection",
    "single-run",
    "confounded",
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
