"""One database under several names, with several owners, or with trials of another program.

Stands for: identity. A database is one file, wherever a path leads; it has one owner, and an owner
that is not the only one any more stops before its next commit.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from tests.faults.machine import (
    RUN,
    SIMULATED,
    acknowledged,
    assert_sound,
    hold,
    let_go,
    results,
    rows,
    running,
    simulated,
    states,
    stored,
    until,
    write_plan,
)

SOME = 8


def some_results(file: Path) -> None:
    """Wait for a run to have given as many results as it may, before it is let go."""
    until(
        lambda: sum(states(file)[state] for state in ("COMPLETE", "PRUNED")) == SOME,
        "some results",
    )


@pytest.fixture(autouse=True)
def held(tmp_path: Path) -> None:
    hold(tmp_path, SOME)


def numbers_are_unique(file: Path) -> bool:
    query = "SELECT COUNT(*) - COUNT(DISTINCT number) FROM trials"
    return rows(file, query) == [(0,)]


def into(folder: Path) -> list[str]:
    return [*RUN, "--storage", str(folder / "studies.db")]


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """A folder whose database is a symbolic link to that of `real/`, which is not made yet."""
    for name in ("real", "link"):
        (tmp_path / name).mkdir()
    (tmp_path / "link" / "studies.db").symlink_to("../real/studies.db")
    return tmp_path / "link"


# Symbolic links.


def test_a_link_is_no_second_database_to_own(tmp_path: Path, link: Path) -> None:
    write_plan(tmp_path, seeds=1000)
    real = tmp_path / "real"
    with running(SIMULATED, into(link), tmp_path, **simulated(tmp_path, 0.05)) as first:
        some_results(real / "studies.db")
        for folder in (real, link):
            with running(SIMULATED, into(folder), tmp_path, **simulated(tmp_path)) as second:
                assert second.ends() == 2
                assert f"is in use by process {first.process.pid}" in "".join(second.err)
        assert first.process.poll() is None
    assert numbers_are_unique(real / "studies.db")


@pytest.mark.slow
def test_a_killed_run_through_a_link_comes_back_through_either_name(
    tmp_path: Path, link: Path
) -> None:
    write_plan(tmp_path, seeds=10, epochs=2)
    real = tmp_path / "real"
    with running(SIMULATED, into(link), tmp_path, **simulated(tmp_path, 0.05)) as first:
        some_results(real / "studies.db")
        with running("study.cli", ["status", *into(link)[2:]], tmp_path) as reader:
            assert reader.ends() == 0, reader.err  # while it runs: the log is beside the real file
        first.process.kill()
        first.ends()
    kept = acknowledged(tmp_path / "acknowledged")
    let_go(tmp_path)
    for folder in (real, link):
        with running(SIMULATED, into(folder), tmp_path, **simulated(tmp_path)) as again:
            assert again.ends() == 0, again.err
            assert not [line for line in again.err if "damaged" in line or "is gone" in line]
    assert kept.items() <= stored(real / "studies.db").items()
    assert len(results(real / "studies.db")) == 20
    assert (link / "studies.db").is_symlink()
    assert [path.name for path in link.iterdir()] == ["studies.db"]
    assert states(real / "studies.db.backup")["COMPLETE"] == 20
    assert not (real / "studies.db.journal").exists()


@pytest.mark.slow
def test_a_damaged_database_behind_a_link_is_replaced_where_it_is(
    tmp_path: Path, link: Path
) -> None:
    write_plan(tmp_path)
    real = tmp_path / "real"
    with running(SIMULATED, into(link), tmp_path, **simulated(tmp_path)) as first:
        assert first.ends() == 0, first.err
    (real / "studies.db").write_bytes(b"SQLite format 3\0" + b"\xaa" * 8192)
    with running(SIMULATED, into(link), tmp_path, **simulated(tmp_path)) as again:
        assert again.ends() == 0, again.err
    assert (link / "studies.db").is_symlink()
    assert len(results(real / "studies.db")) == 4
    assert list(real.glob("studies.db.damaged-*"))


# Hard links.


@pytest.mark.slow
def test_a_database_with_two_names_is_written_under_neither(tmp_path: Path) -> None:
    write_plan(tmp_path, seeds=1000)
    real, other = tmp_path / "real", tmp_path / "other"
    for folder in (real, other):
        folder.mkdir()
    with running(SIMULATED, into(real), tmp_path, **simulated(tmp_path, 0.05)) as first:
        some_results(real / "studies.db")
        os.link(real / "studies.db", other / "studies.db")
        with running(SIMULATED, into(other), tmp_path, **simulated(tmp_path)) as second:
            assert second.ends() == 2
            assert "is one file under 2 names" in "".join(second.err)
        assert first.process.poll() is None
    assert numbers_are_unique(real / "studies.db")


# The lock file.


def remove(lock: Path) -> None:
    lock.unlink()


def replace(lock: Path) -> None:
    (lock.parent / "fresh").touch()
    (lock.parent / "fresh").replace(lock)


@pytest.mark.slow
@pytest.mark.parametrize("lose", [remove, replace])
def test_an_owner_whose_lock_file_is_taken_away_stops_and_loses_nothing(
    tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    write_plan(tmp_path, seeds=60)
    file = tmp_path / "studies.db"
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path, 0.05)) as first:
        some_results(file)
        lose(tmp_path / "studies.db.lock")
        let_go(tmp_path)
        with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path, 0.01)) as second:
            assert first.ends() == 1
            assert "studies.db.lock was" in "".join(first.out)
            assert second.ends() == 0, second.err
    assert acknowledged(tmp_path / "acknowledged") == stored(file)
    assert len(results(file)) == 120
    assert numbers_are_unique(file)
    assert_sound(file)


# Trials of another program.


def add_trial(file: Path, state: str) -> None:
    """Add a trial with Optuna alone."""
    optuna_study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{file}")
    if state == "RUNNING":
        optuna_study.ask()
    elif state == "WAITING":
        optuna_study.enqueue_trial({"pooling": "avg"})
    else:
        optuna_study.add_trial(optuna.trial.create_trial(value=0.1))


@pytest.mark.slow
@pytest.mark.parametrize("state", ["RUNNING", "WAITING", "COMPLETE"])
def test_a_trial_that_optuna_adds_during_a_run_hinders_no_later_start(
    tmp_path: Path, state: str
) -> None:
    write_plan(tmp_path, seeds=150)
    file = tmp_path / "studies.db"
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path, 0.1)) as run:
        some_results(file)
        add_trial(file, state)  # while the owner adds none: both might want the same number
        done = states(file)["COMPLETE"]
        let_go(tmp_path)
        until(lambda: states(file)["COMPLETE"] > done + 6, "further results")
        run.process.kill()
        run.ends()
    kept = acknowledged(tmp_path / "acknowledged")
    for _ in range(2):
        with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path)) as run:
            assert run.ends() == 0, run.err
    assert numbers_are_unique(file)
    assert kept.items() <= stored(file).items()
    assert len(kept) > 6


@pytest.mark.slow
def test_a_study_that_is_deleted_during_a_run_is_said_to_be(tmp_path: Path) -> None:
    write_plan(tmp_path, seeds=1000)
    file = tmp_path / "studies.db"
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path, 0.02)) as run:
        some_results(file)
        optuna.delete_study(study_name="tiny", storage=f"sqlite:///{file}")
        let_go(tmp_path)
        assert run.ends() == 1
    assert "the study was deleted from the database while it ran" in "".join(run.out)


@pytest.mark.slow
def test_a_database_that_is_vacuumed_during_a_run_was_not_cut(tmp_path: Path) -> None:
    write_plan(tmp_path, seeds=60)
    file = tmp_path / "studies.db"
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path, 0.02)) as run:
        some_results(file)
        with closing(sqlite3.connect(file, timeout=30)) as other:
            other.execute("CREATE TABLE ballast (a)")
            other.execute("INSERT INTO ballast VALUES (zeroblob(4000000))")
            other.commit()
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            hold(tmp_path, 2 * SOME)
            until(lambda: states(file)["COMPLETE"] == 2 * SOME, "results in a larger file")
            other.execute("DROP TABLE ballast")
            other.commit()
            size = file.stat().st_size
            other.execute("VACUUM")
            until(
                lambda: other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0,
                "a checkpoint",
            )
            assert file.stat().st_size < size
        let_go(tmp_path)
        assert run.ends() == 0, run.out
    assert len(results(file)) == 120
    assert_sound(file)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["RUNNING", "WAITING", "COMPLETE"])
def test_a_trial_that_optuna_adds_to_a_search_hinders_no_later_start(
    tmp_path: Path, state: str
) -> None:
    (tmp_path / "tiny.toml").write_text(
        'name = "tiny"\ndesign = "search"\ndataset = "digits"\n'
        "epochs = 3\nsubset = 200\nseeds = 2\n[baseline]\nwidth = 4\n"
        "[search]\ntrials = 60\n[search.space]\n"
        'learning_rate = { low = 0.001, high = 0.1, log = true }\npooling = ["max", "avg"]\n'
    )
    file = tmp_path / "studies.db"
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path, 0.1)) as run:
        some_results(file)
        add_trial(file, state)
        done = states(file).total()
        let_go(tmp_path)
        until(lambda: states(file).total() > done + 6, "further trials")
        run.process.kill()
        run.ends()
    for _ in range(2):
        with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path)) as run:
            assert run.ends() == 0, run.err
    assert numbers_are_unique(file)
    assert set(rows(file, "SELECT state FROM trials WHERE state = 'RUNNING'")) == set()
