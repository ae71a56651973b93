"""Studies and trials as plain records, of the types that they declare.

Each is verified twice on its way from the database: that it is what was written (`integrity.py`),
where a checksum says so, and that every value is of its type (`stored_values.py`). A trial that
fails is *damaged*: it is counted, and none of its figures is ever shown.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from analysis import integrity, stored_values
from analysis.quantity import Quantity, quantity_of
from analysis.rows import StudyRows, TrialRows, connect, study_rows, trial_rows
from fmnist_common.checksums import CHECKSUM, SEAL

__all__ = ["Study", "Trial", "connect", "finished", "known", "studies", "trials"]

STATES = ("COMPLETE", "FAIL", "PRUNED", "RUNNING", "WAITING")


@dataclass(frozen=True)
class Study:
    """A study, ours or any other that Optuna wrote (then without a plan)."""

    id: int
    name: str
    directions: tuple[str, ...]  # "MAXIMIZE" or "MINIMIZE", one per objective
    plan: dict[str, Any]
    dataset: dict[str, Any]
    attributes: dict[str, Any]  # its user attributes, those above included
    last_run: str | None  # UTC, ISO 8601
    trial_count: int
    damage: str | None = None  # why its plan and description cannot be trusted
    missing: str | None = None  # why not all of its trials may be here
    left_out: tuple[str, ...] = ()  # attributes that are not what they must be
    is_sealed: bool = False  # whether a seal says what it must come to

    @property
    def compared(self) -> str:
        """What a trial's value is: of an imported study, perhaps no validation accuracy."""
        return self.quantity.name

    @property
    def quantity(self) -> Quantity:
        """What a trial's value is, and how it is shown."""
        if self.plan:
            return quantity_of(self.plan)
        return Quantity("objective", is_accuracy=False, unit="", lower_is_better=self.minimizes)

    @property
    def minimizes(self) -> bool:
        """Whether less of a trial's value is better."""
        return self.directions[:1] == ("MINIMIZE",)

    @property
    def test_use(self) -> str:
        """What test data were used for; nobody here knows it of imported results."""
        imported = "as imported: whether it chose anything is not known"
        return imported if self.plan.get("imported") else "looked at once, never used for a choice"

    def best_of(self, rows: "Sequence[Trial]") -> "Trial":
        """Return the first of the finished trials with the best value."""
        sign = -1 if self.minimizes else 1
        return max(rows, key=lambda trial: sign * (trial.value or 0.0))


@dataclass(frozen=True)
class Trial:
    """One trial. What the database does not hold is None or empty.

    Accuracies are fractions; `value` is the validation accuracy of the best validation epoch.
    """

    number: int
    state: str  # COMPLETE, FAIL, PRUNED, RUNNING, WAITING; DAMAGED: not as written, all else empty
    params: dict[str, Any]  # factor -> level
    distributions: dict[str, str]  # factor -> Optuna's distribution as JSON
    value: float | None  # of the first objective
    values: tuple[float, ...]  # of every objective, in the study's order; () without any
    intermediate: dict[int, float]  # epoch -> validation accuracy
    started: datetime | None  # aware, UTC
    completed: datetime | None
    variant: str | None
    changes: dict[str, Any]
    seed: int | None
    candidate: int | None  # number of the trial of a search that first ran these params
    config: dict[str, Any]
    history: list[dict[str, Any]]
    outcome: str | None
    best_epoch: int | None
    val_loss: float | None
    test_accuracy: float | None
    test_loss: float | None
    parameters: int | None
    seconds: float | None
    images_per_second: float | None
    device: str | None
    precision: str | None
    bank: int | None
    checkpoint: str | None  # path of the weights, relative to the folder of the database
    failure_reason: str | None
    failure_kind: str | None  # what sort of failure that was, in a word
    best_value: float | None  # of a pruned trial: accuracy of its best epoch; `value` is the last
    latency_ms: float | None  # median for one image, on the device that trained
    inference: dict[str, Any]  # device -> images at once -> p50_ms, p95_ms, images_per_second
    model_bytes: int | None  # the weights as a file, fp32
    multiply_adds: int | None  # of the network for one image
    confusion: dict[str, Any]  # "test" -> counts by [true class][predicted class]
    reused: dict[
        str, Any
    ]  # of a trial that was taken over: the "study" and "number" of its original
    weights_sha256: str | None = None  # of the file at `checkpoint`
    damage: str | None = None  # of a damaged trial: what is not as it was written

    @property
    def label(self) -> str:
        """The variant; a trial of another tool has none and is named by its number."""
        return f"trial {self.number}" if self.variant is None else self.variant

    @property
    def test_time_flip(self) -> bool:
        """Whether its evaluations are means over an image and its mirror image."""
        return self.config.get("test_time_flip") is True

    @property
    def epochs(self) -> int:
        """Epochs trained so far."""
        return max(self.intermediate, default=len(self.history))


def studies(engine: sa.Engine) -> list[Study]:
    """List every study, the one that ran last at the end; those that never ran come first."""
    records = map(_study, study_rows(engine))
    return sorted(records, key=lambda study: (study.last_run or "", study.id))


def _study(rows: StudyRows) -> Study:
    name = rows.name if isinstance(rows.name, str) else ascii(rows.name)
    attributes, left_out = _study_attributes(rows.attributes)
    damage = (
        integrity.damage(rows.name, rows.directions, rows.attributes, bool(rows.checksums))
        or _directions_fault(rows.directions)
        or _plan_fault(rows.attributes)
    )
    if damage:
        attributes = {}
    return Study(
        id=rows.id,
        name=name,
        directions=() if damage else tuple(rows.directions),
        plan=attributes.get("plan") or {},
        dataset=attributes.get("dataset") or {},
        attributes=attributes,
        last_run=attributes.get("last_run"),
        trial_count=rows.trial_count,
        damage=damage,
        missing=integrity.missing(rows.attributes, rows.checksums),
        left_out=() if damage else left_out,
        is_sealed=SEAL in rows.attributes,
    )


def _directions_fault(directions: list[Any]) -> str | None:
    fine = directions and all(word in ("MAXIMIZE", "MINIMIZE") for word in directions)
    return None if fine else "its directions are none"


def _plan_fault(attributes: Mapping[str, str]) -> str | None:
    """Say why a study's plan is none; a study of another tool has none at all."""
    if "plan" not in attributes:
        return None
    try:
        fault = stored_values.plan_fault(stored_values.parsed(attributes["plan"]))
    except ValueError:
        fault = "it is not JSON"
    return fault and f"its plan is none: {fault}"


def _study_attributes(texts: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Parse the attributes that there should be; name those that are not what they must be."""
    values, wrong = _parsed(texts, stored_values.STUDY_ATTRIBUTES)
    wrong += stored_values.wrong_keys(values, stored_values.STUDY_ATTRIBUTES)
    return {key: value for key, value in values.items() if key not in wrong}, tuple(wrong)


def _parsed(texts: Mapping[str, str], wanted: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Parse attributes; return those that are JSON, and the names of those that are not."""
    values, wrong = {}, []
    for key in wanted:
        if key in texts:
            try:
                values[key] = stored_values.parsed(texts[key])
            except ValueError:
                wrong.append(key)
    return values, wrong


def trials(engine: sa.Engine, study_id: int) -> list[Trial]:
    """Read the trials of a study, by number; a fixed number of queries for any number of them."""
    every, attributes = trial_rows(engine, study_id, SEAL, "plan")
    seal = integrity.seal_of(attributes)
    distribution = lru_cache(maxsize=None)(stored_values.distribution)  # they repeat the same few
    ours = "plan" in attributes
    accuracies = ours and _compares_accuracies(attributes["plan"])
    return [_trial(rows, seal, ours, accuracies, distribution) for rows in every]


def _compares_accuracies(plan: str) -> bool:
    try:
        return quantity_of(stored_values.parsed(plan)).is_accuracy
    except (ValueError, LookupError, TypeError, AttributeError):
        return True  # the plan is damaged, which is told of the study


def _trial(
    rows: TrialRows,
    seal: Mapping[str, Any] | None,
    ours: bool,
    accuracies: bool,
    distribution: Callable[[str], dict[str, Any]],
) -> Trial:
    """Make a record of a trial, an empty one where it is damaged."""
    number = rows.number if stored_values.is_whole(rows.number) else -1
    try:
        _check_cells(rows)
        _check_sum(rows, seal)
        params = {
            name: stored_values.level(value, distribution(text))
            for name, (value, text) in rows.params.items()
        }
        values = {
            objective: stored_values.number(*value)
            for objective, value in sorted(rows.values.items())
        }
        steps = {
            step: stored_values.number(*value) for step, value in sorted(rows.intermediate.items())
        }
        attributes = _trial_attributes(rows.attributes, ours)
        if accuracies and rows.state == "COMPLETE":
            _check_accuracy(values)
    except ValueError as fault:
        empty = TrialRows(number, integrity.DAMAGED, None, None)
        return _record(empty, {}, {}, {}, {}, str(fault))
    return _record(rows, params, values, steps, attributes)


def _check_cells(rows: TrialRows) -> None:
    """Check what a trial is addressed by.

    Raises:
        ValueError: its number, its state, an objective or a step is none.
    """
    for what, places in (("an objective", rows.values), ("a step", rows.intermediate)):
        if not all(map(stored_values.is_whole, places)):
            raise ValueError(f"{what} has no number")
    if not stored_values.is_whole(rows.number):
        raise ValueError("its number is none")
    if rows.state not in STATES:
        raise ValueError("its state is none")


def _check_sum(rows: TrialRows, seal: Mapping[str, Any] | None) -> None:
    """Check that a trial is what was written, where it has a checksum or should have one.

    Raises:
        ValueError: it is not.
    """
    stored = rows.attributes.get(CHECKSUM)
    if stored is None and seal is None:
        return
    expected = integrity.expected_checksum(
        rows.number,
        rows.state,
        [value for _, value in sorted(rows.values.items())],
        rows.params,
        rows.intermediate,
        rows.attributes,
    )
    if integrity.is_damaged(seal, rows.number, rows.state, stored, expected):
        raise ValueError("it is not what was written")


def _trial_attributes(texts: Mapping[str, str], ours: bool) -> dict[str, Any]:
    """Parse a trial's attributes.

    Raises:
        ValueError: one of a trial of ours is not what it must be. One of another tool's trial may
            have the same name and mean anything: it is left out.
    """
    values, wrong = _parsed(texts, stored_values.TRIAL_ATTRIBUTES)
    wrong += stored_values.wrong_keys(values, stored_values.TRIAL_ATTRIBUTES)
    if wrong and ours:
        raise ValueError(f"its attribute {', '.join(map(repr, wrong))} is not what it must be")
    return {key: value for key, value in values.items() if key not in wrong}


def _check_accuracy(values: Mapping[int, float]) -> None:
    """Check the first objective of a trial of ours.

    Raises:
        ValueError: it is no accuracy.
    """
    value = values.get(0)
    if value is not None and math.isfinite(value) and not stored_values.is_fraction(value):
        raise ValueError("its accuracy is not a fraction")


def _record(  # noqa: PLR0917 # the parts of a trial
    rows: TrialRows,
    params: dict[str, Any],
    values: Mapping[int, float],
    intermediate: dict[int, float],
    attributes: Mapping[str, Any],
    damage: str | None = None,
) -> Trial:
    """Make a record of a trial whose values have been checked."""
    get = attributes.get
    return Trial(
        number=rows.number,
        state=rows.state,
        params=params,
        distributions={name: text for name, (_, text) in rows.params.items()},
        value=values.get(0),
        values=tuple(values.values()),
        intermediate=intermediate,
        started=_moment(rows.started),
        completed=_moment(rows.completed),
        variant=get("variant"),
        changes=get("changes") or {},
        seed=get("seed"),
        candidate=get("candidate"),
        config=get("config") or {},
        history=get("history") or [],
        outcome=get("outcome"),
        best_epoch=get("best_epoch"),
        val_loss=get("val_loss"),
        test_accuracy=get("test_accuracy"),
        test_loss=get("test_loss"),
        parameters=get("parameters"),
        seconds=get("seconds"),
        images_per_second=get("images_per_second"),
        device=get("device"),
        precision=get("precision"),
        bank=get("bank"),
        checkpoint=get("checkpoint"),
        failure_reason=get("failure_reason"),
        failure_kind=get("failure_kind"),
        best_value=get("best_value"),
        latency_ms=get("latency_ms"),
        inference=get("inference") or {},
        model_bytes=get("model_bytes"),
        multiply_adds=get("multiply_adds"),
        confusion=get("confusion") or {},
        reused=get("reused") or {},
        weights_sha256=get("weights_sha256"),
        damage=damage,
    )


def _moment(cell: Any) -> datetime | None:
    """Return a stored time; None where it is none: no figure depends on times."""
    if isinstance(cell, str):
        try:
            cell = datetime.fromisoformat(cell)
        except ValueError:
            return None
    # Optuna 5 stores UTC without saying so (4.x stored local time, which cannot be told apart).
    return cell.replace(tzinfo=UTC) if isinstance(cell, datetime) else None


def known(trials: Iterable[Trial], name: str) -> list[float]:
    """Return the finite numbers that trials have under this name."""
    values = (getattr(trial, name) for trial in trials)
    return [value for value in values if value is not None and math.isfinite(value)]


def finished(rows: Iterable[Trial]) -> list[Trial]:
    """Pick the trials that count in every mean: one COMPLETE trial with a finite value per cell.

    A cell is a (variant, seed). Where it was completed twice, its first trial counts: taking the
    better one would be a choice by result. Trials of other tools have no cell and all count.
    """
    cells: dict[object, Trial] = {}
    for trial in rows:
        if trial.state == "COMPLETE" and trial.value is not None and math.isfinite(trial.value):
            cells.setdefault((trial.label, trial.seed), trial)
    return list(cells.values())
