"""A study is copied whole and as it was written, or not at all."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from analysis.trials import connect, studies, trials
from study.cli import main
from study.store import copying, location, ownership
from study.store.copying import Copied
from study.store.stored_trial import NewTrial
from study.store.writer import StudyWriter, categorical
from tests.support.studies import POOLING
from trainer.errors import UserError

LEVELS = {"pooling": categorical(["max", "avg"])}


def made(file: Path, *, running: int = 0) -> Path:
    """A study of four trials that have ended, and some that run."""
    with ownership.take(location.locate(str(file)), "test") as database:
        writer = StudyWriter(database, "q")
        writer.create([StudyDirection.MAXIMIZE])
        writer.describe({"plan": POOLING, "last_run": "2026-01-01"})
        new = NewTrial({"pooling": "avg"}, LEVELS, {"variant": "x", "seed": 1})
        ids = writer.start([new] * (4 + running))
        for trial in ids[:3]:
            writer.report(trial, 1, 0.1 + trial / 3)
            more = {"checkpoint": f"checkpoints/{trial}"}
            writer.finish([(trial, TrialState.COMPLETE, [trial / 7], more)])
        writer.finish([(ids[3], TrialState.FAIL, None, {"failure_reason": "x"})])
    return file


def copy(source: Path, target: Path, name: str = "q", new_name: str | None = None) -> Copied:
    where = location.locate(str(source)), location.locate(str(target))
    return copying.copy(where[0], name, where[1], new_name or name, "test")


def read(file: Path, name: str = "q") -> list[Any]:
    """What readers see of a study, which is sound."""
    engine = connect(location.locate(str(file)))
    (study,) = [study for study in studies(engine) if study.name == name]
    assert (study.damage, study.missing) == (None, None)
    return trials(engine, study.id)


def checksums(file: Path) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(file)) as database:
        return database.execute(
            "SELECT number, value_json FROM trials JOIN trial_user_attributes USING (trial_id) "
            "WHERE key = 'checksum' ORDER BY number"
        ).fetchall()


def test_a_copy_is_what_was_written(tmp_path: Path) -> None:
    source, target = made(tmp_path / "a.db"), tmp_path / "b.db"
    assert copy(source, target) == Copied(4, 0, 3)
    assert read(target) == read(source)
    assert checksums(target) == checksums(source) != []


def test_a_copy_may_have_another_name_also_in_the_same_database(tmp_path: Path) -> None:
    file = made(tmp_path / "a.db")
    copy(file, file, new_name="r")
    assert read(file, "r") == read(file)


def test_a_study_is_copied_into_a_database_that_holds_others(tmp_path: Path) -> None:
    source, target = made(tmp_path / "a.db"), made(tmp_path / "b.db")
    before = read(target)
    with pytest.raises(UserError, match=r"'q': is in .*b.db already"):
        copy(source, target)
    copy(source, target, new_name="r")
    assert read(target, "r") == read(source)
    assert read(target) == before


def test_trials_that_run_have_failed_in_the_copy(tmp_path: Path) -> None:
    source, target = made(tmp_path / "a.db", running=2), tmp_path / "b.db"
    assert copy(source, target) == Copied(6, 2, 3)
    assert [trial.state for trial in read(source)][4:] == ["RUNNING"] * 2
    assert [(t.state, t.failure_reason) for t in read(target)][4:] == [
        ("FAIL", copying.INTERRUPTED)
    ] * 2


def test_another_tools_study_is_copied_without_a_seal(tmp_path: Path) -> None:
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/a.db", study_name="q")
    study.enqueue_trial({"x": 0.5})
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    study.enqueue_trial({"x": 0.25})
    copy(tmp_path / "a.db", tmp_path / "b.db")
    again = optuna.load_study(storage=f"sqlite:///{tmp_path}/b.db", study_name="q")
    assert again.user_attrs == {}
    assert [(t.number, t.state, t.values, t.params, t.system_attrs) for t in again.trials] == [
        (t.number, t.state, t.values, t.params, t.system_attrs) for t in study.trials
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE trial_values SET value = 0.9 WHERE trial_id = 2", "trial 1 is damaged"),
        ("DELETE FROM trials WHERE number = 2", "a trial is missing"),
        ("UPDATE trial_values SET value = 'x' WHERE trial_id = 2", "trial 1 is damaged"),
        ("UPDATE study_user_attributes SET value_json = '1' WHERE key = 'plan'", "'plan' is dam"),
        ("UPDATE study_user_attributes SET value_json = '1' WHERE key = 'seal'", "its seal is dam"),
    ],
)
def test_a_damaged_study_is_not_copied(tmp_path: Path, change: str, said: str) -> None:
    source, target = made(tmp_path / "a.db"), tmp_path / "b.db"
    with closing(sqlite3.connect(source)) as database, database:
        database.execute(change)
    with pytest.raises(UserError, match=said):
        copy(source, target)
    with pytest.raises(UserError, match="holds no study"):
        read_any(target)


def read_any(file: Path) -> None:
    location.check_readable(location.locate(str(file)))
    with closing(sqlite3.connect(file)) as database:
        if not database.execute("SELECT * FROM studies").fetchall():
            raise UserError("holds no study")


@pytest.mark.parametrize("broken", ["interrupted", "rotten"])
def test_a_copy_that_is_cut_short_or_wrong_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    source, target = made(tmp_path / "a.db"), tmp_path / "b.db"
    insert: Callable[..., None] = copying._insert

    def failing(session: Any, table: Any, rows: list[dict[str, Any]]) -> None:
        if table.name == "trial_values":
            if broken == "interrupted":
                raise KeyboardInterrupt
            rows[0]["value"] = 0.25
        insert(session, table, rows)

    with monkeypatch.context() as context:
        context.setattr(copying, "_insert", failing)
        with pytest.raises((KeyboardInterrupt, UserError)):
            copy(source, target)
    with closing(sqlite3.connect(target)) as database:
        for table in ("studies", "trials", "trial_user_attributes", "trial_values"):
            assert database.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (0,)
    copy(source, target)
    assert read(target) == read(source)


def test_the_command_says_what_it_did_and_where_the_weights_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = made(tmp_path / "a.db", running=1), tmp_path / "c"
    target.mkdir()
    with pytest.raises(SystemExit):
        main(["copy", "q", "--storage", str(source), "--to", str(target / "b.db"), "--as", "r"])
    said = capsys.readouterr().out
    assert "study 'r', 5 trials, verified" in said
    assert "1 of them were running" in said
    assert f"the weights of 3 trials stay where they are, below {tmp_path}/checkpoints" in said
    assert f"below {target}/checkpoints" in said
    with pytest.raises(SystemExit):
        main(["copy", "q", "-s", str(source), "--to", str(target / "b.db"), "--as", "s", "--json"])
    copied = json.loads(capsys.readouterr().out)
    assert (copied.pop("study"), Path(copied.pop("storage")).name) == ("s", "b.db")
    assert copied == {"trials": 5, "interrupted": 1, "weights": 3}
    with pytest.raises(SystemExit) as refused:
        main(["copy", "z", "--storage", str(source), "--to", str(tmp_path / "new.db")])
    assert refused.value.code == 2
    assert "study = 'z': choose from q" in capsys.readouterr().err
    assert not (tmp_path / "new.db").exists()
