"""One study's trials in the database: started, written as they go, ended.

Epochs are collected and written in one transaction every few seconds; a trial's end is written at
once. Optuna's storage writes each value in a transaction of its own, which costs 110 ms of CPU per
trial of 20 epochs; the rows are the same.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models  # the schema's only definition; Optuna exports no other
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from study.signals import shielded
from study.storage import reason

FLUSH_SECONDS = 2.0

_trials = sqlalchemy.inspect(models.TrialModel).local_table


End = tuple[int, TrialState, Sequence[float] | None, Mapping[str, Any]]
"""A trial's end: id, state, a value per objective, attributes."""


class NewTrial(NamedTuple):
    """A trial to be started."""

    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    attributes: Mapping[str, Any]


class EndedTrial(NamedTuple):
    """A trial that ended elsewhere."""

    made: NewTrial
    state: TrialState
    values: Sequence[float] | None
    steps: Mapping[int, float]  # intermediate values


class StorageFailed(Exception):  # noqa: N818 # it is a state of affairs, not a mistake
    """The database refused a write: the disk is full, the file is gone or damaged."""


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what SQLAlchemy and Optuna raise where the database fails into `StorageFailed`."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StorageFailed(reason(error)) from error


class Ledger:
    """The owner's hand on one study.

    Args:
        storage: the database, owned by this process.
        name: the study's name.
    """

    def __init__(self, storage: RDBStorage, name: str) -> None:
        self.storage, self.name = storage, name
        self._steps: list[dict[str, Any]] = []  # intermediate values not written yet
        self._written = time.monotonic()
        self._study_id: int | None = None
        with _refusals():
            if any(study.study_name == name for study in storage.get_all_studies()):
                self._study_id = storage.get_study_id_from_name(name)
        self.next_number = len(self.trials()) if self.exists else 0
        self._distributions: dict[int, tuple[BaseDistribution, str]] = {}

    @property
    def exists(self) -> bool:
        """Whether the study is in the database."""
        return self._study_id is not None

    @property
    def study_id(self) -> int:
        """The study's number in the database; it must exist."""
        assert self._study_id is not None
        return self._study_id

    @_refusals()
    def create(self, directions: Sequence[StudyDirection]) -> None:
        """Create the study with a direction per objective."""
        self._study_id = self.storage.create_new_study(list(directions), self.name)

    @_refusals()
    def attributes(self) -> dict[str, Any]:
        """Return the study's user attributes."""
        return dict(self.storage.get_study_user_attrs(self.study_id))

    def plan(self) -> dict[str, Any] | None:
        """Return the plan that the study was made with; None: no study, or not one of ours."""
        return self.attributes().get("plan") if self.exists else None

    @_refusals()
    def describe(self, attributes: Mapping[str, Any]) -> None:
        """Set user attributes of the study."""
        for key, value in attributes.items():
            self.storage.set_study_user_attr(self.study_id, key, value)

    @_refusals()
    def touch(self) -> None:
        """Make this the study that ran last."""
        self.describe({"last_run": datetime.now(UTC).isoformat(timespec="milliseconds")})

    def trials(self) -> list[FrozenTrial]:
        """Return every trial of the study."""
        return self.storage.get_all_trials(self.study_id, deepcopy=False)

    def start(self, trials: Sequence[NewTrial]) -> list[int]:
        """Create running trials in one transaction; return their ids.

        They are numbered from `next_number`.
        """
        with self._transaction() as session:
            started = self._insert(session, self.study_id, trials)
        self.next_number += len(started)
        return started

    def _insert(self, session: Session, study_id: int, trials: Sequence[NewTrial]) -> list[int]:
        now = _utc_now()
        started: list[int] = []
        for trial in trials:
            number = self.next_number + len(started)
            row = {"number": number, "study_id": study_id, "state": TrialState.RUNNING}
            made = session.execute(_trials.insert().values(**row, datetime_start=now))
            trial_id = int(made.inserted_primary_key[0])  # type: ignore[attr-defined] # of every insert
            started.append(trial_id)
            self._write_attributes(session, {trial_id: trial.attributes})
            params = [
                {
                    "trial_id": trial_id,
                    "param_name": name,
                    "param_value": trial.distributions[name].to_internal_repr(value),
                    "distribution_json": self._json(trial.distributions[name]),
                }
                for name, value in trial.params.items()
            ]
            if params:
                session.execute(sqlalchemy.insert(models.TrialParamModel), params)
        return started

    def _json(self, distribution: BaseDistribution) -> str:
        key = id(distribution)  # a study has few of them, and they live as long as it does
        if key not in self._distributions:
            self._distributions[key] = distribution, distribution_to_json(distribution)
        return self._distributions[key][1]

    def report(self, trial_id: int, step: int, value: float) -> None:
        """Note an intermediate value; it is in the database a few seconds later."""
        self._steps.append(_step(trial_id, step, value))

    def flush_if_due(self) -> None:
        """Write what has been noted, unless that was done just now."""
        if self._steps and time.monotonic() - self._written > FLUSH_SECONDS:
            with self._transaction() as session:
                self._flush(session)

    def finish(self, ends: Sequence[End]) -> None:
        """End trials in one transaction; one that has ended already stays as it is.

        Raises:
            ValueError: a completed trial has no finite value. Optuna would take +inf for the best.
        """
        _check_values(ends)
        if not ends:
            return
        with self._transaction() as session:
            self._flush(session)
            ids = [end[0] for end in ends]
            running = sqlalchemy.select(_trials.c.trial_id).where(
                _trials.c.trial_id.in_(ids), _trials.c.state == TrialState.RUNNING
            )
            alive = set(session.scalars(running))
            self._end(session, [end for end in ends if end[0] in alive])

    def _end(self, session: Session, ends: Sequence[End]) -> None:
        self._write_attributes(session, {end[0]: end[3] for end in ends})
        rows = [
            {"trial_id": trial_id, "objective": i, "value": stored, "value_type": kind}
            for trial_id, _, own, _ in ends
            for i, value in enumerate(own or ())
            for stored, kind in [models.TrialValueModel.value_to_stored_repr(value)]
        ]
        if rows:
            session.execute(sqlalchemy.insert(models.TrialValueModel), rows)
        for trial_id, state, _, _ in ends:
            session.execute(
                sqlalchemy.update(_trials)
                .where(_trials.c.trial_id == trial_id)
                .values(state=state, datetime_complete=_utc_now())
            )

    def store(
        self,
        directions: Sequence[StudyDirection],
        attributes: Mapping[str, Any],
        trials: Sequence[EndedTrial],
    ) -> None:
        """Write a whole study that ended elsewhere in one transaction; it must not exist yet.

        Raises:
            ValueError: a completed trial has no finite value.
        """
        with self._transaction() as session:
            study = models.StudyModel(study_name=self.name)
            session.add(study)
            session.flush()
            study_id = int(study.study_id)
            session.add_all(
                models.StudyDirectionModel(study_id=study_id, objective=index, direction=direction)
                for index, direction in enumerate(directions)
            )
            session.add_all(
                models.StudyUserAttributeModel(
                    study_id=study_id, key=key, value_json=json.dumps(value)
                )
                for key, value in attributes.items()
            )
            ids = self._insert(session, study_id, [trial.made for trial in trials])
            ends: list[End] = [
                (trial_id, trial.state, trial.values, {})
                for trial_id, trial in zip(ids, trials, strict=True)
            ]
            _check_values(ends)
            self._steps = [
                _step(trial_id, step, value)
                for trial_id, trial in zip(ids, trials, strict=True)
                for step, value in trial.steps.items()
            ]
            self._flush(session)
            self._end(session, ends)
        self._study_id = study_id
        self.next_number = len(trials)

    def _write_attributes(
        self, session: Session, attributes: Mapping[int, Mapping[str, Any]]
    ) -> None:
        rows = [
            {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
            for trial_id, own in attributes.items()
            for key, value in own.items()
        ]
        if rows:
            session.execute(sqlalchemy.insert(models.TrialUserAttributeModel), rows)

    def fail_running(self, reason: str) -> int:
        """Fail the trials that a dead owner left running; return how many."""
        left = [trial for trial in self.trials() if trial.state == TrialState.RUNNING]
        self.finish(
            [(t._trial_id, TrialState.FAIL, None, {"failure_reason": reason}) for t in left]
        )
        return len(left)

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with _refusals(), shielded(), Session(self.storage.engine) as session, session.begin():
            yield session

    def _flush(self, session: Session) -> None:
        if self._steps:
            session.execute(sqlalchemy.insert(models.TrialIntermediateValueModel), self._steps)
            self._steps = []
        self._written = time.monotonic()


def _check_values(ends: Sequence[End]) -> None:
    for _, state, values, _ in ends:
        fine = values is not None and all(map(math.isfinite, values))
        if state == TrialState.COMPLETE and not fine:
            raise ValueError(f"a completed trial needs finite values, not {values}")


def _step(trial_id: int, step: int, value: float) -> dict[str, Any]:
    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {
        "trial_id": trial_id,
        "step": step,
        "intermediate_value": stored,
        "intermediate_value_type": kind,
    }


def _utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)  # the schema keeps naive UTC


def categorical(levels: Sequence[Any]) -> BaseDistribution:
    """Return the distribution of a factor with these levels."""
    return optuna.distributions.CategoricalDistribution(tuple(levels))
