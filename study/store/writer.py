"""One study's trials in the database: started, written as they go, ended.

Epochs are collected and written in one transaction every few seconds; a trial's end is written at
once, after its record is in the journal. Optuna's storage writes each value in a transaction of
its own, which costs 110 ms of CPU per trial of 20 epochs; the rows are the same.
"""

import errno
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeVar

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models  # the schema's only definition; Optuna exports no other
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from fmnist_common.checksums import CHECKSUM, SEAL, StoredNumber, trial_checksum
from study.store import signals
from study.store.journal import Journal
from study.store.seal import Seal
from study.store.signals import shielded
from study.store.storage import Identity, reason

FLUSH_SECONDS = 2.0
READ_AT_ONCE = 500  # trials
PATIENCE_SECONDS = 60.0  # with another process that holds the database

_trials = sqlalchemy.inspect(models.TrialModel).local_table
_attributes = sqlalchemy.inspect(models.TrialUserAttributeModel).local_table
_study_attributes = sqlalchemy.inspect(models.StudyUserAttributeModel).local_table
_params = sqlalchemy.inspect(models.TrialParamModel).local_table
_intermediate = sqlalchemy.inspect(models.TrialIntermediateValueModel).local_table
_values = sqlalchemy.inspect(models.TrialValueModel).local_table

Done = TypeVar("Done")

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
    """The database refused a write: the file is gone or damaged, or somebody holds it."""


class DiskFull(StorageFailed):
    """There is no room for a write; it can be repeated when there is."""


class _Busy(StorageFailed):
    """Another process holds the database just now."""


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what SQLAlchemy, Optuna and the system raise where a write fails into our own."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        words = reason(error)
        kinds = {"database or disk is full": DiskFull, "database is locked": _Busy}
        raise kinds.get(words, StorageFailed)(words) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (DiskFull if full else StorageFailed)(str(error)) from error


def _patiently(write: Callable[[], Done]) -> Done:
    """Write; again while another process holds the database, for a while or until a signal."""
    began = time.monotonic()
    while True:
        try:
            return write()
        except _Busy:
            if signals.has_come() or time.monotonic() - began > PATIENCE_SECONDS:
                raise


@dataclass
class _Open:
    """A trial as it is stored: of a running one, all that its checksum and record will need."""

    number: int
    started: datetime | None
    params: dict[str, tuple[float, str]]  # as stored: internal value, distribution's JSON
    attributes: dict[str, str]  # as stored: JSON
    intermediate: dict[int, StoredNumber] = field(default_factory=dict)
    values: dict[int, StoredNumber] = field(default_factory=dict)
    state: str = "RUNNING"
    completed: datetime | None = None

    def is_damaged(self, seal: Seal) -> bool:
        """Whether it is not what was written."""
        running = self.state in ("RUNNING", "WAITING")
        if running or (CHECKSUM not in self.attributes and self.number < seal.before):
            return False
        return self.attributes.get(CHECKSUM) != json.dumps(self.checksum)

    @property
    def checksum(self) -> str:
        """What its checksum must be, now that it has ended."""
        values = [value for _, value in sorted(self.values.items())]
        return trial_checksum(
            self.number, self.state, values, self.params, self.intermediate, self.attributes
        )


class Ledger:
    """The owner's hand on one study.

    Args:
        storage: the database, owned by this process.
        name: the study's name.
        journal: where results are written before the database has them.
        identity: the database's file, looked at before each write.
    """

    def __init__(
        self,
        storage: RDBStorage,
        name: str,
        *,
        journal: Journal | None = None,
        identity: Identity | None = None,
    ) -> None:
        self.storage, self.name = storage, name
        self.journal, self.identity = journal, identity
        self._steps: list[dict[str, Any]] = []  # intermediate values not written yet
        self._written = time.monotonic()
        self._study_id: int | None = None
        self._open: dict[int, _Open] = {}  # by trial id
        self._distributions: dict[int, tuple[BaseDistribution, str]] = {}
        self._parsed_distributions: dict[str, BaseDistribution] = {}  # by their JSON
        self.ended = 0  # trials, since the last backup
        self.in_order = True  # whether the database has all that the journal has
        with _refusals():
            if any(study.study_name == name for study in storage.get_all_studies()):
                self._study_id = storage.get_study_id_from_name(name)
        self.next_number = self._count() if self.exists else 0
        self._seal = self._read_seal()
        self._sealed = ""  # the seal's text in the database, as far as this ledger wrote it

    @property
    def exists(self) -> bool:
        """Whether the study is in the database."""
        return self._study_id is not None

    @property
    def study_id(self) -> int:
        """The study's number in the database; it must exist."""
        assert self._study_id is not None
        return self._study_id

    def create(self, directions: Sequence[StudyDirection]) -> None:
        """Create the study with a direction per objective."""

        @_refusals()
        def make() -> int:
            return self.storage.create_new_study(list(directions), self.name)

        self._study_id = _patiently(make)
        self._seal = Seal(self.name, [direction.name for direction in directions])

    def _count(self) -> int:
        count = sqlalchemy.select(sqlalchemy.func.count()).where(
            _trials.c.study_id == self.study_id
        )
        with _refusals(), Session(self.storage.engine) as session:
            return int(session.scalar(count) or 0)

    def _read_seal(self) -> Seal | None:
        """Return the study's seal; of an older study, one for what is still to come."""
        if not self.exists:
            return None
        stored = self.attributes().get(SEAL)
        if isinstance(stored, dict):
            return Seal.parse(stored)
        with _refusals():
            directions = self.storage.get_study_directions(self.study_id)
        return Seal(self.name, [own.name for own in directions], before=self.next_number)

    @_refusals()
    def attributes(self) -> dict[str, Any]:
        """Return the study's user attributes."""
        return dict(self.storage.get_study_user_attrs(self.study_id))

    def plan(self) -> dict[str, Any] | None:
        """Return the plan that the study was made with; None: no study, or not one of ours."""
        return self.attributes().get("plan") if self.exists else None

    def describe(self, attributes: Mapping[str, Any]) -> None:
        """Set user attributes of the study, in one transaction."""
        texts = {key: json.dumps(value) for key, value in attributes.items()}

        def write(session: Session, seal: Seal) -> None:
            for key, text in texts.items():
                self._set(session, key, text)
                seal.take_attribute(key, text)

        self._commit(write)
        if self.journal is not None:
            with _refusals():
                self.journal.describe(self._description())

    def _description(self) -> dict[str, Any]:
        """Return what the study must be made of again, should its database be lost."""
        assert self._seal is not None
        own = {key: own for key, own in self.attributes().items() if key != SEAL}
        return {"name": self.name, "directions": self._seal.directions, "attributes": own}

    def create_again(self, study: Mapping[str, Any]) -> None:
        """Create the study that a journal describes."""
        self.create([StudyDirection[name] for name in study["directions"]])
        self.describe(study["attributes"])

    def touch(self) -> None:
        """Make this the study that ran last."""
        self.describe({"last_run": datetime.now(UTC).isoformat(timespec="milliseconds")})

    def trials(self) -> list[FrozenTrial]:
        """Return every trial of the study."""
        return self.storage.get_all_trials(self.study_id, deepcopy=False)

    def sound_trials(self) -> list[FrozenTrial]:
        """Return the trials without those that have changed since they were written, by number.

        A damaged trial settles nothing: what it stands for is run again.
        """
        assert self._seal is not None
        every = sqlalchemy.select(_trials.c.trial_id).where(_trials.c.study_id == self.study_id)
        sound: list[FrozenTrial] = []
        with _refusals(), Session(self.storage.engine) as session:
            ids = list(session.scalars(every.order_by(_trials.c.number)))
            for first in range(0, len(ids), READ_AT_ONCE):
                which = _trials.c.trial_id.in_(ids[first : first + READ_AT_ONCE])
                for trial_id, own in sorted(_load(session, which).items()):
                    if not own.is_damaged(self._seal):
                        sound.append(self._frozen(trial_id, own))
        return sound

    def _frozen(self, trial_id: int, own: _Open) -> FrozenTrial:
        """Return a stored trial as Optuna would; its own reading takes ten times as long."""
        distributions = {name: self._parsed(text) for name, (_, text) in own.params.items()}
        to_value = models.TrialValueModel.stored_repr_to_value
        to_step = models.TrialIntermediateValueModel.stored_repr_to_intermediate_value
        value_kinds = models.TrialValueModel.TrialValueType
        step_kinds = models.TrialIntermediateValueModel.TrialIntermediateValueType
        return FrozenTrial(
            number=own.number,
            state=TrialState[own.state],
            value=None,
            values=[
                to_value(value, value_kinds[kind])
                for _, (value, kind) in sorted(own.values.items())
            ]
            or None,
            datetime_start=own.started,
            datetime_complete=own.completed,
            params={
                name: distributions[name].to_external_repr(value)
                for name, (value, _) in own.params.items()
            },
            distributions=distributions,
            user_attrs={key: json.loads(text) for key, text in own.attributes.items()},
            system_attrs={},
            intermediate_values={
                step: to_step(value, step_kinds[kind])
                for step, (value, kind) in own.intermediate.items()
            },
            trial_id=trial_id,
        )

    def _parsed(self, text: str) -> BaseDistribution:
        if text not in self._parsed_distributions:  # a study repeats the same few
            self._parsed_distributions[text] = json_to_distribution(text)
        return self._parsed_distributions[text]

    def start(self, trials: Sequence[NewTrial]) -> list[int]:
        """Create running trials in one transaction; return their ids.

        They are numbered from `next_number`.
        """
        fresh = self._fresh(trials)
        started = self._commit(lambda session, _: [self._insert(session, own) for own in fresh])
        self._open.update(zip(started, fresh, strict=True))
        self.next_number += len(started)
        return started

    def _fresh(self, trials: Sequence[NewTrial]) -> list[_Open]:
        """Return new trials as they will be stored."""
        now = _utc_now()
        return [
            _Open(
                number,
                now,
                {
                    name: (
                        float(trial.distributions[name].to_internal_repr(value)),
                        self._json(trial.distributions[name]),
                    )
                    for name, value in trial.params.items()
                },
                {key: json.dumps(value) for key, value in trial.attributes.items()},
            )
            for number, trial in enumerate(trials, self.next_number)
        ]

    def _insert(self, session: Session, own: _Open) -> int:
        row = {"number": own.number, "study_id": self.study_id, "state": TrialState.RUNNING}
        made = session.execute(_trials.insert().values(**row, datetime_start=own.started))
        trial_id = int(made.inserted_primary_key[0])  # type: ignore[attr-defined] # of every insert
        self._write_attributes(session, {trial_id: own.attributes})
        params = [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": value,
                "distribution_json": distribution,
            }
            for name, (value, distribution) in own.params.items()
        ]
        if params:
            session.execute(_params.insert(), params)
        return trial_id

    def _json(self, distribution: BaseDistribution) -> str:
        key = id(distribution)  # a study has few of them, and they live as long as it does
        if key not in self._distributions:
            self._distributions[key] = distribution, distribution_to_json(distribution)
        return self._distributions[key][1]

    def report(self, trial_id: int, step: int, value: float) -> None:
        """Note an intermediate value; it is in the database a few seconds later."""
        self._open[trial_id].intermediate[step] = stored = _stored_step(value)
        self._steps.append(_step(trial_id, step, *stored))

    def flush_if_due(self) -> None:
        """Write what has been noted, unless that was done just now."""
        if self._steps and time.monotonic() - self._written > FLUSH_SECONDS:
            self._commit(lambda *_: None, flush=True)

    def finish(self, ends: Sequence[End]) -> None:
        """End trials in one transaction; one that has ended already stays as it is.

        So a trial's id is the fencing token of its attempt: what comes late finds it closed.

        Raises:
            ValueError: a completed trial has no finite value. Optuna would take +inf for the best.
        """
        for _, state, values, _ in ends:
            _check_values(state, values)
        records = {
            trial_id: self._record(self._open[trial_id], state, values, more)
            for trial_id, state, values, more in ends
            if trial_id in self._open
        }
        if not records:
            return
        with shielded():
            self.in_order = False
            if self.journal is not None:
                with _refusals():
                    self.journal.write(list(records.values()))
            self._close(records)
            self.in_order = True

    def _record(
        self,
        own: _Open,
        state: TrialState,
        values: Sequence[float] | None,
        more: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return a trial's end as it is stored and journaled, its checksum included."""
        assert not own.attributes.keys() & more.keys(), "attributes are written once"
        stored = [
            (number, kind.name)
            for value in values or ()
            for number, kind in [models.TrialValueModel.value_to_stored_repr(value)]
        ]
        attributes = own.attributes | {key: json.dumps(value) for key, value in more.items()}
        checksum = trial_checksum(
            own.number, state.name, stored, own.params, own.intermediate, attributes
        )
        return {
            "study": self.name,
            "number": own.number,
            "state": state.name,
            "started": own.started.isoformat() if own.started else None,
            "completed": _utc_now().isoformat(),
            "values": stored,
            "params": own.params,
            "intermediate": {str(step): value for step, value in own.intermediate.items()},
            "attributes": attributes | {CHECKSUM: json.dumps(checksum)},
        }

    def _close(self, records: Mapping[int, Mapping[str, Any]]) -> None:
        """Write the ends of running trials, by id."""

        def write(session: Session, seal: Seal) -> None:
            running = sqlalchemy.select(_trials.c.trial_id).where(
                _trials.c.trial_id.in_(records), _trials.c.state == TrialState.RUNNING
            )
            alive = {trial_id: records[trial_id] for trial_id in session.scalars(running)}
            self._end(session, seal, alive)

        self._commit(write, flush=True)
        for trial_id in records:
            del self._open[trial_id]
        self.ended += len(records)

    def _end(self, session: Session, seal: Seal, records: Mapping[int, Mapping[str, Any]]) -> None:
        new = {
            trial_id: {
                key: text
                for key, text in record["attributes"].items()
                if key not in self._open[trial_id].attributes
            }
            for trial_id, record in records.items()
        }
        self._write_attributes(session, new)
        rows = [
            {"trial_id": trial_id, "objective": i, "value": value, "value_type": kind}
            for trial_id, record in records.items()
            for i, (value, kind) in enumerate(record["values"])
        ]
        if rows:
            session.execute(_values.insert(), rows)
        for trial_id, record in records.items():
            completed = datetime.fromisoformat(record["completed"])
            session.execute(
                sqlalchemy.update(_trials)
                .where(_trials.c.trial_id == trial_id)
                .values(state=TrialState[record["state"]], datetime_complete=completed)
            )
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
        fresh = self._fresh([trial.made for trial in trials])
        for own, trial in zip(fresh, trials, strict=True):
            _check_values(trial.state, trial.values)
            own.intermediate = {step: _stored_step(value) for step, value in trial.steps.items()}
        records = [
            self._record(own, trial.state, trial.values, {})
            for own, trial in zip(fresh, trials, strict=True)
        ]

        def write(session: Session, seal: Seal) -> int:
            study = models.StudyModel(study_name=self.name)
            session.add(study)
            session.flush()
            self._study_id = int(study.study_id)
            session.add_all(
                models.StudyDirectionModel(
                    study_id=self._study_id, objective=index, direction=direction
                )
                for index, direction in enumerate(directions)
            )
            for key, value in attributes.items():
                self._set(session, key, json.dumps(value))
                seal.take_attribute(key, json.dumps(value))
            ids = [self._insert(session, own) for own in fresh]
            self._open = dict(zip(ids, fresh, strict=True))
            steps = [
                _step(trial_id, step, *value)
                for trial_id, own in self._open.items()
                for step, value in own.intermediate.items()
            ]
            if steps:
                session.execute(_intermediate.insert(), steps)
            self._end(session, seal, dict(zip(ids, records, strict=True)))
            return self._study_id

        self._seal = Seal(self.name, [direction.name for direction in directions])
        study_id = None
        try:
            study_id = self._commit(write)
            self.next_number = len(trials)
        finally:
            self._study_id, self._open = study_id, {}

    def _write_attributes(
        self, session: Session, attributes: Mapping[int, Mapping[str, str]]
    ) -> None:
        rows = [
            {"trial_id": trial_id, "key": key, "value_json": text}
            for trial_id, own in attributes.items()
            for key, text in own.items()
        ]
        if rows:
            session.execute(_attributes.insert(), rows)

    def fail_running(self, reason: str) -> int:
        """Fail the trials that a dead owner left running; return how many."""
        left = self._running()
        self._adopt(left)
        attributes = {"failure_reason": reason, "failure_kind": "interrupted"}
        self.finish([(trial, TrialState.FAIL, None, attributes) for trial in left])
        return len(left)

    def _running(self) -> list[int]:
        found = sqlalchemy.select(_trials.c.trial_id).where(
            _trials.c.study_id == self.study_id, _trials.c.state == TrialState.RUNNING
        )
        with _refusals(), Session(self.storage.engine) as session:
            return list(session.scalars(found))

    def _adopt(self, trial_ids: Iterable[int]) -> None:
        """Take running trials of an earlier owner over, with all that is stored of them."""
        wanted = [trial_id for trial_id in trial_ids if trial_id not in self._open]
        with _refusals(), Session(self.storage.engine) as session:
            self._open.update(_load(session, _trials.c.trial_id.in_(wanted)))

    def restore(self, record: Mapping[str, Any]) -> Literal["known", "restored", "conflict"]:
        """Put a journaled trial back where the database lacks it.

        Numbers below it that the database lacks too are entered as lost: there are no gaps.
        """
        there = sqlalchemy.and_(
            _trials.c.study_id == self.study_id, _trials.c.number == record["number"]
        )
        with _refusals(), Session(self.storage.engine) as session:
            found = _load(session, there)
        checksum = record["attributes"][CHECKSUM]
        given = record["attributes"].items()
        if not found:
            self._enter_lost(record["number"])
            begun = _begun(record)
            (trial_id,) = self._commit(lambda session, _: [self._insert(session, begun)])
            self._open[trial_id] = begun
            self.next_number += 1
        else:
            ((trial_id, own),) = found.items()
            if own.attributes.get(CHECKSUM) == checksum:
                return "known"
            if own.state != TrialState.RUNNING.name or not own.attributes.items() <= given:
                return "conflict"
            self._open[trial_id] = own
        known = self._open[trial_id].intermediate
        self._steps += [
            _step(trial_id, int(step), *value)
            for step, value in record["intermediate"].items()
            if int(step) not in known
        ]
        self._close({trial_id: record})
        return "restored"

    def _enter_lost(self, number: int) -> None:
        missing = range(self.next_number, number)
        attributes = {"candidate": None}  # of a search: it belongs to none
        lost = self.start([NewTrial({}, {}, attributes) for _ in missing])
        why = {"failure_reason": "lost with the database", "failure_kind": "infrastructure"}
        self.finish([(trial, TrialState.FAIL, None, why) for trial in lost])

    def _commit(self, write: Callable[[Session, Seal], Done], *, flush: bool = False) -> Done:
        """Run one transaction; again while another process holds the database, for a while.

        Args:
            write: writes, and changes the seal with it.
            flush: whether to write the intermediate values that are noted, too.

        Raises:
            StorageFailed: it was not written, none of it.
        """
        with shielded():
            return _patiently(lambda: self._try(write, flush=flush))

    def _try(self, write: Callable[[Session, Seal], Done], *, flush: bool) -> Done:
        fault = self.identity.fault() if self.identity else None
        if fault:
            raise StorageFailed(f"{fault}; its results are kept in the journal")
        assert self._seal is not None
        seal = self._seal.copy()
        with _refusals(), Session(self.storage.engine) as session, session.begin():
            if flush and self._steps:
                session.execute(_intermediate.insert(), self._steps)
            done = write(session, seal)
            text = seal.text()
            if text != self._sealed:
                self._set(session, SEAL, text)
        self._seal, self._sealed = seal, text
        if flush:
            self._steps, self._written = [], time.monotonic()
        return done

    def _set(self, session: Session, key: str, text: str) -> None:
        """Write an attribute of the study."""
        own = {"study_id": self.study_id, "key": key}
        there = sqlalchemy.update(_study_attributes).where(
            _study_attributes.c.study_id == self.study_id, _study_attributes.c.key == key
        )
        if session.execute(there.values(value_json=text)).rowcount == 0:  # type: ignore[attr-defined] # of every update
            session.execute(_study_attributes.insert().values(**own, value_json=text))


def _load(session: Session, which: sqlalchemy.ColumnElement[bool]) -> dict[int, _Open]:
    """Read trials as they are stored, by id."""
    heads = sqlalchemy.select(
        _trials.c.trial_id,
        _trials.c.number,
        _trials.c.datetime_start,
        _trials.c.datetime_complete,
        _trials.c.state,
    ).where(which)
    found = {
        trial_id: _Open(number, started, {}, {}, state=state.name, completed=completed)
        for trial_id, number, started, completed, state in session.execute(heads)
    }

    def rows(table: sqlalchemy.Table, *columns: str) -> Iterator[Any]:
        chosen = sqlalchemy.select(table.c.trial_id, *(table.c[name] for name in columns))
        of_these = _trials.c.trial_id == table.c.trial_id
        yield from session.execute(chosen.join(_trials, of_these).where(which))

    for trial_id, name, value, text in rows(
        _params, "param_name", "param_value", "distribution_json"
    ):
        found[trial_id].params[name] = value, text
    for trial_id, key, text in rows(_attributes, "key", "value_json"):
        found[trial_id].attributes[key] = text
    for trial_id, step, value, kind in rows(
        _intermediate, "step", "intermediate_value", "intermediate_value_type"
    ):
        found[trial_id].intermediate[step] = value, kind.name
    for trial_id, objective, value, kind in rows(_values, "objective", "value", "value_type"):
        found[trial_id].values[objective] = value, kind.name
    return found


def _begun(record: Mapping[str, Any]) -> _Open:
    """Return a journaled trial as one that runs."""
    started = record["started"]
    return _Open(
        record["number"],
        datetime.fromisoformat(started) if started else None,
        {name: (value, text) for name, (value, text) in record["params"].items()},
        {key: text for key, text in record["attributes"].items() if key != CHECKSUM},
    )


def _step(trial_id: int, step: int, value: float | None, kind: str) -> dict[str, Any]:
    return {
        "trial_id": trial_id,
        "step": step,
        "intermediate_value": value,
        "intermediate_value_type": kind,
    }


def _stored_step(value: float) -> StoredNumber:
    number, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return number, kind.name


def _check_values(state: TrialState, values: Sequence[float] | None) -> None:
    fine = values is not None and all(map(math.isfinite, values))
    if state == TrialState.COMPLETE and not fine:
        raise ValueError(f"a completed trial needs finite values, not {values}")


def _utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)  # the schema keeps naive UTC


def categorical(levels: Sequence[Any]) -> BaseDistribution:
    """Return the distribution of a factor with these levels."""
    return optuna.distributions.CategoricalDistribution(tuple(levels))
