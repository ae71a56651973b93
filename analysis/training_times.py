"""When the trainings of a study ran, as far as its database knows."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from analysis.trials import Trial


def trained_here(plan: Mapping[str, Any], trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that the study trained itself.

    Those that were imported or taken over from another study have dates too: of being written.
    """
    if plan.get("imported"):
        return []
    return [trial for trial in trials if not trial.reused]


def first_began(trials: Iterable[Trial]) -> datetime | None:
    """Return when the first of some trainings began; None: none has, or nobody knows."""
    return min((trial.started for trial in trials if trial.started), default=None)


def last_ended(trials: Iterable[Trial]) -> datetime | None:
    """Return when the last of some trainings ended; None: none has, or nobody knows."""
    return max((trial.completed for trial in trials if trial.completed), default=None)


def wall_seconds(trials: Sequence[Trial]) -> float | None:
    """Return how long at least one of some trainings was running; None: none has ended.

    Pauses between runs do not count.
    """
    spans = sorted(
        (trial.started, trial.completed)
        for trial in trials
        if trial.started is not None and trial.completed is not None
    )
    if not spans:
        return None
    total, until = 0.0, spans[0][0]
    for start, end in spans:
        total += max(0.0, (end - max(start, until)).total_seconds())
        until = max(end, until)
    return total
