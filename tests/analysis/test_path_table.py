"""The ablation path read from trials: the steps that were trained, and what each is worth."""

import csv
import io
from pathlib import Path as Folder
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from analysis import dashboard
from analysis.designs import results
from analysis.documents import render
from analysis.path import AblationPath, path
from analysis.tables.ablation import AblationTable
from analysis.trials import connect, trials
from study.plans.plan import Plan
from study.run.path import next_step
from tests.support.plans import tiny
from tests.support.studies import database, read, trial

FACTORS = {
    "pooling": ["max", "avg"],
    "batchnorm": [True, False],
    "activation": ["leaky_relu", "relu", "gelu"],
}
GAIN = {"avg": 0.02, False: 0.01, "relu": -0.01, "gelu": 0.03}


def accuracy(changes: dict[str, Any], seed: int) -> float:
    """Gains add up but for average pooling and GELU, which do not go well together."""
    clash = changes.get("pooling") == "avg" and changes.get("activation") == "gelu"
    gains = sum(GAIN[level] for level in changes.values())
    return float(0.8 + gains - 0.015 * clash + seed / 100 + 0.001 * seed**2 * len(changes))


def trained(plan: Plan, *, steps: int = 9) -> list[FrozenTrial]:
    """The design's trials, and those that `run --path` adds, up to so many steps."""
    of = plan.to_dict()
    cells = [(cell.variant, cell.seed) for cell in plan.cells]
    for _ in range(steps):
        values: dict[tuple[str | None, int | None], float | None] = {
            (variant.label, seed): accuracy(dict(variant.changes), seed) for variant, seed in cells
        }
        cells += [(v, seed) for v in next_step(plan, values) for seed in range(plan.seeds)]
    return [trial(of, dict(v.changes), seed, accuracy(dict(v.changes), seed)) for v, seed in cells]


def table(folder: Folder, plan: Plan, rows: list[FrozenTrial]) -> AblationTable:
    found = results(*read(folder, rows, plan.to_dict())).table
    assert isinstance(found, AblationTable)
    return found


@pytest.fixture
def plan() -> Plan:
    return tiny(factors=FACTORS, seeds=3)


@pytest.fixture
def whole(tmp_path: Folder, plan: Plan) -> AblationTable:
    return table(tmp_path, plan, trained(plan))


def test_the_steps_are_those_that_were_trained(whole: AblationTable) -> None:
    assert whole.path is not None
    steps = whole.path.steps
    assert [(step.factor, step.level) for step in steps] == [
        (None, None), ("activation", "gelu"), ("batchnorm", False), ("pooling", "avg"),
    ]  # fmt: skip
    assert steps[-1].changes == {"activation": "gelu", "batchnorm": False, "pooling": "avg"}
    assert whole.path.left == {}
    assert [step.n for step in steps] == [3, 3, 3, 3]
    assert [len(step.tried) for step in steps] == [0, 3, 2, 1]


def test_gains_are_paired_differences_to_the_step_before(whole: AblationTable) -> None:
    assert whole.path is not None
    *_, second, third = whole.path.steps
    by_seed = [[accuracy(step.changes, seed) for seed in range(3)] for step in (second, third)]
    expected = stats.ttest_rel(by_seed[1], by_seed[0])
    interval = expected.confidence_interval()
    means = [sum(values) / 3 for values in by_seed]
    assert third.gain.delta == pytest.approx(means[1] - means[0])
    assert (third.gain.low, third.gain.high) == pytest.approx((interval.low, interval.high))
    start = [accuracy({}, seed) for seed in range(3)]
    assert third.total.delta == pytest.approx(means[1] - sum(start) / 3)


def test_the_path_is_drawn_step_by_step(tmp_path: Folder, plan: Plan) -> None:
    found = results(*read(tmp_path, trained(plan), plan.to_dict()))
    (figure,) = [figure for figure in dashboard.plots(found) if figure.name == "path"]
    means = [100 * (step.val_accuracy_mean or 0) for step in found.table.path.steps]
    assert figure.data[0]["y"] == pytest.approx(means, rel=1e-4)
    assert figure.layout["xaxis"]["ticktext"] == [
        "baseline", "+ activation=gelu", "+ batchnorm=false", "+ pooling=avg",
    ]  # fmt: skip


def test_an_unfinished_path_says_what_is_left(tmp_path: Folder, plan: Plan) -> None:
    found = table(tmp_path, plan, trained(plan, steps=1))
    assert found.path is not None
    assert [step.factor for step in found.path.steps] == [None, "activation", "batchnorm"]
    assert found.path.left == {"pooling": "avg"}
    assert "Path: not finished; still to come: pooling=avg." in render(found, "text")


def test_without_combinations_there_is_no_path(tmp_path: Folder, plan: Plan) -> None:
    found = table(tmp_path, plan, trained(plan, steps=0))
    assert found.path is None
    assert found.as_dict()["path"] is None
    assert "Path" not in render(found, "text")
    rows = trials(connect(database(tmp_path, [], of=plan.to_dict(), name="empty")), 2)
    assert path(plan.to_dict() | {"design": "factorial"}, rows) is None


def test_a_change_that_diverged_on_top_is_passed_over(tmp_path: Folder, plan: Plan) -> None:
    of = plan.to_dict()
    rows = trained(plan, steps=1)
    best = {"activation": "gelu", "batchnorm": False}
    rows = [row for row in rows if row.user_attrs["changes"] != best]
    rows += [
        trial(of, best, seed, None, state=TrialState.FAIL, outcome="diverged") for seed in range(3)
    ]
    found = table(tmp_path, plan, rows).path
    assert isinstance(found, AblationPath)
    assert found.steps[2].factor == "pooling"
    assert [own.val_accuracy_mean is None for own in found.steps[2].tried] == [False, True]


def test_text_json_and_csv(whole: AblationTable) -> None:
    text = render(whole, "text")
    start = text.index("Path to the best combination")
    lines = text[start:].splitlines()
    assert lines[1].split() == ["change", "n", "accuracy", "gain", "in", "all", "test"]
    assert lines[2].startswith("baseline           3  81.00 ±1.00")
    assert lines[3].startswith("+ activation=gelu  3")
    assert max(map(len, text.splitlines())) <= 80
    assert "Fawcett and Hoos 2016" in " ".join(text.split())
    known = whole.as_dict()["path"]
    assert known["steps"][3]["changes"] == {
        "activation": "gelu", "batchnorm": False, "pooling": "avg",
    }  # fmt: skip
    rows = [
        row for row in csv.DictReader(io.StringIO(render(whole, "csv"))) if row["factor"] == "path"
    ]
    assert [row["level"] for row in rows] == [
        # A spreadsheet would take a cell that begins with a plus for a formula.
        "baseline", "'+ activation=gelu", "'+ batchnorm=false", "'+ pooling=avg",
    ]  # fmt: skip
    assert float(rows[3]["delta"]) == pytest.approx(known["steps"][3]["gain"]["delta"])


def test_trials_of_the_path_are_no_planned_ones(whole: AblationTable, plan: Plan) -> None:
    found = whole.progress
    assert found.planned == found.done == len(plan.cells) == 15
    assert found.missing == 0
    assert found.combinations == {"finished": 9}
    lines = render(whole, "text").splitlines()
    assert "trials of 15 planned: 15 finished" in lines
    assert "beside them, combinations on the ablation path: 9 finished" in lines
