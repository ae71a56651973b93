"""Cells that were trained and have no result: those that diverged, or failed for good.

What the other seeds of such a variant reach is not what the variant reaches: the survivors are a
choice by result.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from analysis.trials import Trial, finished

# What ended a training from outside: its cell is trained again, and says nothing of the variant.
FROM_OUTSIDE = {"interrupted", "infrastructure"}


def failures(plan: Mapping[str, Any], trials: Iterable[Trial]) -> list[Trial]:
    """Pick a failed trial for every planned cell, a (variant, seed), that has nothing better.

    A cell that finished, or is being trained, has not failed, whatever was tried before.
    """
    rows = [trial for trial in trials if _is_planned(plan, trial)]
    ended = {(trial.label, trial.seed) for trial in finished(rows)}
    ended |= {(t.label, t.seed) for t in rows if t.state in ("RUNNING", "WAITING", "PRUNED")}
    cells: dict[object, Trial] = {}
    for trial in rows:
        cell = trial.label, trial.seed
        if trial.state == "FAIL" and trial.failure_kind not in FROM_OUTSIDE and cell not in ended:
            cells.setdefault(cell, trial)
    return list(cells.values())


def _is_planned(plan: Mapping[str, Any], trial: Trial) -> bool:
    seeds = plan.get("max_seeds") or plan.get("seeds")
    if plan.get("imported") or not isinstance(seeds, int) or trial.seed is None:
        return True
    return trial.seed < seeds


def is_diverged(trial: Trial) -> bool:
    """Whether a trial's loss or weights ceased to be numbers."""
    return trial.outcome == "diverged"
