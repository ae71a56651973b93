"""SIGINT and SIGTERM, in whatever state: an end that waits for nothing, and nothing is left."""

import signal
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState

from study.run.opening import open_study
from study.store import location, ownership, sealed_study, stored_trial
from study.store.stored_trial import NewTrial
from study.store.writer import StudyWriter
from tests.faults.machine import (
    RUN,
    SIMULATED,
    Running,
    acknowledgements,
    assert_sound,
    hold,
    let_go,
    results,
    running,
    simulated,
    states,
    until,
    wait_for_the_end,
    write_plan,
)
from tests.support.plans import run, tiny

TRAIN = [*RUN, "--workers", "2"]
ENDLESS = 100_000  # epochs: no end comes of itself while anybody waits for one
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
BOTH = pytest.mark.parametrize(("number", "code"), SIGNALS, ids=["SIGINT", "SIGTERM"])


def end(own: Running, number: int, code: int, file: Path) -> None:
    """Send a signal and see that all is over, whatever was at work, and well."""
    family = psutil.Process(own.process.pid).children(recursive=True)
    own.process.send_signal(number)
    assert own.ends() == code, own.err
    wait_for_the_end(family)
    assert "Traceback" not in "".join(own.err)
    if file.exists() and file.stat().st_size:
        assert_sound(file)
    assert not file.with_name(file.name + ".journal").exists()


@BOTH
@pytest.mark.parametrize("wait", [0.15, 0.4, 0.8, 1.6])
@pytest.mark.slow
def test_while_the_workers_start_and_measure(
    tmp_path: Path, number: int, code: int, wait: float
) -> None:
    write_plan(tmp_path, seeds=100, epochs=ENDLESS)
    with running("study.cli", TRAIN, tmp_path) as own:
        until((tmp_path / "studies.db.owner.json").exists, "the lock")
        time.sleep(wait)
        end(own, number, code, tmp_path / "studies.db")


@BOTH
@pytest.mark.slow
def test_while_they_train(tmp_path: Path, number: int, code: int) -> None:
    write_plan(tmp_path, seeds=10, epochs=ENDLESS)
    file = tmp_path / "studies.db"
    with running("study.cli", TRAIN, tmp_path) as own:
        until(lambda: states(file)["RUNNING"] == 2, "trials that run")
        end(own, number, code, file)
    assert states(file) == {"FAIL": 2}


@BOTH
@pytest.mark.slow
def test_while_a_worker_hangs(tmp_path: Path, number: int, code: int) -> None:
    write_plan(tmp_path, seeds=10, epochs=ENDLESS)
    file = tmp_path / "studies.db"
    with running("study.cli", TRAIN, tmp_path) as own:
        until(lambda: states(file)["RUNNING"] == 2, "trials that run")
        for worker in own.workers:
            worker.suspend()
        end(own, number, code, file)


@BOTH
@pytest.mark.parametrize(
    "repeat", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 5))]
)
def test_while_results_are_committed_one_after_the_other(
    tmp_path: Path, number: int, code: int, repeat: int
) -> None:
    write_plan(tmp_path, seeds=1000, epochs=1)
    file = tmp_path / "studies.db"
    acks = tmp_path / "acknowledged"
    hold(tmp_path, 1900)
    with running(SIMULATED, TRAIN, tmp_path, **simulated(tmp_path)) as own:
        until(lambda: states(file)["COMPLETE"] > 10 * (1 + repeat), "results")
        end(own, number, code, file)
    assert len(acknowledgements(acks)) <= len(results(file))


@BOTH
@pytest.mark.slow
def test_while_another_process_holds_the_database(tmp_path: Path, number: int, code: int) -> None:
    write_plan(tmp_path, seeds=1000, epochs=1)
    file = tmp_path / "studies.db"
    hold(tmp_path, 12)
    with running(SIMULATED, TRAIN, tmp_path, **simulated(tmp_path, 0.01)) as own:
        until(lambda: states(file)["COMPLETE"] == 12, "results")
        with closing(sqlite3.connect(file, timeout=30)) as other:
            other.execute("BEGIN IMMEDIATE")
            let_go(tmp_path)  # the next result waits for the database
            own.process.send_signal(number)
            assert own.ends() == code, own.err  # else it would give up, with another code
            other.rollback()
    # It could not be written that they do not run any more: the next start does it.
    with running(SIMULATED, [*TRAIN, "--timeout", "1s"], tmp_path) as own:
        own.ends()
    assert_sound(file)


def test_a_second_signal_ends_at_once_and_the_next_start_reconciles(tmp_path: Path) -> None:
    write_plan(tmp_path, seeds=20, epochs=1)
    file = tmp_path / "studies.db"
    hold(tmp_path, 5)
    with running(SIMULATED, TRAIN, tmp_path, **simulated(tmp_path)) as own:
        until(lambda: states(file)["COMPLETE"] == 5, "results")
        for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
            own.process.send_signal(number)  # it finds two when it goes on
        assert own.ends() == 143
    assert states(file)["RUNNING"] > 0  # it was not asked whether that is in order
    let_go(tmp_path)
    with running(SIMULATED, TRAIN, tmp_path, **simulated(tmp_path)) as own:
        assert own.ends() == 0, own.err
    assert len(results(file)) == 40
    assert_sound(file)


@pytest.mark.slow
def test_the_whole_terminal_is_interrupted_and_no_worker_says_a_word(tmp_path: Path) -> None:
    write_plan(tmp_path, seeds=10, epochs=ENDLESS)
    file = tmp_path / "studies.db"
    with running("study.cli", TRAIN, tmp_path) as own:
        until(lambda: states(file)["RUNNING"] == 2, "trials that run")
        for child in psutil.Process(own.process.pid).children(recursive=True):
            child.send_signal(signal.SIGINT)
        end(own, signal.SIGINT, 130, file)
    assert "Traceback" not in "".join(own.err)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_set_by_an_hour_changes_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    file = tmp_path / "studies.db"
    run(tiny(seeds=1), file)

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Shifted":
            assert tz is UTC
            real = datetime.now(UTC) + timedelta(hours=hours)
            return cls.fromtimestamp(real.timestamp(), UTC)

    for module in (sealed_study, stored_trial):
        monkeypatch.setattr(module, "datetime", Shifted)
    state = run(tiny(seeds=2), file)
    assert (state.done, state.failed) == (4, 0)
    assert len(results(file)) == 4
    from analysis.trials import connect, studies, trials

    engine = connect(f"sqlite:///{file}")
    (study,) = studies(engine)
    assert {trial.state for trial in trials(engine, study.id)} == {"COMPLETE"}
    assert (study.damage, study.missing) == (None, None)


def test_a_late_result_of_an_earlier_attempt_is_discarded(tmp_path: Path) -> None:
    with ownership.take(location.locate(str(tmp_path / "x.db")), "test") as database:
        writer = StudyWriter(database, "x")
        open_study(writer, tiny(), {"sha256": ""})
        (first,) = writer.start([NewTrial({}, {}, {"attempt": 1})])
        writer.fail_running("its worker was paused")
        (second,) = writer.start([NewTrial({}, {}, {"attempt": 2})])
        writer.finish([(first, TrialState.COMPLETE, [0.9], {})])  # it goes on after all
        writer.finish([(second, TrialState.COMPLETE, [0.5], {})])
        found = [(own.user_attrs["attempt"], own.state, own.value) for own in writer.trials()]
    assert found == [(1, TrialState.FAIL, None), (2, TrialState.COMPLETE, 0.5)]
