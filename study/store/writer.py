"""One study's trials in the database: started, written as they go, ended.

Epochs are collected and written in one transaction every few seconds; a trial's end is written at
once, after its record is in the journal.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NoReturn

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.orm import Session

from fmnist_common.checksums import CHECKSUM
from study.store import trial_rows
from study.store.connection import OwnedStorage
from study.store.database_file import DatabaseFile
from study.store.failures import DELETED, StorageFailed, refusals
from study.store.journal import Journal
from study.store.seal import Seal
from study.store.sealed_study import COLUMNS, SealedStudy
from study.store.signals import shielded
from study.store.stored_trial import (
    EndedTrial,
    NewTrial,
    StoredForms,
    StoredTrial,
    stored_step,
    utc_now,
)

FLUSH_SECONDS = 2.0


End = tuple[int, TrialState, Sequence[float] | None, Mapping[str, Any]]
"""A trial's end: id, state, a value per objective, attributes."""


class StudyWriter(SealedStudy):
    """The owner's hand on one study.

    Args:
        storage: the database, owned by this process.
        name: the study's name.
        journal: where results are written before the database has them.
        file: the database's, looked at before each write.
    """

    def __init__(
        self,
        storage: OwnedStorage,
        name: str,
        *,
        journal: Journal | None = None,
        file: DatabaseFile | None = None,
    ) -> None:
        super().__init__(storage, name, journal=journal, file=file)
        self._steps: list[dict[str, Any]] = []  # intermediate values not written yet
        self._written = time.monotonic()
        self._open: dict[int, StoredTrial] = {}  # by trial id
        self._forms = StoredForms()
        self.ended = 0  # trials, since the last backup
        self.in_order = True  # whether the database has all that the journal has

    def trials(self) -> list[FrozenTrial]:
        """Return every trial of the study."""
        return self.storage.patiently(
            lambda: self.storage.get_all_trials(self.study_id, deepcopy=False)
        )

    def sound_trials(self) -> list[FrozenTrial]:
        """Return the trials without those that have changed since they were written, by number.

        A damaged trial settles nothing: what it stands for is run again.
        """
        assert self._seal is not None
        seal = self._seal

        def read() -> list[FrozenTrial]:
            with Session(self.storage.engine) as session:
                return [
                    trial.frozen(trial_id)
                    for trial_id, trial in trial_rows.load_each(session, self.study_id)
                    if trial is not None and not trial.is_damaged(seal)
                ]

        return self.storage.patiently(read)

    def start(self, trials: Sequence[NewTrial]) -> list[int]:
        """Create running trials in one transaction; return their ids.

        They are numbered from `next_number`.

        Raises:
            StorageFailed: it was not written; also where another program adds trials just now.
        """
        fresh = self._fresh(trials, self.next_number)
        with shielded():
            started = self.commit(lambda session, _: self._insert(session, fresh))
            self._open.update(zip(started, fresh, strict=True))
            self._seen(fresh[-1].number if fresh else -1, max(started, default=0))
        return started

    def _insert(self, session: Session, trials: Sequence[StoredTrial]) -> list[int]:
        """Insert running trials, whose numbers nobody else may have taken meanwhile."""
        started = trial_rows.insert(session, self.study_id, trials)
        numbers = [trial.number for trial in trials] or [0]
        same = sqlalchemy.select(sqlalchemy.func.count()).where(
            *self._after_the_last(), COLUMNS.number.between(min(numbers), max(numbers))
        )
        if trials and session.scalar(same) != len(trials):
            raise StorageFailed("another program added trials to the study while it ran")
        return started

    def _fresh(self, trials: Sequence[NewTrial], first: int) -> list[StoredTrial]:
        """Return new trials as they will be stored, numbered from `first`."""
        now = utc_now()
        return [self._forms.trial(number, trial, now) for number, trial in enumerate(trials, first)]

    def report(self, trial_id: int, step: int, value: float) -> None:
        """Note an intermediate value; it is in the database a few seconds later."""
        self._open[trial_id].intermediate[step] = stored = stored_step(value)
        self._steps.append(trial_rows.step(trial_id, step, *stored))

    def flush_if_due(self) -> None:
        """Write what has been noted, unless that was done just now."""
        if self._steps and time.monotonic() - self._written > FLUSH_SECONDS:
            self._flush(lambda *_: None)

    def _flush(self, write: Callable[[Session, Seal], None]) -> None:
        """Write what has been noted, and more, in one transaction."""

        def both(session: Session, seal: Seal) -> None:
            trial_rows.insert_steps(session, self._steps)
            write(session, seal)

        with shielded():  # what was written is not written once more
            self.commit(both)
            self._steps, self._written = [], time.monotonic()

    def finish(self, ends: Sequence[End]) -> None:
        """End trials in one transaction; one that has ended already stays as it is.

        So a trial's id is the fencing token of its attempt: what comes late finds it closed.

        Raises:
            ValueError: a completed trial has no finite value. Optuna would take +inf for the best.
        """
        for _, state, values, _ in ends:
            _check_values(state, values)
        records = {
            trial_id: self._open[trial_id].end_record(self.name, state, values, more)
            for trial_id, state, values, more in ends
            if trial_id in self._open
        }
        if not records:
            return
        with shielded():
            self.storage.check()  # else the journal is another owner's
            self.in_order = False
            if self.journal is not None:
                with refusals():
                    self.journal.write(list(records.values()))
            self._close(records)
            self.in_order = True

    def _close(self, records: Mapping[int, Mapping[str, Any]]) -> None:
        """Write the ends of running trials, by id."""

        def write(session: Session, seal: Seal) -> None:
            running = sqlalchemy.select(COLUMNS.trial_id).where(
                COLUMNS.trial_id.in_(records), COLUMNS.state == TrialState.RUNNING
            )
            if len(set(session.scalars(running))) < len(records):
                self._say_what_happened(session)
            self._end(session, seal, records)

        self._flush(write)
        for trial_id in records:
            del self._open[trial_id]
        self.ended += len(records)

    def _say_what_happened(self, session: Session) -> NoReturn:
        """Say why trials of this process do not run any more."""
        study = sqlalchemy.select(models.StudyModel.study_id)
        there = session.scalar(study.where(models.StudyModel.study_id == self.study_id))
        raise StorageFailed(
            "another program ended a trial of the study while it ran" if there else DELETED
        )

    def _end(self, session: Session, seal: Seal, records: Mapping[int, Mapping[str, Any]]) -> None:
        trial_rows.end(session, self._open, records)
        for record in records.values():
            seal.take_trial(json.loads(record["attributes"][CHECKSUM]))

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
        fresh = self._fresh([trial.made for trial in trials], 0)
        for stored, trial in zip(fresh, trials, strict=True):
            _check_values(trial.state, trial.values)
            stored.intermediate = {step: stored_step(value) for step, value in trial.steps.items()}
        records = [
            stored.end_record(self.name, trial.state, trial.values, {})
            for stored, trial in zip(fresh, trials, strict=True)
        ]

        def write(session: Session, seal: Seal) -> None:
            self._insert_study(session, directions)
            for key, value in attributes.items():
                self.set_attribute(session, key, json.dumps(value))
                seal.take_attribute(key, json.dumps(value))
            ids = self._insert(session, fresh)
            self._open = dict(zip(ids, fresh, strict=True))
            trial_rows.insert_steps(session, _steps(self._open))
            self._end(session, seal, dict(zip(ids, records, strict=True)))

        self._seal = Seal(self.name, [direction.name for direction in directions])
        try:
            self._create(write)
        finally:
            self._open = {}

    def fail_running(self, reason: str) -> int:
        """Fail the trials that a dead owner left running; return how many."""
        left = self._running()
        self._adopt(left)
        attributes = {"failure_reason": reason, "failure_kind": "interrupted"}
        self.finish([(trial, TrialState.FAIL, None, attributes) for trial in left])
        return len(left)

    def _running(self) -> list[int]:
        running = sqlalchemy.select(COLUMNS.trial_id).where(
            COLUMNS.study_id == self.study_id, COLUMNS.state == TrialState.RUNNING
        )

        def read() -> list[int]:
            with Session(self.storage.engine) as session:
                return list(session.scalars(running))

        return self.storage.patiently(read)

    def _adopt(self, trial_ids: Iterable[int]) -> None:
        """Take running trials of an earlier owner over, with all that is stored of them."""
        wanted = [trial_id for trial_id in trial_ids if trial_id not in self._open]
        self._open.update(self._stored(COLUMNS.trial_id.in_(wanted)))

    def _stored(self, which: sqlalchemy.ColumnElement[bool]) -> dict[int, StoredTrial]:
        """Read trials as they are stored, by id."""

        def read() -> dict[int, StoredTrial]:
            with Session(self.storage.engine) as session:
                return trial_rows.load(session, which)

        return self.storage.patiently(read)

    def restore(self, record: Mapping[str, Any]) -> Literal["there", "restored", "conflict"]:
        """Put a journaled trial back where the database lacks it.

        Numbers below it that the database lacks too are entered as lost: there are no gaps.
        """
        there = sqlalchemy.and_(
            COLUMNS.study_id == self.study_id, COLUMNS.number == record["number"]
        )
        stored = self._stored(there)
        checksum = record["attributes"][CHECKSUM]
        if any(trial.attributes.get(CHECKSUM) == checksum for trial in stored.values()):
            return "there"
        begun = StoredTrial.of_record(record)
        running = [key for key, trial in stored.items() if trial.became(begun)]
        if running:
            trial_id = running[0]
            self._open[trial_id] = stored[trial_id]
        elif stored:
            return "conflict"
        else:
            self._enter_lost(record["number"])
            (trial_id,) = self.commit(lambda session, _: self._insert(session, [begun]))
            self._open[trial_id] = begun
        written = self._open[trial_id].intermediate
        self._steps += [
            trial_rows.step(trial_id, int(step), *value)
            for step, value in record["intermediate"].items()
            if int(step) not in written
        ]
        self._close({trial_id: record})
        return "restored"

    def _enter_lost(self, number: int) -> None:
        missing = range(self.next_number, number)
        attributes = {"candidate": None}  # of a search: it belongs to none
        lost = self.start([NewTrial({}, {}, attributes) for _ in missing])
        why = {"failure_reason": "lost with the database", "failure_kind": "infrastructure"}
        self.finish([(trial, TrialState.FAIL, None, why) for trial in lost])


def _steps(trials: Mapping[int, StoredTrial]) -> list[dict[str, Any]]:
    """Return the rows of all intermediate values of trials, by id."""
    return [
        trial_rows.step(trial_id, step, *value)
        for trial_id, trial in trials.items()
        for step, value in trial.intermediate.items()
    ]


def _check_values(state: TrialState, values: Sequence[float] | None) -> None:
    fine = values is not None and all(map(math.isfinite, values))
    if state == TrialState.COMPLETE and not fine:
        raise ValueError(f"a completed trial needs finite values, not {values}")


def categorical(levels: Sequence[Any]) -> BaseDistribution:
    """Return the distribution of a factor with these levels."""
    return optuna.distributions.CategoricalDistribution(tuple(levels))
