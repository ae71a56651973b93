"""Trials and epochs as rows: a trial a row, and in long form an epoch of a trial a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from analysis.quantity import ACCURACY
from analysis.trials import Study, Trial

Record = Mapping[str, Any]
BEFORE = ("trial", "state", "variant", "seed", "candidate")
# Fields of a trial, under their own names; times in UTC, ISO 8601.
AFTER = (
    "val_loss",
    "test_accuracy",
    "test_loss",
    "best_epoch",
    "best_value",
    "epochs",
    "parameters",
    "seconds",
    "images_per_second",
    "latency_ms",
    "multiply_adds",
    "model_bytes",
    "device",
    "precision",
    "bank",
    "started",
    "completed",
    "outcome",
    "failure_kind",
    "failure_reason",
    "checkpoint",
    "weights_sha256",
    "damage",
)
FLIP = "test_time_flip"  # whether figures are of image and mirror image; where any trial's are


@dataclass(frozen=True)
class Records:
    """Rows, and their columns in order. A row without a column's key has no value there."""

    columns: list[str]
    rows: list[Record]


def trial_records(study: Study, trials: Sequence[Trial]) -> Records:
    """Return a row for every trial, of any state: its factors, its figures, what it took.

    Levels and figures keep their types; accuracies are fractions. The compared figure is
    `val_accuracy` of a study of ours, else `value`.
    """
    planned = [*study.plan.get("factors", {}), *(study.plan.get("search") or {}).get("space", {})]
    had = dict.fromkeys(name for trial in trials for name in trial.params)
    factors = dict.fromkeys([*(name for name in planned if name in had), *had])
    columns = {name: _column(name) for name in factors}
    objectives = _objectives(study)
    rows = [_trial(trial, columns, objectives) for trial in trials]
    if FLIP not in factors and any(trial.test_time_flip for trial in trials):
        rows = [
            {**row, FLIP: trial.test_time_flip} for row, trial in zip(rows, trials, strict=True)
        ]
    order = [*BEFORE, *columns.values(), *objectives, *AFTER, FLIP]
    filled = {name for row in rows for name, value in row.items() if value is not None}
    return Records([name for name in dict.fromkeys(order) if name in filled], rows)


def epoch_records(trials: Sequence[Trial]) -> Records:
    """Return a row for every epoch of every trial, in the order of both."""
    rows = [row for trial in trials for row in _epochs(trial)]
    names = dict.fromkeys(name for row in rows for name in row)
    return Records(list(names), rows)


def _trial(trial: Trial, columns: Mapping[str, str], objectives: Sequence[str]) -> Record:
    named: dict[str, Any] = {name: getattr(trial, name) for name in AFTER}
    moments = {n: v.isoformat() for n, v in named.items() if isinstance(v, datetime)}
    return {
        "trial": trial.number,
        "state": trial.state,
        "variant": trial.variant,
        "seed": trial.seed,
        "candidate": trial.candidate,
        **{column: trial.params.get(name) for name, column in columns.items()},
        **named,
        **moments,
        **dict(zip(objectives, trial.values, strict=False)),
    }


def _objectives(study: Study) -> list[str]:
    """Name the values of a trial, the compared figure first."""
    first = "val_accuracy" if study.quantity == ACCURACY and study.plan else "value"
    named = (study.plan.get("search") or {}).get("objectives") or []
    count = max(1, len(study.directions))
    return [first, *(str(name) for name in named[1:count]), *(
        f"value_{index}" for index in range(max(1, len(named)), count)
    )]  # fmt: skip


def _epochs(trial: Trial) -> list[Record]:
    about = {"trial": trial.number, "variant": trial.variant, "seed": trial.seed}
    if trial.history:
        return [{**about, "epoch": entry["epoch"], **entry} for entry in trial.history]
    return [{**about, "epoch": epoch, "value": v} for epoch, v in trial.intermediate.items()]


def _column(factor: str) -> str:
    taken = factor in (*BEFORE, *AFTER, "value", "val_accuracy")
    return f"{factor} (factor)" if taken else factor
