"""What the database is told of a trial: when it starts, and what came of it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from study.run.work import Task
from study.store.stored_trial import NewTrial
from study.store.writer import End
from trainer.results import Result


def started(task: Task, distributions: Mapping[str, BaseDistribution], attempt: int) -> NewTrial:
    """Return the trial of a task that starts for the n-th time."""
    attributes: dict[str, Any] = {
        "variant": task.variant,
        "changes": dict(task.changes),
        "seed": task.seed,
        "config": task.config.to_dict(),
        "attempt": attempt,
    }
    if task.candidate is not None:
        attributes["candidate"] = task.candidate
    return NewTrial(task.params, {name: distributions[name] for name in task.params}, attributes)


def ended(
    trial: int,
    result: Result,
    objectives: Sequence[float | None],
    checkpoint: str,
    fault: str | None,
) -> End:
    """Return a trial's end.

    Args:
        trial: its id in the database.
        result: what its training gave.
        objectives: the values of the study's objectives.
        checkpoint: the path of its weights, as it is stored.
        fault: why it failed although its training came to an end; None: it did not.
    """
    attributes = result.to_dict()
    best = attributes.pop("val_accuracy")
    if result.outcome == "diverged":
        fault = f"diverged: the loss is not finite in epoch {result.history[-1].epoch}"
    if fault:
        attributes = {key: _finite(value) for key, value in attributes.items()}
        return trial, TrialState.FAIL, None, {**attributes, "failure_reason": fault}
    if result.outcome == "stopped":
        last = result.history[-1].val_accuracy
        return trial, TrialState.PRUNED, [last], {**attributes, "best_value": best}
    values = [float(value) for value in objectives if value is not None]
    if result.weights_sha256 is not None:  # a training that is not ours leaves no weights
        attributes["checkpoint"] = checkpoint
    return trial, TrialState.COMPLETE, values, attributes


def fault_of(result: Result, objectives: Sequence[float | None]) -> str | None:
    """Say what is wrong with a result that claims to be one; None: nothing."""
    if result.outcome not in ("finished", "early-stopped"):
        return None
    fine = all(value is not None and math.isfinite(value) for value in objectives)
    words = ", ".join(map(str, objectives))
    return None if fine else f"the objective is not a finite number: {words}"


def told(result: Result) -> str:
    """Say what came of a training, in a few words."""
    if result.val_accuracy is None or result.outcome == "diverged":
        return "diverged"
    if result.outcome == "stopped":
        return f"pruned after epoch {result.history[-1].epoch}"
    return f"{result.val_accuracy:.2%} validation accuracy in {result.seconds:.1f} s"


def _finite(value: Any) -> Any:
    """Replace NaN and infinity by None: JSON has neither."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value
