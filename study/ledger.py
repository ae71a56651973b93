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
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models  # the schema's only definition; Optuna exports no other
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from study.signals import shielded
from study.storage import reason

FLUSH_SECONDS = 2.0

_trials = sqlalchemy.inspect(models.TrialModel).local_table


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
    def create(self) -> None:
        """Create the study; its objective is maximised."""
        self._study_id = self.storage.create_new_study([StudyDirection.MAXIMIZE], self.name)

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
    def trials(self) -> list[FrozenTrial]:
        """Return every trial of the study."""
        return self.storage.get_all_trials(self.study_id, deepcopy=False)

    @_refusals()
    def start(
        self,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attributes: Mapping[str, Any],
    ) -> int:
        """Create a running trial; return its id."""
        trial = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs=dict(attributes),
        )
        return self.storage.create_new_trial(self.study_id, template_trial=trial)

    def report(self, trial_id: int, step: int, value: float) -> None:
        """Note an intermediate value; it is in the database a few seconds later."""
        stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
        self._steps.append(
            {
                "trial_id": trial_id,
                "step": step,
                "intermediate_value": stored,
                "intermediate_value_type": kind,
            }
        )

    def flush_if_due(self) -> None:
        """Write what has been noted, unless that was done just now."""
        if self._steps and time.monotonic() - self._written > FLUSH_SECONDS:
            with self._transaction() as session:
                self._flush(session)

    def finish(
        self,
        ends: Sequence[tuple[int, TrialState, float | None, Mapping[str, Any]]],
    ) -> None:
        """End trials in one transaction: (id, state, value, attributes) each.

        Raises:
            ValueError: a completed trial has no finite value. Optuna would take +inf for the best.
        """
        for _, state, value, _ in ends:
            if state == TrialState.COMPLETE and (value is None or not math.isfinite(value)):
                raise ValueError(f"a completed trial needs a finite value, not {value}")
        now = datetime.now(UTC).replace(tzinfo=None)  # the schema keeps naive UTC
        with self._transaction() as session:
            self._flush(session)
            running = set(
                session.scalars(
                    sqlalchemy.select(models.TrialModel.trial_id).where(
                        models.TrialModel.trial_id.in_([end[0] for end in ends]),
                        models.TrialModel.state == TrialState.RUNNING,
                    )
                )
            )
            ends = [end for end in ends if end[0] in running]  # an ended trial stays as it is
            attributes = [
                {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
                for trial_id, _, _, own in ends
                for key, value in own.items()
            ]
            if attributes:
                session.execute(sqlalchemy.insert(models.TrialUserAttributeModel), attributes)
            for trial_id, state, value, _ in ends:
                if value is not None:
                    stored, kind = models.TrialValueModel.value_to_stored_repr(value)
                    row = {
                        "trial_id": trial_id,
                        "objective": 0,
                        "value": stored,
                        "value_type": kind,
                    }
                    session.execute(sqlalchemy.insert(models.TrialValueModel), row)
                session.execute(
                    sqlalchemy.update(_trials)
                    .where(_trials.c.trial_id == trial_id)
                    .values(state=state, datetime_complete=now)
                )

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


def categorical(levels: Sequence[Any]) -> BaseDistribution:
    """Return the distribution of a factor with these levels."""
    return optuna.distributions.CategoricalDistribution(tuple(levels))
