"""Mistakes of method: in a plan, in results, and in what others reported.

Every check looks for one mistake that a published project made (docs/methodology.md), and speaks
only where it can name the figures or the settings that show it. Claims that results contradict are
found by `analysis/claims.py`, with the statistics of the tables; `study/cli/findings.py` adds them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from study.lint import (
    confounding,
    losses,
    network,
    ranges,
    replicates,
    selection,
)
from study.lint.context import Context, TrialRecord
from study.lint.finding import CODES, SEVERITIES, Finding

__all__ = ["CODES", "SEVERITIES", "Finding", "TrialRecord", "lint"]

_ROOMS = (selection, replicates, confounding, network, losses, ranges)
# What is known of accuracies, such as chance and binomial errors, says nothing of a loss.
_OF_ANY_FIGURE = (*selection.OF_ANY_FIGURE, *confounding.CHECKS)


def lint(plan: Mapping[str, Any], trials: Sequence[TrialRecord]) -> list[Finding]:
    """Find mistakes in a plan and in its results, the gravest first.

    Args:
        plan: as stored with a study, ours or imported; empty for another tool's.
        trials: the study's, or none.

    Raises:
        UserError: the plan is ours, but not valid.
    """
    context = Context(plan, trials)
    checks = [check for room in _ROOMS for check in room.CHECKS]
    chosen = checks if context.is_accuracy else _OF_ANY_FIGURE
    findings = [finding for check in chosen for finding in check(context)]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
