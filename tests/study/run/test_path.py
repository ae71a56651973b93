"""The ablation path: which combinations it trains, and in which order."""

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from study.plans.plan import Plan
from study.run.path import PathWork, best_levels, next_step
from study.run.work import Task
from tests.support import results
from tests.support.plans import tiny
from trainer.errors import UserError
from trainer.results import Result

THREE = {
    "pooling": ["max", "avg"],
    "batchnorm": [True, False],
    "activation": ["leaky_relu", "relu", "gelu"],
}
# Accuracies are additive but for pooling and activation, which do not go well together.
GAIN = {"pooling=avg": 0.02, "batchnorm=false": 0.01, "activation=relu": -0.01}
GAIN |= {"activation=gelu": 0.03}


def accuracy(label: str) -> float:
    changes = [] if label == "baseline" else label.split(" ")
    clash = {"pooling=avg", "activation=gelu"} <= set(changes)
    return 0.8 + sum(GAIN[change] for change in changes) - (0.015 if clash else 0)


def plan_of_three() -> Plan:
    return tiny(factors=THREE)


def known(plan: Plan) -> dict[tuple[str | None, int | None], float | None]:
    return {(c.variant.label, c.seed): accuracy(c.variant.label) for c in plan.cells}


def result(value: float, outcome: str = "finished") -> Result:
    return results.result(val_accuracy=value, outcome=outcome)


def stored(plan: Plan, label: str, seed: int, value: float) -> FrozenTrial:
    attributes = {"variant": label, "seed": seed, "outcome": "finished"}
    levels: dict[str, BaseDistribution] = {
        "pooling": CategoricalDistribution(plan.levels("pooling"))
    }
    return create_trial(
        state=TrialState.COMPLETE,
        params={"pooling": "max"},
        distributions=levels,
        user_attrs=attributes,
        value=value,
    )


def test_the_target_is_the_best_level_of_each_factor_that_beats_the_baseline() -> None:
    plan = plan_of_three()
    values = known(plan)
    assert best_levels(plan, values) == {
        "pooling": "avg",
        "batchnorm": False,
        "activation": "gelu",
    }
    values["batchnorm=false", 1] = 0.7  # now worse than the baseline on average
    assert best_levels(plan, values) == {"pooling": "avg", "activation": "gelu"}


def test_a_level_that_diverged_on_a_seed_is_no_target() -> None:
    plan = plan_of_three()
    values = known(plan)
    values["activation=gelu", 0] = None
    assert "activation" not in best_levels(plan, values)  # relu is worse than the baseline


def test_each_step_tries_every_change_left_on_top_of_the_best_so_far() -> None:
    plan = plan_of_three()
    values = known(plan)
    # gelu alone was best, so the second step goes on from there.
    assert {frozenset(variant.label.split()) for variant in next_step(plan, values)} == {
        frozenset({"activation=gelu", "pooling=avg"}),
        frozenset({"activation=gelu", "batchnorm=false"}),
    }
    for variant in next_step(plan, values):
        for seed in range(plan.seeds):
            values[variant.label, seed] = accuracy(variant.label)
    third = next_step(plan, values)
    assert [len(variant.changes) for variant in third] == [3]
    for seed in range(plan.seeds):
        values[third[0].label, seed] = accuracy(third[0].label)
    assert next_step(plan, values) == []


def test_the_work_runs_the_design_first_then_the_path_to_its_end() -> None:
    plan = plan_of_three()
    work = PathWork(plan, [], 1)
    assert work.planned == len(plan.cells)
    seen: list[tuple[str, int]] = []
    while tasks := work.next(1):
        for task in tasks:
            seen.append((task.variant, task.seed))
            work.on_result(task, result(accuracy(task.variant)))
    assert seen[: len(plan.cells)] == [(cell.variant.label, cell.seed) for cell in plan.cells]
    assert len(seen) == len(set(seen))
    extra = [label for label, _ in seen[len(plan.cells) :]]
    assert len(extra) == 3 * plan.seeds  # 3 changes: 3 * 2 / 2 further variants
    assert {label.count("=") for label in extra} == {2, 3}
    assert work.done == work.planned == len(plan.cells) + 3 * plan.seeds


def test_an_interrupted_path_goes_on_where_it_was() -> None:
    plan = plan_of_three()
    work = PathWork(plan, [], 1)
    done: list[FrozenTrial] = []

    def finish(task: Task) -> None:
        done.append(stored(plan, task.variant, task.seed, accuracy(task.variant)))
        work.on_result(task, result(accuracy(task.variant)))

    for _ in range(len(plan.cells) + 1):
        finish(work.next(1)[0])
    again = PathWork(plan, done, 1)
    assert again.planned == work.planned
    assert again.done == len(plan.cells) + 1
    rest: list[tuple[str, int]] = []
    while tasks := again.next(1):
        rest += [(task.variant, task.seed) for task in tasks]
        again.on_result(tasks[0], result(accuracy(tasks[0].variant)))
    assert len(rest) == len(set(rest)) == 3 * plan.seeds - 1
    assert not {(t.user_attrs["variant"], t.user_attrs["seed"]) for t in done} & set(rest)


def test_a_cell_that_is_given_up_ends_the_path() -> None:
    plan = plan_of_three()
    work = PathWork(plan, [], 1)
    first = work.next(1)[0]
    work.give_up(first)
    while tasks := work.next(1):
        work.on_result(tasks[0], result(accuracy(tasks[0].variant)))
    assert work.done == len(plan.cells) - 1


@pytest.mark.parametrize("changes", [{"design": "factorial"}, {"factors": {}}])
def test_only_an_ablation_with_factors_has_a_path(changes: dict[str, object]) -> None:
    with pytest.raises(UserError, match="--path: is for ablations"):
        PathWork(tiny(**changes), [], 1)
