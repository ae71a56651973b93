"""Cells that another study has trained are taken over, where they are equal and sound."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from analysis.designs import results
from analysis.progress import progress
from analysis.report_page import build, write
from analysis.trials import Study, Trial, connect, studies, trials
from study.plans.plan import Plan
from study.run import session
from study.run.machine import Machine
from study.run.reuse import check_can_reuse
from tests.faults.simulated import Simulated, workers
from tests.support.plans import run
from trainer.errors import UserError

ABLATION: dict[str, Any] = {
    "name": "a", "design": "ablation", "dataset": "digits", "seeds": 2, "epochs": 3, "subset": 200,
    "baseline": {"width": 4, "precision": "fp32"},
    "factors": {"pooling": ["max", "avg"], "batchnorm": [True, False]},
}  # fmt: skip
FACTORIAL = ABLATION | {"name": "f", "design": "factorial"}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What workers have trained; they train nothing."""
    done: list[str] = []

    def acknowledge(_: Simulated, config: Any, __: float) -> None:
        done.append(f"{config.pooling} {config.batchnorm} {config.width} {config.seed}")

    monkeypatch.setattr(session, "workers_for", workers)
    monkeypatch.setattr(Simulated, "_acknowledge", acknowledge)
    return done


def go(file: Path, plan: dict[str, Any], trained: list[str], *, reusing: bool = True) -> list[str]:
    """Run a plan; return what was trained, and what was said."""
    trained.clear()
    said: list[str] = []
    machine = Machine(device="cpu")
    run(Plan.from_dict(plan), file, machine=machine, reusing=reusing, news=said.append)
    return [line for line in said if line.startswith("reused")]


def read(file: Path, name: str) -> tuple[Study, list[Trial]]:
    engine = connect(f"sqlite:///{file}")
    (study,) = [study for study in studies(engine) if study.name == name]
    assert (study.damage, study.missing) == (None, None)
    return study, trials(engine, study.id)


def test_a_factorial_after_its_ablation_costs_only_what_is_new(
    tmp_path: Path, trained: list[str]
) -> None:
    file = tmp_path / "studies.db"
    go(file, ABLATION, trained, reusing=False)
    assert len(trained) == 6
    (said,) = go(file, FACTORIAL, trained)
    assert said.startswith("reused: 6 trainings are taken over, 6 from study 'a'")
    assert "2 are left to train" in said
    assert trained == ["avg False 4 0", "avg False 4 1"]
    study, made = read(file, "f")
    assert [trial.state for trial in made] == ["COMPLETE"] * 8
    originals = {trial.number: trial for trial in read(file, "a")[1]}
    taken = [trial for trial in made if trial.reused]
    assert len(taken) == 6
    for trial in taken:
        original = originals[trial.reused["number"]]
        assert trial.reused["study"] == "a"
        for what in ("value", "config", "history", "test_accuracy", "intermediate", "checkpoint"):
            assert getattr(trial, what) == getattr(original, what)
    assert progress(study, made).reused == {"a": 6}
    shown = results(study, made)
    assert any("6 by study a" in fact for fact in shown.table.facts)
    page = write(build(shown, findings=None, folder=tmp_path), tmp_path / "page.html")
    assert "6 trials trained by study" in page.read_text(encoding="utf-8")


def rounded(table: dict[str, Any]) -> Any:
    """A sum's last digit depends on the order of the trials."""
    return json.loads(json.dumps(table), parse_float=lambda text: round(float(text), 9))


def test_what_was_taken_over_changes_no_figure(tmp_path: Path, trained: list[str]) -> None:
    there, anew = tmp_path / "there.db", tmp_path / "anew.db"
    go(there, ABLATION, trained, reusing=False)
    go(there, FACTORIAL, trained)
    go(anew, FACTORIAL, trained, reusing=False)
    left, right = (rounded(results(*read(file, "f")).table.as_dict()) for file in (there, anew))
    for what in ("baseline", "effects", "counts", "missing", "notes"):
        assert left[what] == right[what]


def test_more_levels_cost_only_what_is_new_and_nothing_is_taken_twice(
    tmp_path: Path, trained: list[str]
) -> None:
    file = tmp_path / "studies.db"
    go(file, ABLATION, trained, reusing=False)
    more = ABLATION | {"name": "b", "factors": ABLATION["factors"] | {"width": [4, 8]}}
    go(file, more, trained)
    assert trained == ["max True 8 0", "max True 8 1"]
    assert go(file, more, trained) == []  # nothing is left
    assert trained == []
    assert len(read(file, "b")[1]) == 8
    (said,) = go(file, ABLATION | {"name": "c"}, trained)  # all of it
    assert "0 are left to train" in said
    assert trained == []


DAMAGE = [
    "UPDATE trial_values SET value = 0.5 WHERE trial_id = 1",
    "UPDATE trial_user_attributes SET value_json = '0.5' WHERE trial_id = 1 "
    "AND key = 'test_accuracy'",
    "DELETE FROM trial_user_attributes WHERE trial_id = 1 AND key = 'checksum'",
    "UPDATE trials SET state = 'FAIL' WHERE trial_id = 1",
    "UPDATE trial_user_attributes SET value_json = '{' WHERE trial_id = 1 AND key = 'config'",
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cell_is_trained_again(tmp_path: Path, trained: list[str], damage: str) -> None:
    file = tmp_path / "studies.db"
    go(file, ABLATION, trained, reusing=False)
    with closing(sqlite3.connect(file)) as database, database:
        assert database.execute(damage).rowcount == 1
    (said,) = go(file, ABLATION | {"name": "b"}, trained)
    assert said.startswith("reused: 5 trainings")
    assert trained == ["max True 4 0"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE study_user_attributes SET value_json = replace(value_json, '00', '11') "
        "WHERE key = 'dataset'",  # no longer what was sealed
        "DELETE FROM study_user_attributes WHERE key = 'seal'",
    ],
)
def test_a_study_whose_data_nobody_can_vouch_for_gives_nothing(
    tmp_path: Path, trained: list[str], change: str
) -> None:
    file = tmp_path / "studies.db"
    go(file, ABLATION, trained, reusing=False)
    with closing(sqlite3.connect(file)) as database, database:
        assert database.execute(change).rowcount == 1
    (said,) = go(file, ABLATION | {"name": "b"}, trained)
    assert said.startswith("reused: nothing")
    assert len(trained) == 6


@pytest.fixture
def other_data(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    start = Simulated.start

    def started(workers: Simulated) -> dict[str, Any]:
        described = start(workers)
        return described | {"dataset": described["dataset"] | {"sha256": "1" * 64}}

    with monkeypatch.context() as context:
        context.setattr(Simulated, "start", started)
        yield


def test_other_data_of_the_same_name_gives_nothing(
    tmp_path: Path, trained: list[str], request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "studies.db"
    go(file, ABLATION, trained, reusing=False)
    request.getfixturevalue("other_data")
    (said,) = go(file, ABLATION | {"name": "b"}, trained)
    assert said.startswith("reused: nothing")
    assert len(trained) == 6


@pytest.mark.parametrize("changes", [{"epochs": 2}, {"subset": 150}, {"baseline": {"width": 8}}])
def test_other_conditions_give_nothing(
    tmp_path: Path, trained: list[str], changes: dict[str, Any]
) -> None:
    file = tmp_path / "studies.db"
    go(file, ABLATION, trained, reusing=False)
    (said,) = go(file, ABLATION | {"name": "b"} | changes, trained)
    assert said.startswith("reused: nothing")
    assert len(trained) == 6


def test_nothing_is_taken_over_unless_asked(tmp_path: Path, trained: list[str]) -> None:
    file = tmp_path / "studies.db"
    go(file, ABLATION, trained, reusing=False)
    assert go(file, ABLATION | {"name": "b"}, trained, reusing=False) == []
    assert len(trained) == 6


@pytest.mark.parametrize("plan", [{"design": "search", "factors": {}}, {"max_seeds": 5}])
def test_designs_without_cells_of_their_own_say_so(plan: dict[str, Any]) -> None:
    search = {"search": {"trials": 2, "space": {"width": [4, 8]}}} if "design" in plan else {}
    with pytest.raises(UserError, match="--reuse: "):
        check_can_reuse(Plan.from_dict(ABLATION | plan | search))
