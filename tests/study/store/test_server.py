"""Studies on a database server: one owner, whose lock may be cut; a journal of its own."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import sqlalchemy
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import event

from analysis.trials import connect, studies, trials
from study.cli import main
from study.plans.plan import load_plan
from study.store import copying, location, ownership
from study.store.connection import OwnedStorage
from study.store.durability import Durability
from study.store.failures import StorageFailed
from study.store.replay import replay
from study.store.server_lock import ServerClaim
from study.store.stored_trial import NewTrial
from study.store.writer import StudyWriter
from tests.faults.machine import (
    RUN,
    SECONDS,
    SIMULATED,
    acknowledged,
    finished,
    hold,
    let_go,
    running,
    simulated,
    until,
    write_plan,
)
from tests.support.servers import Server, postgresql
from trainer.errors import UserError

Done = TypeVar("Done")
NEW = NewTrial({}, {}, {"variant": "x"})
COUNT = "SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'"


def has_results(server: Server) -> bool:
    """Whether a run has made its tables, and finished trials."""
    there = server.query("SELECT to_regclass('trials') IS NOT NULL", "s")
    return bool(there and server.query(COUNT, "s") > 3)


# Where the journal is: no server is needed.


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("postgresql://a/s", "postgresql://b/s", False),
        ("postgresql://a:1/s", "postgresql://a:2/s", False),
        ("postgresql://a/s", "postgresql://a/t", False),
        ("postgresql:///s?host=/run/a", "postgresql:///s?host=/run/b", False),
        ("postgresql://a/s_x", "postgresql://a/s%20x", False),
        ("postgresql://a/s", "postgresql://me:secret@A:5432/s", True),
        ("postgresql://localhost/s", "postgresql+psycopg2://127.0.0.1:5432/s", True),
        ("postgresql:///s?host=a", "postgresql://a/s", True),
        ("mysql://a/s", "mariadb://a:3306/s", True),
    ],
)
def test_a_journal_is_of_one_database_on_one_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, second: str, same: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [Durability(location.locate(url), print).journal.folder for url in (first, second)]
    assert (folders[0] == folders[1]) == same
    assert {folder.parent for folder in folders} == {tmp_path}


def test_a_missing_driver_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    where = location.locate("postgresql://me:secret@a/s")
    with pytest.raises(UserError, match=r"pip install 'fmnist-study\[postgres\]'") as refused:
        location.check_readable(where)
    assert "secret" not in str(refused.value)


# With a server.


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgresql() as started:
        yield started


@pytest.fixture
def url(server: Server) -> str:
    """The address of a new database."""
    server.query("DROP DATABASE IF EXISTS s WITH (FORCE)")
    server.query("CREATE DATABASE s")
    return server.url("s")


def lock_of(database: OwnedStorage) -> str:
    """The process of the server that holds the lock."""
    assert isinstance(database.claim, ServerClaim)
    return str(database.claim.session).split()[0]


def cut(server: Server, session: object) -> None:
    server.query(f"SELECT pg_terminate_backend({session})")
    until(
        lambda: not server.query(f"SELECT COUNT(*) FROM pg_stat_activity WHERE pid = {session}"),
        "the connection's end",
    )


@pytest.mark.slow
def test_an_owner_whose_lock_was_cut_commits_nothing_more(server: Server, url: str) -> None:
    where = location.locate(url)
    with ownership.take(where, "first") as database:
        first = StudyWriter(database, "q")
        first.create([StudyDirection.MAXIMIZE])
        done, running_trial = first.start([NEW, NEW])
        first.finish([(done, TrialState.COMPLETE, [0.5], {})])
        with pytest.raises(UserError, match="is in use"), ownership.take(where, "second"):
            pass
        cut(server, lock_of(database))
        with ownership.take(where, "second") as other:
            second = StudyWriter(other, "q")
            assert second.fail_running("its owner is gone") == 1
            for write in (
                lambda: first.finish([(running_trial, TrialState.COMPLETE, [0.9], {})]),
                lambda: first.start([NEW]),
                lambda: first.describe({"a": 1}),
                lambda: database.create_new_study([StudyDirection.MAXIMIZE], "z"),
            ):
                with pytest.raises(StorageFailed, match=r"another run (owns|wrote)"):
                    write()
            assert second.start([NEW])
            stored = [(trial.number, trial.state.name) for trial in second.trials()]
    assert stored == [(0, "COMPLETE"), (1, "FAIL"), (2, "RUNNING")]


@pytest.mark.slow
def test_a_new_owner_waits_for_the_commit_that_the_last_one_has_begun(
    server: Server, url: str
) -> None:
    import threading

    where = location.locate(url)
    order: list[str] = []
    with ownership.take(where, "first") as database:
        StudyWriter(database, "q").create([StudyDirection.MAXIMIZE])

        def second() -> None:
            with ownership.take(where, "second"):
                order.append("owned")

        with database.engine.connect() as connection:
            connection.exec_driver_sql("UPDATE studies SET study_name = 'r'")
            assert database.claim is not None
            assert database.claim.fault(connection) is None  # what a commit asks first
            cut(server, lock_of(database))
            thread = threading.Thread(target=second)
            thread.start()
            thread.join(1)
            order.append("committed")
            connection.rollback()
        thread.join(SECONDS)
    assert order == ["committed", "owned"]


@pytest.mark.slow
def test_results_of_one_server_are_not_put_into_another(
    server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    with ownership.take(location.locate(url), "first") as database:  # killed: its journal stays
        journal = Durability(location.locate(url), said.append).journal
        writer = StudyWriter(database, "q", journal=journal)
        writer.create([StudyDirection.MAXIMIZE])
        writer.describe({"plan": {}})
        (trial,) = writer.start([NEW])
        writer.finish([(trial, TrialState.COMPLETE, [0.5], {})])
    with postgresql() as another:
        another.query("CREATE DATABASE s")
        where = location.locate(another.url("s"))
        with ownership.take(where, "second") as database:
            replay(database, Durability(where, said.append).journal, said.append)
            assert database.get_all_studies() == []
    assert said == []


@pytest.mark.slow
def test_an_owner_whose_lock_was_cut_takes_it_again(server: Server, url: str) -> None:
    with ownership.take(location.locate(url), "first") as database:
        writer = StudyWriter(database, "q")
        writer.create([StudyDirection.MAXIMIZE])
        (trial,) = writer.start([NEW])
        before = lock_of(database)
        cut(server, before)
        writer.finish([(trial, TrialState.COMPLETE, [0.5], {})])
        assert lock_of(database) != before
        with (
            pytest.raises(UserError, match="is in use"),
            ownership.take(location.locate(url), "2nd"),
        ):
            pass
        assert [trial.state for trial in writer.trials()] == [TrialState.COMPLETE]


@pytest.mark.slow
def test_what_another_run_wrote_in_the_gap_is_not_written_over(server: Server, url: str) -> None:
    where = location.locate(url)
    with ownership.take(where, "first") as database:
        first = StudyWriter(database, "q")
        first.create([StudyDirection.MAXIMIZE])
        cut(server, lock_of(database))
        with ownership.take(where, "second") as other:  # comes and goes
            StudyWriter(other, "q").describe({"a": 2})
        with pytest.raises(StorageFailed, match="another run wrote the study"):
            first.describe({"a": 1})
        assert StudyWriter(database, "q").attributes()["a"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("came_through", [True, False])
def test_a_commit_whose_answer_is_lost_is_made_once(
    server: Server, url: str, came_through: bool
) -> None:
    with ownership.take(location.locate(url), "first") as database:
        writer = StudyWriter(database, "q")
        cuts = 0

        def losing(act: Callable[[], Done]) -> Done:
            def lose(connection: sqlalchemy.Connection) -> None:
                nonlocal cuts
                driver = connection.connection.driver_connection
                assert driver is not None
                session = driver.execute("SELECT pg_backend_pid()").fetchone()[0]
                if came_through:
                    driver.commit()
                cut(server, session)
                cuts += 1

            event.listen(database.engine, "commit", lose, once=True)
            return act()

        losing(lambda: writer.create([StudyDirection.MAXIMIZE]))
        (trial,) = losing(lambda: writer.start([NEW]))
        writer.report(trial, 1, 0.25)
        losing(lambda: writer.finish([(trial, TrialState.COMPLETE, [0.5], {})]))
        losing(lambda: writer.describe({"a": 1}))
        assert cuts == 4
        stored = [(t.number, t.state, t.value, t.intermediate_values) for t in writer.trials()]
    assert stored == [(0, TrialState.COMPLETE, 0.5, {1: 0.25})]
    assert integrity(url) == ("q", None, None)


def integrity(url: str) -> tuple[str, str | None, str | None]:
    """What a reader finds wrong with the only study."""
    (study,) = studies(connect(url))
    return study.name, study.damage, study.missing


@pytest.mark.slow
def test_a_run_goes_on_when_the_server_restarts_and_connections_are_cut(
    server: Server, url: str, tmp_path: Path
) -> None:
    write_plan(tmp_path, seeds=100, epochs=2)
    words = [*RUN, "--storage", url]
    everybody = (
        "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = 's'"
    )
    with running(SIMULATED, words, tmp_path, **simulated(tmp_path, 0.05)) as owner:
        until(lambda: has_results(server), "some results")
        cuts = 0
        while cuts < 6:
            cuts += server.query(everybody)
            time.sleep(0.1)
        server.stop()
        server.start()
        assert owner.ends() == 0, owner.err
    assert server.query(COUNT, "s") == 200
    assert server.query("SELECT COUNT(*) FROM trials", "s") == 200
    assert integrity(url) == ("tiny", None, None)
    assert not list(tmp_path.glob("*.journal"))


@pytest.mark.slow
def test_a_server_that_does_not_come_back_ends_the_run_and_the_next_goes_on(
    server: Server, url: str, tmp_path: Path
) -> None:
    write_plan(tmp_path, seeds=20, epochs=1)
    words = [*RUN, "--storage", url]
    hold(tmp_path, 6)
    with running(SIMULATED, words, tmp_path, **simulated(tmp_path, 0.05)) as owner:
        until(lambda: has_results(server), "some results")
        server.stop()
        let_go(tmp_path)  # what ends from here on cannot be written
        owner.process.send_signal(signal.SIGINT)  # whoever waits for it does not wait any longer
        assert owner.ends() in (1, 130), owner.err
    server.start()
    with running(SIMULATED, words, tmp_path, **simulated(tmp_path)) as owner:
        assert owner.ends() == 0, owner.err
    assert server.query(COUNT, "s") == 40
    # One that was being written when the server went is there, whether or not that was heard.
    assert len(acknowledged(tmp_path / "acknowledged")) in (39, 40)
    assert integrity(url) == ("tiny", None, None)


@pytest.mark.slow
def test_an_owner_that_was_killed_is_followed_by_the_next_which_loses_nothing(
    server: Server, url: str, tmp_path: Path
) -> None:
    write_plan(tmp_path, seeds=20, epochs=1)
    words = [*RUN, "--storage", url]
    hold(tmp_path, 6)
    with running(SIMULATED, words, tmp_path, **simulated(tmp_path)) as owner:
        until(lambda: has_results(server), "some results")
        with running(SIMULATED, words, tmp_path, **simulated(tmp_path)) as second:
            assert second.ends() == 2
            assert "is in use by another process" in second.err[-1]
        owner.process.kill()
        owner.ends()
    let_go(tmp_path)
    done = server.query(COUNT, "s")
    with running(SIMULATED, words, tmp_path, **simulated(tmp_path)) as owner:
        assert owner.ends() == 0, owner.err
    assert server.query(COUNT, "s") == 40 > done
    assert integrity(url) == ("tiny", None, None)


@pytest.mark.slow
def test_a_password_is_printed_and_stored_nowhere(
    server: Server, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.query("DROP ROLE IF EXISTS me")
    server.query("CREATE ROLE me LOGIN SUPERUSER PASSWORD 'secret'")
    write_plan(tmp_path, seeds=3)
    words = [*RUN, "--storage", url.replace("postgres@", "me:secret@")]
    with running(SIMULATED, words, tmp_path, **simulated(tmp_path)) as owner:
        assert owner.ends() == 0, owner.err
        said = [*owner.out, *owner.err]
    for command in ("report --html", "report --format json", "status", "doctor", "list", "lint"):
        for where in (words[-1], words[-1].replace("/s", "/absent"), words[-1] + "?x=1"):
            with contextlib.suppress(SystemExit), contextlib.chdir(tmp_path):
                main([*command.split(), "--storage", where])
    said += [*capsys.readouterr()]
    written = [file.read_text() for file in tmp_path.rglob("*") if file.suffix in (".html", "")
               and file.is_file()]  # fmt: skip
    attributes = server.query("SELECT string_agg(value_json, ' ') FROM study_user_attributes", "s")
    assert "://***@" in attributes
    assert not [text for text in [*said, *written, attributes] if "secret" in text]


@pytest.mark.slow
def test_a_study_that_is_copied_to_a_server_and_back_is_the_same(
    server: Server, url: str, tmp_path: Path
) -> None:
    file, back = write_plan(tmp_path, seeds=3, epochs=2), tmp_path / "back.db"
    finished(tmp_path / "studies.db", load_plan(str(file)))
    ways = [(tmp_path / "studies.db", url), (url, back)]
    for source, target in ways:
        where = location.locate(str(source)), location.locate(str(target))
        copying.copy(where[0], "tiny", where[1], "tiny", "test")
    originals, copies, returned = (
        trials(connect(location.locate(str(where))), 1)
        for where in (tmp_path / "studies.db", url, back)
    )
    assert len(originals) == 6
    assert originals == copies == returned
    assert integrity(url) == ("tiny", None, None)
    words = [*RUN, "--storage", url]
    with running(SIMULATED, words, tmp_path, **simulated(tmp_path)) as owner:  # goes on there
        assert owner.ends() == 0, owner.err
    assert server.query("SELECT COUNT(*) FROM trials", "s") == 6
