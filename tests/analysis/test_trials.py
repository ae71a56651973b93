"""Reading the database: complete, exact, and without leaving a trace."""

import math
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.trials import connect, finished, studies, trials
from tests.support.studies import (
    PARETO,
    POOLING,
    SEARCH,
    ablation_trials,
    database,
    running,
    small_pareto,
    small_search,
    trial,
)


def read(url: sa.URL) -> list[FrozenTrial]:
    """What Optuna itself reads."""
    storage = optuna.storages.RDBStorage(url.render_as_string())
    found = storage.get_all_trials(storage.get_study_id_from_name("test"))
    storage.engine.dispose()
    return found


def by_optuna(
    folder: Path, rows: Iterable[FrozenTrial], of: dict[str, Any] | None, **more: Any
) -> sa.URL:
    """Do what `database` does by Optuna's public API alone."""
    url = sa.URL.create("sqlite", database=str(folder / "optuna.db"))
    storage = optuna.storages.RDBStorage(
        url.render_as_string(), engine_kwargs={"poolclass": sa.NullPool}
    )
    known = database(folder, [], of=of, file="attributes.db", **more)
    (theirs,) = optuna.get_all_study_summaries(known.render_as_string())
    study = optuna.create_study(
        storage=storage, study_name=theirs.study_name, directions=theirs.directions
    )
    for key, value in theirs.user_attrs.items():
        study.set_user_attr(key, value)
    study.add_trials(rows)
    storage.engine.dispose()
    return url


@contextmanager
def far_from_utc() -> Iterator[None]:
    """Be where local time is not UTC, as it is on most servers."""
    try:
        with pytest.MonkeyPatch.context() as context:
            context.setenv("TZ", "Pacific/Auckland")
            time.tzset()
            yield
    finally:
        time.tzset()


def everything(url: sa.URL) -> dict[str, list[Any]]:
    """Return what all tables hold."""
    assert url.database is not None
    with closing(sqlite3.connect(url.database)) as opened:
        tables = opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {name: opened.execute(f"SELECT * FROM {name}").fetchall() for (name,) in tables}


OTHER = create_trial(
    value=math.inf,
    params={"x": 0.25, "n": 8},
    distributions={"x": FloatDistribution(0.1, 1, log=True), "n": IntDistribution(1, 16)},
    intermediate_values={1: math.nan, 2: -math.inf, 3: 0.5},
)


@pytest.mark.parametrize(
    ("rows", "of", "more"),
    [
        (small_search(), SEARCH, {}),
        (small_pareto(), PARETO, {"directions": ["maximize", "minimize"]}),
        ([OTHER, create_trial(state=TrialState.WAITING)], None, {"direction": "minimize"}),
        ([*ablation_trials(POOLING, {"baseline": [0.9]}), running(POOLING, {}, 1, epoch=1)],
         POOLING, {"name": "</b>ünï"}),
    ],
)  # fmt: skip
def test_the_tests_write_what_optuna_writes(
    tmp_path: Path, rows: list[FrozenTrial], of: dict[str, Any] | None, more: dict[str, Any]
) -> None:
    with far_from_utc():
        ours = everything(database(tmp_path, rows, of=of, **more))
        assert ours == everything(by_optuna(tmp_path, rows, of, **more))
    assert len(ours["trials"]) == len(rows)


def test_a_trial_is_read_as_optuna_reads_it(tmp_path: Path) -> None:
    url = by_optuna(tmp_path, [trial(POOLING, {"pooling": "avg"}, 1, 0.9)], POOLING)

    (ours,), (theirs,) = trials(connect(url), 1), read(url)

    assert (ours.number, ours.state, ours.value) == (0, "COMPLETE", 0.9)
    assert ours.params == theirs.params == {"pooling": "avg", "batchnorm": True}
    assert ours.intermediate == theirs.intermediate_values == {1: 0.8, 2: 0.9}
    assert ours.epochs == 2
    assert (ours.variant, ours.changes, ours.seed) == ("pooling=avg", {"pooling": "avg"}, 1)
    for name in ("test_accuracy", "parameters", "seconds", "device", "bank", "outcome"):
        assert getattr(ours, name) == theirs.user_attrs[name]
    assert ours.started is not None
    assert ours.completed is not None
    assert theirs.datetime_start is not None
    assert ours.started == theirs.datetime_start.astimezone(UTC)  # Optuna's is naive local time
    assert ours.started <= ours.completed <= datetime.now(UTC)


def test_costs_of_inference_and_kinds_of_failure_are_read(tmp_path: Path) -> None:
    inference = {"cpu": {"1": {"p50_ms": 0.8, "p95_ms": 1.1, "images_per_second": 1200.0}}}
    costs: dict[str, Any] = {
        "latency_ms": 0.8,
        "inference": inference,
        "model_bytes": 203_000,
        "multiply_adds": 9,
    }
    rows = [
        trial(POOLING, {}, 0, 0.9, **costs),
        trial(POOLING, {}, 1, None, state=TrialState.FAIL, failure_kind="crash"),
        trial(POOLING, {}, 2, 0.5, state=TrialState.PRUNED, best_value=0.6),
    ]

    ended, failed, pruned = trials(connect(database(tmp_path, rows, of=POOLING)), 1)

    assert {name: getattr(ended, name) for name in costs} == costs
    assert (failed.failure_kind, failed.inference, failed.model_bytes) == ("crash", {}, None)
    assert (pruned.best_value, ended.best_value) == (0.6, None)


def test_times_are_utc_wherever_they_were_written(tmp_path: Path) -> None:
    # Optuna shows local time and stores UTC.
    with far_from_utc():
        url = by_optuna(tmp_path, [trial(POOLING, {}, 0, 0.9)], POOLING)
        (theirs,) = read(url)
    (ours,) = trials(connect(url), 1)

    assert theirs.datetime_complete is not None
    assert ours.completed is not None
    assert abs(datetime.now(UTC) - ours.completed) < timedelta(minutes=5)
    shown = theirs.datetime_complete.replace(tzinfo=ZoneInfo("Pacific/Auckland"))
    assert shown == ours.completed


def test_a_search_is_read_with_candidates_distributions_and_all_objectives(tmp_path: Path) -> None:
    found = trials(connect(database(tmp_path, small_search(), of=SEARCH)), 1)

    assert [trial.candidate for trial in found] == [*range(8), 0, 1, 0, 1]
    assert found[1].distributions.keys() == found[1].params.keys() == {*SEARCH["search"]["space"]}
    assert '"log": true' in found[1].distributions["learning_rate"]
    assert (found[1].value, found[1].values) == (0.93, (0.93,))
    assert (found[2].state, found[2].value, found[2].epochs) == ("PRUNED", 0.7, 1)
    assert (found[4].value, found[4].values) == (None, ())

    more: Any = {"directions": ["maximize", "minimize"], "name": "pareto"}
    url = database(tmp_path, small_pareto(), of=PARETO, **more)
    several = trials(connect(url), 2)
    assert (several[1].value, several[1].values) == (0.93, (0.93, 4000.0))
    assert several[1].epochs == 9  # from the history: Optuna has no intermediate values there


def test_numbers_of_other_tools_are_decoded(tmp_path: Path) -> None:
    (found,) = trials(connect(database(tmp_path, [OTHER])), 1)

    assert found.params == {"x": 0.25, "n": 8}
    assert isinstance(found.params["n"], int)
    assert found.value == math.inf
    assert math.isnan(found.intermediate[1])
    assert found.intermediate[2] == -math.inf
    assert (found.variant, found.label, found.seed, found.history) == (None, "trial 0", None, [])


def test_studies_come_with_the_newest_run_last(tmp_path: Path) -> None:
    database(tmp_path, [], of=POOLING, name="new", last_run="2026-02-01T00:00:00+00:00")
    database(tmp_path, [], name="foreign", direction="minimize")
    url = database(
        tmp_path,
        [trial(POOLING, {}, 0, 0.9)],
        of=POOLING,
        name="old",
        last_run="2026-01-01T00:00:00+00:00",
    )

    found = studies(connect(url))

    assert [study.name for study in found] == ["foreign", "old", "new"]
    assert [study.trial_count for study in found] == [0, 1, 0]
    assert found[0].plan == found[0].dataset == found[0].attributes == {}
    assert found[0].directions == ("MINIMIZE",)
    assert found[1].plan["factors"] == POOLING["factors"]
    assert found[1].dataset["test_images"] == 360


def test_a_study_reads_only_its_own_trials(tmp_path: Path) -> None:
    database(tmp_path, [trial(POOLING, {}, 0, 0.1)], of=POOLING, name="other")
    url = database(tmp_path, [trial(POOLING, {}, 0, 0.9)], of=POOLING)

    engine = connect(url)

    for study, value in zip(studies(engine), (0.1, 0.9), strict=True):
        assert [found.value for found in trials(engine, study.id)] == [value]


@pytest.mark.parametrize("wal", [True, False])
def test_reading_changes_nothing_on_disk(tmp_path: Path, wal: bool) -> None:
    url = database(tmp_path, [trial(POOLING, {}, 0, 0.9)], of=POOLING, wal=wal)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    assert len(trials(connect(url), 1)) == 1

    assert (
        {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        == before
        == {"studies.db": before["studies.db"]}
    )


def test_writing_is_refused(tmp_path: Path) -> None:
    engine = connect(database(tmp_path, [], of=POOLING))

    with engine.connect() as connection, pytest.raises(sa.exc.OperationalError, match="readonly"):
        connection.execute(sa.text("DELETE FROM studies"))


def test_a_missing_file_is_not_created(tmp_path: Path) -> None:
    url = sa.URL.create("sqlite", database=str(tmp_path / "missing.db"))

    with pytest.raises(sa.exc.OperationalError):
        studies(connect(url))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["a?b.db", "50%41.db", "a#b.db", "{a} b.db", "a&mode=rwc.db", "ü.db"]
)
def test_any_file_name_works(tmp_path: Path, name: str) -> None:
    url = database(tmp_path, [trial(POOLING, {}, 0, 0.9)], of=POOLING)
    (tmp_path / "studies.db").rename(tmp_path / name)

    found = trials(connect(url.set(database=str(tmp_path / name))), 1)

    assert [trial.value for trial in found] == [0.9]
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_commits_of_a_running_writer_are_seen(tmp_path: Path) -> None:
    url = database(tmp_path, [trial(POOLING, {}, 0, 0.9)], of=POOLING)
    engine = connect(url)
    writer = sqlite3.connect(tmp_path / "studies.db")
    try:
        writer.execute("UPDATE studies SET study_name = 'renamed'")
        assert [study.name for study in studies(engine)] == ["test"]
        writer.commit()
        assert [study.name for study in studies(engine)] == ["renamed"]
    finally:
        writer.close()


def test_the_first_complete_trial_of_a_cell_counts(tmp_path: Path) -> None:
    failed = trial(POOLING, {}, 0, None, state=TrialState.FAIL, failure_reason="diverged")
    rows = [
        failed,
        trial(POOLING, {}, 0, 0.8),
        trial(POOLING, {}, 0, 0.9),
        trial(POOLING, {}, 1, 0.7),
        trial(POOLING, {}, 2, 0.95, state=TrialState.PRUNED),
        running(POOLING, {"pooling": "avg"}, 0, epoch=1),
    ]
    found = trials(connect(database(tmp_path, rows, of=POOLING)), 1)

    assert [trial.value for trial in finished(found)] == [0.8, 0.7]
    assert found[0].failure_reason == "diverged"
    assert [trial.state for trial in found[-2:]] == ["PRUNED", "RUNNING"]
    assert found[-1].epochs == 1


def test_an_infinite_objective_does_not_count(tmp_path: Path) -> None:
    url = database(tmp_path, [create_trial(value=math.inf), create_trial(value=0.5)])

    assert [trial.number for trial in finished(trials(connect(url), 1))] == [1]


def test_queries_do_not_grow_with_the_trials(tmp_path: Path) -> None:
    url = database(
        tmp_path,
        ablation_trials(POOLING, {"baseline": [0.9] * 8, "pooling=avg": [0.8] * 8}),
        of=POOLING,
    )
    engine = connect(url)
    statements: list[str] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    assert len(trials(engine, 1)) == 16
    assert len(statements) == 6


def test_reading_loads_neither_torch_nor_optuna_nor_scipy_stats() -> None:
    code = "import analysis.tables, analysis.progress, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert "analysis.tables" in loaded
    assert not {"torch", "optuna", "scipy.stats", "pandas", "trainer", "study"} & set(loaded)
