"""Whole small searches, really trained on digits."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from analysis import trials as rows
from analysis.designs import results
from analysis.documents import render
from study.cli import main
from study.plans.plan import Plan
from tests.support.plans import run
from trainer import checkpoint


def plan(**changes: Any) -> Plan:
    search = {
        "trials": 9,
        "pruner": "asha",
        "space": {
            "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
            "optimizer": ["adam", "sgd"],
            "momentum": {"low": 0.5, "high": 0.95, "when": {"optimizer": ["sgd"]}},
            "width": [4, 8],
        },
    }
    values: dict[str, Any] = {
        "name": "small",
        "design": "search",
        "dataset": "digits",
        "seeds": 2,
        "epochs": 3,
        "subset": 400,
        "baseline": {"width": 4, "batch_size": 32, "precision": "fp32"},
        "search": search,
    }
    return Plan.from_dict(values | changes)


def trials(file: Path) -> list[FrozenTrial]:
    return optuna.load_study(study_name="small", storage=f"sqlite:///{file}").trials


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("search") / "studies.db"
    state = run(plan(), file)
    assert state.done == state.planned
    return file


def test_every_trial_is_finished_or_pruned_and_says_so(finished: Path) -> None:
    found = trials(finished)
    first = [t for t in found if t.user_attrs["seed"] == 0]
    assert len(first) == 9
    for own in found:
        epochs = len(own.user_attrs["history"])
        assert len(own.intermediate_values) == epochs
        assert ("momentum" in own.params) == (own.params["optimizer"] == "sgd")
        assert own.user_attrs["config"]["learning_rate"] == own.params["learning_rate"]
        if own.state == TrialState.PRUNED:
            assert epochs < 3
            assert own.user_attrs["test_accuracy"] is None
            assert own.value == own.intermediate_values[epochs]
            assert "checkpoint" not in own.user_attrs
        else:
            assert own.state == TrialState.COMPLETE
            checkpoint.read(finished.parent / own.user_attrs["checkpoint"])
    assert TrialState.PRUNED in [own.state for own in found]


def test_replicates_carry_their_candidate(finished: Path) -> None:
    found = trials(finished)
    replicates = [t for t in found if t.user_attrs["seed"] == 1]
    assert len(replicates) >= 3
    for own in replicates:
        original = found[own.user_attrs["candidate"]]
        assert own.params == original.params
        assert own.state == TrialState.COMPLETE
        assert own.user_attrs["variant"] == original.user_attrs["variant"]


def test_a_finished_search_runs_nothing_again_and_more_trials_go_on(
    finished: Path, tmp_path: Path
) -> None:
    file = tmp_path / "studies.db"
    file.write_bytes(finished.read_bytes())
    before = trials(file)
    run(plan(), file)
    assert trials(file) == before
    more = plan(seeds=1, search={**plan().to_dict()["search"], "trials": 12})
    run(more, file)
    after = trials(file)
    assert after[: len(before)] == before
    assert len(after) == len(before) + 3


def test_pruned_trials_are_in_no_mean(finished: Path) -> None:
    engine = rows.connect(f"sqlite:///{finished}")
    (study,) = rows.studies(engine)
    found = rows.trials(engine, study.id)
    report = json.loads(render(results(study, found).table, "json"))
    assert report["effects"] == []
    shown = {own["candidate"] for own in report["candidates"]}
    assert shown.isdisjoint({t.number for t in found if t.state == "PRUNED"})
    assert report["baseline"]["n"] == sum(
        t.variant == "baseline" and t.state == "COMPLETE" for t in found
    )


def test_best_names_the_winner_and_exports_it(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["best", "small", "--storage", str(finished), "--json"]
    with pytest.raises(SystemExit) as end:
        main([*command, "--export", str(tmp_path / "out")])
    assert end.value.code == 0
    best = json.loads(capsys.readouterr().out)
    complete = [t for t in trials(finished) if t.state == TrialState.COMPLETE]
    confirmed = [t for t in complete if t.user_attrs["variant"] == best["variant"]]
    assert best["n"] == len(confirmed) == 2
    assert best["val_accuracy_mean"] == pytest.approx(sum(t.value or 0 for t in confirmed) / 2)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.safetensors",
        "model.json",
        "model.onnx",
    }


def test_two_objectives_have_two_values_and_a_front(tmp_path: Path) -> None:
    search = plan().to_dict()["search"]
    several = plan(
        search={
            **search,
            "trials": 6,
            "pruner": "none",
            "objectives": ["val_accuracy", "parameters"],
        },
    )
    file = tmp_path / "studies.db"
    run(several, file)
    found = trials(file)
    assert all(t.state == TrialState.COMPLETE for t in found)
    theirs = optuna.load_study(study_name="small", storage=f"sqlite:///{file}")
    front = {t.user_attrs["candidate"] for t in theirs.best_trials if t.user_attrs["seed"] == 0}
    assert front <= {t.user_attrs["candidate"] for t in found if t.user_attrs["seed"] == 1}
    assert all(t.values[1] == t.user_attrs["parameters"] for t in found)
    engine = rows.connect(f"sqlite:///{file}")
    (study,) = rows.studies(engine)
    report = json.loads(render(results(study, rows.trials(engine, study.id)).table, "json"))
    assert report["pareto"]
