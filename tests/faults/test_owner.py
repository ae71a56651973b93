"""The owner of a study dies, or loses its database: nothing acknowledged is lost."""

import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from study.plans.plan import load_plan
from tests.faults.machine import (
    RUN,
    SIMULATED,
    acknowledged,
    acknowledgements,
    assert_sound,
    attributes,
    finished,
    hold,
    let_go,
    results,
    rows,
    running,
    simulated,
    states,
    stored,
    until,
    wait_for_the_end,
    write_plan,
)
from tests.support.studies import POOLING, database, trial


def undisturbed(folder: Path) -> dict[tuple[str, int], float]:
    """Return the results of the same simulated study, undisturbed."""
    file = folder / "undisturbed.db"
    finished(file, load_plan(str(folder / "tiny.toml")))
    return results(file)


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_an_owner_killed_at_random_moments_loses_nothing(tmp_path: Path, kills: int) -> None:
    chance = random.Random(kills)
    file = tmp_path / "studies.db"
    write_plan(tmp_path, seeds=12 * kills, epochs=3)
    hold(tmp_path, 20)  # each time: so many kills leave something to do
    for number in range(kills):
        with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path, 0.03)) as owner:
            if number % 5:  # else in its first moments: imports, lock, recovery
                done = len(acknowledged(tmp_path / "acknowledged"))
                until(
                    lambda: (
                        len(acknowledged(tmp_path / "acknowledged")) > done  # noqa: B023
                        or owner.process.poll() is not None
                    ),
                    "a result",
                )
                time.sleep(chance.uniform(0, 0.3))
            else:
                time.sleep(chance.uniform(0, 1.0))
            assert owner.process.poll() is None, "it was to be killed at work"
            owner.process.kill()
            owner.ends()
        kept = acknowledged(tmp_path / "acknowledged")
    let_go(tmp_path)
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path)) as owner:
        assert owner.ends() == 0, owner.err
    assert kept
    assert kept.items() <= stored(file).items()
    assert len(results(file)) == 24 * kills
    assert results(file) == undisturbed(tmp_path)
    assert_sound(file)
    assert not (tmp_path / "studies.db.journal").exists()


@pytest.mark.slow
def test_an_owner_of_real_trainings_killed_again_and_again_comes_to_the_same_values(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    words = [*RUN, "--workers", "2"]
    for folder in (tmp_path, undisturbed):
        write_plan(folder, seeds=20, epochs=20)
    for _ in range(5):
        before = states(tmp_path / "studies.db")["COMPLETE"]
        with running("study.cli", words, tmp_path) as owner:
            until(lambda: states(tmp_path / "studies.db")["COMPLETE"] > before, "a result")  # noqa: B023
            workers = owner.workers
            owner.process.kill()
            owner.ends()
            # Orphans stop at once, not at their next epoch.
            wait_for_the_end(workers)
    for folder in (tmp_path, undisturbed):
        with running("study.cli", words, folder) as owner:
            assert owner.ends() == 0, owner.err
    assert results(tmp_path / "studies.db") == results(undisturbed / "studies.db")
    assert_sound(tmp_path / "studies.db")


@pytest.mark.slow
def test_an_attempt_knows_its_number(tmp_path: Path) -> None:
    write_plan(tmp_path, seeds=1, epochs=100)
    file = tmp_path / "studies.db"
    for number in (1, 2):
        with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path, 0.1)):
            until(lambda: states(file).total() == 2 * number, "trials that run")  # noqa: B023
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path)) as owner:
        assert owner.ends() == 0
    attempts = [(state, attrs["variant"], attrs["attempt"]) for state, attrs in attributes(file)]
    assert Counter(attempts) == Counter(
        [
            *(("FAIL", variant, n) for variant in ("baseline", "pooling=avg") for n in (1, 2)),
            *(("COMPLETE", variant, 3) for variant in ("baseline", "pooling=avg")),
        ]
    )
    assert all("checksum" in attrs for _, attrs in attributes(file))


# The database is taken away under the owner's hands.


def delete(file: Path) -> None:
    for path in file.parent.glob(file.name + "*"):
        if path.is_file() and ".backup" not in path.name:
            path.unlink()


def delete_alone(file: Path) -> None:
    file.unlink()


def delete_log(file: Path) -> None:
    file.with_name(file.name + "-wal").unlink()


def replace_by_nothing(file: Path) -> None:
    empty = file.with_name("empty.db")
    empty.touch()
    empty.replace(file)


def replace_by_another(file: Path) -> None:
    (file.parent / "other.db").replace(file)


def truncate(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


def truncate_to_nothing(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(0)


LOSSES = [
    (lose, earlier)
    for lose in (
        delete, delete_alone, delete_log, replace_by_nothing, replace_by_another, truncate,
        truncate_to_nothing,
    )
    for earlier in (False, True)
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lose", "earlier"),
    LOSSES,
    ids=[
        f"{lose.__name__} in the {'second' if earlier else 'first'} run" for lose, earlier in LOSSES
    ],
)
def test_a_database_that_is_taken_away_comes_back_at_the_next_start(
    tmp_path: Path, lose: Callable[[Path], None], earlier: bool
) -> None:
    file = tmp_path / "studies.db"
    # Made before: a run might be over by then.
    database(tmp_path, [trial(POOLING, {}, 0, 0.9)], of=POOLING, name="other", file="other.db")
    if earlier:  # results that only a backup has
        write_plan(tmp_path, seeds=5, epochs=2)
        with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path)) as owner:
            assert owner.ends() == 0, owner.err
    write_plan(tmp_path, seeds=40, epochs=2)
    before = len(acknowledged(tmp_path / "acknowledged")) + 6
    hold(tmp_path, 6)
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path, 0.05)) as owner:
        until(lambda: len(acknowledged(tmp_path / "acknowledged")) == before, "some results")
        lose(file)
        let_go(tmp_path)
        assert owner.ends() == 1, owner.err
        said = "".join(owner.out)
        assert "while the study ran; its results are kept in the journal" in said
        assert str(file) in said
    kept = acknowledged(tmp_path / "acknowledged")
    assert len(kept) <= before + 4  # within a write of each of the four workers
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path)) as owner:
        assert owner.ends() == 0, owner.err
        # A file that stayed in its place SQLite may close in order, all of its results in it; and
        # the log of one that was replaced may hold all of them.
        if lose in (delete, delete_alone, replace_by_nothing):
            assert "put back from the journal" in "".join(owner.err)
    every = acknowledgements(tmp_path / "acknowledged")
    assert len(every) == len(dict(every)), "a trial ran again"
    assert kept.items() <= stored(file).items()
    assert results(file) == undisturbed(tmp_path)
    assert_sound(file)
    assert not (tmp_path / "studies.db.journal").exists()


@pytest.mark.slow
def test_what_was_in_the_way_is_kept(tmp_path: Path) -> None:
    write_plan(tmp_path)
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path)) as owner:
        assert owner.ends() == 0
    file = tmp_path / "studies.db"
    content = bytearray(file.read_bytes())
    content[4096:12288] = b"\xaa" * 8192
    file.write_bytes(content)
    write_plan(tmp_path, seeds=3)
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path)) as owner:
        assert owner.ends() == 0, owner.err
    assert "its backup has been put in its place" in "".join(owner.err)
    (kept,) = tmp_path.glob("studies.db.damaged-*")
    assert kept.read_bytes() == bytes(content)
    assert len(results(file)) == 6


@pytest.mark.slow
def test_a_database_removed_on_purpose_stays_removed_and_its_backup_is_kept(
    tmp_path: Path,
) -> None:
    write_plan(tmp_path)
    for seeds in (3, 1):
        write_plan(tmp_path, seeds=seeds)
        with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path)) as owner:
            assert owner.ends() == 0, owner.err
        assert len(results(tmp_path / "studies.db")) == 2 * seeds
        delete(tmp_path / "studies.db")
    (older,) = tmp_path.glob("studies.db.backup.older-*")
    assert len(results(older)) == 6


@pytest.mark.slow
def test_a_run_makes_backups_as_it_goes(tmp_path: Path) -> None:
    write_plan(tmp_path, seeds=200)
    backup = tmp_path / "studies.db.backup"
    hold(tmp_path, 350)
    often = {"SIMULATED_BACKUP_SHARE": "1"}
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path), **often) as owner:
        until(lambda: states(backup)["COMPLETE"] >= 100, "a backup")
        owner.process.kill()
        owner.ends()
    records = len(list((tmp_path / "studies.db.journal").glob("*-[0-9]*.json")))
    complete = states(tmp_path / "studies.db")["COMPLETE"]
    assert states(backup)["COMPLETE"] + records >= complete
    assert rows(backup, "PRAGMA integrity_check") == [("ok",)]


# Readers.


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1, 30])
def test_slow_readers_and_a_dashboard_disturb_no_write(tmp_path: Path, seconds: int) -> None:
    write_plan(tmp_path, seeds=2000, epochs=3)
    file = tmp_path / "studies.db"
    hold(tmp_path, 3900)
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path, 0.01)) as owner:
        until(lambda: states(file)["COMPLETE"] > 5, "some results")
        with closing(sqlite3.connect(file)) as reader:
            reader.execute("BEGIN")
            seen = reader.execute("SELECT COUNT(*) FROM trials").fetchone()
            end = time.monotonic() + seconds
            looks = 0
            while time.monotonic() < end:
                assert len(look_at_the_dashboard(file)) > 1000
                looks += 1
                assert owner.process.poll() is None, owner.err
            until(lambda: states(file)["COMPLETE"] > seen[0] + seconds, "further results")
            assert reader.execute("SELECT COUNT(*) FROM trials").fetchone() == seen
        assert looks > 0
        owner.process.send_signal(signal.SIGINT)
        assert owner.ends() == 130
    assert not [line for line in owner.err if "failed:" in line]
    failed = [attrs for state, attrs in attributes(file) if state == "FAIL"]
    assert {attrs["failure_reason"] for attrs in failed} <= {"interrupted"}
    assert_sound(file)


def look_at_the_dashboard(file: Path) -> bytes:
    """Ask Optuna's dashboard for the study, as a browser does."""
    import optuna_dashboard
    import sqlalchemy
    from optuna.storages import RDBStorage

    storage = RDBStorage(f"sqlite:///{file}", engine_kwargs={"poolclass": sqlalchemy.NullPool})
    app = optuna_dashboard.wsgi(storage)
    asked = {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies/1", "QUERY_STRING": "after=0",
        "SERVER_NAME": "x", "SERVER_PORT": "80", "wsgi.url_scheme": "http",
        "wsgi.input": __import__("io").BytesIO(), "wsgi.errors": __import__("sys").stderr,
    }  # fmt: skip
    status: list[str] = []
    body = b"".join(app(asked, lambda code, _headers, *_: status.append(code)))
    storage.engine.dispose()
    assert status == ["200 OK"], body
    return body


@pytest.mark.slow
def test_a_reader_that_locks_the_database_only_delays(tmp_path: Path) -> None:
    write_plan(tmp_path, seeds=100)
    file = tmp_path / "studies.db"
    hold(tmp_path, 6)
    with running(SIMULATED, RUN, tmp_path, **simulated(tmp_path, 0.01)) as owner:
        until(lambda: states(file)["COMPLETE"] == 6, "some results")
        with closing(sqlite3.connect(file, timeout=30)) as other:
            other.execute("BEGIN IMMEDIATE")
            let_go(tmp_path)
            before = states(file)["COMPLETE"]
            time.sleep(6)  # longer than one try
            assert states(file)["COMPLETE"] == before
            other.rollback()
        assert owner.ends() == 0, owner.err
    assert len(results(file)) == 200
