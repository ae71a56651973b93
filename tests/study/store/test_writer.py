"""What the writer of a study writes is what Optuna reads: same rows, fewer transactions."""

import math
import os
import re
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.orm import Session

from fmnist_common.checksums import CHECKSUM, SEAL
from study.store import location, ownership, trial_rows
from study.store import writer as module
from study.store.failures import StorageFailed
from study.store.signals import handled
from study.store.stored_trial import NewTrial, StoredTrial
from study.store.writer import StudyWriter, categorical
from trainer.errors import UserError

DISTRIBUTIONS = {"pooling": categorical(["max", "avg"]), "batchnorm": categorical([True, False])}
PARAMS: dict[str, Any] = {"pooling": "avg", "batchnorm": False}


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[StudyWriter]:
    with ownership.take(location.locate(str(tmp_path / "studies.db")), "test") as opened:
        made = StudyWriter(opened, "own")
        assert not made.exists
        assert made.plan() is None
        made.create([StudyDirection.MAXIMIZE])
        yield made


def start(writer: StudyWriter, attributes: dict[str, Any] | None = None) -> int:
    (trial,) = writer.start([NewTrial(PARAMS, DISTRIBUTIONS, attributes or {})])
    return trial


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "studies.db"


def theirs(file: Path) -> optuna.Study:
    """The study as Optuna's own public API reads it from the file."""
    return optuna.load_study(study_name="own", storage=f"sqlite:///{file}")


def unsigned(trial: FrozenTrial) -> dict[str, Any]:
    """A trial's attributes without its checksum."""
    assert re.fullmatch("[0-9a-f]{64}", trial.user_attrs[CHECKSUM])
    return {key: value for key, value in trial.user_attrs.items() if key != CHECKSUM}


def steps(file: Path) -> int:
    """Number of intermediate values in the file."""
    connection = sqlite3.connect(file)
    try:
        (count,) = connection.execute("SELECT COUNT(*) FROM trial_intermediate_values").fetchone()
        return int(count)
    finally:
        connection.close()


def test_optuna_reads_what_was_written(writer: StudyWriter, file: Path) -> None:
    writer.describe({"plan": {"name": "own"}, "hosts": ["ä"]})
    trial = start(writer, {"variant": "pooling=avg", "seed": 3})
    for epoch, value in enumerate((0.5, 0.75, 0.7), start=1):
        writer.report(trial, epoch, value)
    attributes = {"history": [{"epoch": 1, "loss": 1e-300}], "nothing": None, "words": 'ü"\n'}
    writer.finish([(trial, TrialState.COMPLETE, [0.75], attributes)])

    study = theirs(file)
    (stored,) = study.trials

    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert {key: value for key, value in study.user_attrs.items() if key != SEAL} == {
        "plan": {"name": "own"},
        "hosts": ["ä"],
    }
    assert stored.state == TrialState.COMPLETE
    assert stored.value == 0.75
    assert stored.params == PARAMS
    assert stored.distributions == DISTRIBUTIONS
    assert stored.intermediate_values == {1: 0.5, 2: 0.75, 3: 0.7}
    assert unsigned(stored) == {"variant": "pooling=avg", "seed": 3} | attributes
    assert study.best_trial.number == stored.number == 0
    assert stored.datetime_start is not None
    assert stored.datetime_complete is not None
    now = datetime.now(stored.datetime_complete.tzinfo)
    assert timedelta() <= stored.datetime_complete - stored.datetime_start < timedelta(seconds=20)
    assert abs(now - stored.datetime_complete) < timedelta(seconds=20)


def test_rows_are_those_that_optuna_writes(writer: StudyWriter, file: Path) -> None:
    study = theirs(file)
    trial = study.ask(DISTRIBUTIONS)
    trial.suggest_categorical("pooling", ["max", "avg"])
    trial.set_user_attr("seed", 3)
    trial.report(0.5, 1)
    study.tell(trial, 0.75)
    writer = StudyWriter(writer.storage, "own")  # one that knows of the other trial
    (trial_id,) = writer.start([NewTrial(trial.params, DISTRIBUTIONS, {"seed": 3})])
    writer.report(trial_id, 1, 0.5)
    writer.finish([(trial_id, TrialState.COMPLETE, [0.75], {})])

    connection = sqlite3.connect(file)
    try:
        for table in (
            "trial_params",
            "trial_values",
            "trial_user_attributes",
            "trial_intermediate_values",
        ):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            told = [name for name in columns if name not in ("trial_id", f"{table[:-1]}_id")]
            key = columns[0]
            rows = [
                connection.execute(
                    f"SELECT {', '.join(n for n in told if n != key)} FROM {table} "
                    f"WHERE trial_id = ? ORDER BY {key}",
                    (number,),
                ).fetchall()
                for number in (trial._trial_id, trial_id)
            ]
            ours = [row for row in rows[1] if row[0] != CHECKSUM]  # which Optuna does not know
            assert sorted(rows[0]) == sorted(ours) != [], table
    finally:
        connection.close()


def test_a_number_that_another_program_takes_meanwhile_is_taken_once(
    writer: StudyWriter, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = StudyWriter._fresh

    def late(self: StudyWriter, trials: Sequence[NewTrial], first: int) -> list[StoredTrial]:
        theirs(file).ask()  # between the look at the numbers and the trial that gets the next
        return fresh(self, trials, first)

    monkeypatch.setattr(StudyWriter, "_fresh", late)
    with pytest.raises(StorageFailed, match="another program added trials to the study"):
        writer.start([NewTrial({}, {}, {})])
    assert [trial.number for trial in writer.trials()] == [0]


def test_epochs_are_written_in_batches(
    writer: StudyWriter, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = start(writer)
    writer.report(trial, 1, 0.5)
    writer.flush_if_due()
    assert steps(file) == 0  # not due yet

    later = time.monotonic() + module.FLUSH_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    writer.report(trial, 2, 0.6)
    assert steps(file) == 0
    writer.flush_if_due()
    assert steps(file) == 2
    writer.flush_if_due()
    assert steps(file) == 2  # each once

    writer.report(trial, 3, 0.7)
    writer.finish([(trial, TrialState.COMPLETE, [0.7], {})])
    assert steps(file) == 3


@pytest.mark.parametrize("values", [[math.nan], [math.inf], [0.5, -math.inf], None])
def test_a_trial_without_finite_values_is_not_complete(
    writer: StudyWriter, values: list[float] | None
) -> None:
    good, bad = (start(writer) for _ in range(2))
    with pytest.raises(ValueError, match="finite"):
        writer.finish(
            [(good, TrialState.COMPLETE, [0.5], {}), (bad, TrialState.COMPLETE, values, {})]
        )
    assert [trial.state for trial in writer.trials()] == [TrialState.RUNNING] * 2


def test_an_ended_trial_stays_as_it_is(writer: StudyWriter, file: Path) -> None:
    trial = start(writer)
    writer.finish([(trial, TrialState.COMPLETE, [0.5], {"seconds": 1.0})])
    before = theirs(file).trials

    writer.finish([(trial, TrialState.COMPLETE, [0.9], {"seconds": 2.0, "late": True})])
    writer.finish([(trial, TrialState.FAIL, None, {"failure_reason": "late"})])

    assert theirs(file).trials == before


def test_what_a_dead_owner_left_running_fails(writer: StudyWriter, file: Path) -> None:
    done, left = (start(writer) for _ in range(2))
    writer.finish([(done, TrialState.COMPLETE, [0.5], {})])

    assert writer.fail_running("the owner died") == 1
    assert writer.fail_running("again") == 0

    first, second = theirs(file).trials
    assert (first.state, second.state) == (TrialState.COMPLETE, TrialState.FAIL)
    assert unsigned(second) == {"failure_reason": "the owner died", "failure_kind": "interrupted"}
    assert second.datetime_complete is not None
    assert left == second._trial_id


def test_all_ends_of_one_call_are_one_transaction(writer: StudyWriter) -> None:
    first, second = (start(writer) for _ in range(2))
    with pytest.raises(TypeError):
        writer.finish(
            [
                (first, TrialState.COMPLETE, [0.5], {"seconds": 1.0}),
                (second, TrialState.COMPLETE, [0.5], {"seconds": object()}),
            ]
        )
    assert [trial.state for trial in writer.trials()] == [TrialState.RUNNING] * 2


def test_a_database_that_refuses_says_so(writer: StudyWriter) -> None:
    trial = start(writer)
    sqlalchemy.event.listen(
        writer.storage.engine,
        "checkout",
        lambda connection, *_: connection.execute("PRAGMA query_only = 1"),
    )
    for write in (
        lambda: writer.finish([(trial, TrialState.COMPLETE, [0.5], {})]),
        lambda: start(writer),
        lambda: writer.describe({"a": 1}),
    ):
        with pytest.raises(StorageFailed, match=r"^attempt to write a readonly database$"):
            write()


def test_a_trial_that_another_program_has_ended_is_not_counted_as_written(
    writer: StudyWriter, file: Path
) -> None:
    trial = start(writer)
    theirs(file).tell(0, state=TrialState.FAIL)
    with pytest.raises(StorageFailed, match="another program ended a trial of the study"):
        writer.finish([(trial, TrialState.COMPLETE, [0.5], {})])
    assert not writer.in_order  # so the journal stays


@pytest.mark.parametrize(
    "text", ["[", "{}", '{"name": 1}', "[" * 100_000, '{"total": 3, "attributes": []}']
)
def test_a_damaged_seal_is_said_in_one_line(writer: StudyWriter, file: Path, text: str) -> None:
    writer.describe({"plan": {}})
    connection = sqlite3.connect(file)
    connection.execute(
        "UPDATE study_user_attributes SET value_json = ? WHERE key = ?", (text, SEAL)
    )
    connection.commit()
    connection.close()
    with pytest.raises(
        UserError, match=r"^study 'own': its attributes in the database are damaged"
    ):
        StudyWriter(writer.storage, "own")


def test_epochs_that_a_signal_finds_just_written_are_not_written_once_more(
    writer: StudyWriter, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = start(writer)
    writer.report(trial, 1, 0.5)
    monkeypatch.setattr(module, "FLUSH_SECONDS", -1.0)
    insert = trial_rows.insert_steps

    def interrupted(session: Session, rows: list[dict[str, Any]]) -> None:
        insert(session, rows)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(trial_rows, "insert_steps", interrupted)
    with handled(), pytest.raises(KeyboardInterrupt):
        writer.flush_if_due()
    monkeypatch.setattr(trial_rows, "insert_steps", insert)
    writer.finish([(trial, TrialState.FAIL, None, {})])
    (ended,) = theirs(file).trials
    assert ended.state == TrialState.FAIL
    assert ended.intermediate_values == {1: 0.5}
