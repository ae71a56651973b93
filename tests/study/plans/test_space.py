"""The `[search]` table: what it may say, and what becomes of it."""

import json
import math
import warnings
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.plans.plan import Plan, load_plan
from study.plans.space import every_point, parse_search, suggest
from study.plans.variants import factor_names
from trainer.config import TrainConfig
from trainer.errors import UserError

BASE = TrainConfig(learning_rate=1e-3, optimizer="adam", depth=2)
RATE = {"low": 1e-4, "high": 1e-1, "log": True}


def _under(**condition: Any) -> dict[str, Any]:
    return {"low": 0.1, "high": 0.95, "when": condition}


def search(**table: Any) -> Any:
    return parse_search({"space": {"learning_rate": RATE}, **table}, BASE, factor_names(BASE))


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"trails": 3}, "search key = 'trails'"),
        ({"trials": 0}, "search.trials = 0"),
        ({"trials": True}, "search.trials = True"),
        ({"trials": "many"}, "search.trials = 'many'"),
        ({"sampler": "annealing"}, "search.sampler = 'annealing': choose from tpe"),
        ({"pruner": "best"}, "search.pruner = 'best'"),
        ({"objectives": ["test_accuracy"]}, "search.objectives"),
        ({"objectives": ["val_accuracy", "test_accuracy"]}, "search.objectives = 'test_accuracy'"),
        (
            {"objectives": ["val_accuracy", "parameters"], "pruner": "asha"},
            "search.pruner = 'asha'",
        ),
        ({"sampler": "gp", "trials": 501}, "search.trials = 501"),
        ({"sampler": "grid"}, "search.space.learning_rate: the grid sampler"),
        ({"space": {}}, "search.space: is missing"),
        ({"space": {"learning_rte": RATE}}, "search.space = 'learning_rte'"),
        ({"space": {"learning_rate": 3}}, "search.space.learning_rate = 3"),
        ({"space": {"learning_rate": {"low": 1e-3}}}, "search.space.learning_rate: needs high"),
        ({"space": {"learning_rate": {"low": 0.1, "high": 0.01}}}, "low < high"),
        (
            {"space": {"dropout": {"low": 0.0, "high": 0.5, "log": True}}},
            "search.space.dropout.low",
        ),
        ({"space": {"dropout": {"low": 0.0, "high": 2.0}}}, "search.space.dropout.high"),
        ({"space": {"width": {"low": 16, "high": 64, "step": 0}}}, "search.space.width.step"),
        ({"space": {"width": {"low": 3, "high": 99, "step": 0.5}}}, "must be a whole number"),
        ({"space": {"width": {"low": 3, "high": 99, "step": 1.5}}}, "must be a whole number"),
        ({"space": {"width": {"low": 3, "high": 99, "step": 97}}}, "must be at most 96"),
        ({"space": {"dropout": {"low": 0, "high": 0.5, "step": math.inf}}}, "at most 0.5"),
        ({"space": {"dropout": {"low": 0, "high": 0.5, "step": math.nan}}}, "positive number"),
        ({"space": {"dropout": {"low": 0, "high": 0.5, "step": 1e-300}}}, "more than 100000"),
        ({"space": {"dropout": {"low": 0, "high": 0.5, "step": 5e-324}}}, "more than 100000"),
        ({"space": {"dropout": {"low": 0, "high": 0.5, "step": 10**400}}}, "at most 0.5"),
        ({"space": {"dropout": {"low": 0, "high": 0.5, "step": [0.1]}}}, "positive number"),
        ({"space": {"pooling": ["max", "median"]}}, "search.space.pooling: pooling = 'median'"),
        ({"space": {"pooling": []}}, "search.space.pooling: needs a list"),
        ({"space": {"pooling": ["max", "max"]}}, "search.space.pooling: a level is listed twice"),
        ({"space": {"width": [16, 64]}}, "search.space.width: does not hold the baseline's 32"),
        (
            {"space": {"momentum": {"low": 0.1, "high": 0.9, "when": {"optimiser": ["sgd"]}}}},
            "search.space.momentum.when = 'optimiser'",
        ),
        (
            {"space": {"momentum": {"low": 0.1, "high": 0.9, "when": {"optimizer": "sgd"}}}},
            "search.space.momentum.when.optimizer",
        ),
        (
            {"space": {"optimizer": ["adam", "sgd"], "momentum": _under(optimizer=["SGD"])}},
            "momentum.when.optimizer: optimizer = 'SGD': choose from sgd, adam, adamw",
        ),
        (
            {"space": {"optimizer": ["adam", "sgd"], "momentum": _under(optimizer=["adamw"])}},
            "momentum.when.optimizer = 'adamw': choose from its levels adam, sgd",
        ),
        (
            {"space": {"momentum": _under(optimizer=["sgd"]), "optimizer": ["adam", "sgd"]}},
            "momentum.when.optimizer: comes later in the space",
        ),
        (
            {"space": {"momentum": _under(momentum=[0.9])}},
            "momentum.when.momentum: comes later in the space",
        ),
        (
            {"space": {"depth": {"low": 1, "high": 3}, "momentum": _under(depth=[4])}},
            "momentum.when.depth = 4: lies outside its range from 1 to 3",
        ),
        ({"points": [{"width": 16}]}, "search.points = 'width'"),
        ({"points": [{"learning_rate": 9.0}]}, "search.points: learning_rate = 9.0"),
        ({"points": "none"}, "search.points = 'none'"),
    ],
)
def test_a_malformed_search_is_named_by_its_key(table: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError) as refusal:
        search(**table)
    assert named in str(refusal.value)


def test_a_parameter_matters_only_under_its_condition() -> None:
    space = search(
        space={
            "optimizer": ["adam", "sgd"],
            "momentum": {"low": 0.0, "high": 0.9, "when": {"optimizer": ["sgd"]}},
        }
    ).space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = [suggest(study.ask(), space, BASE) for _ in range(40)]
    assert {own["optimizer"] for own in seen} == {"adam", "sgd"}
    assert all(("momentum" in own) == (own["optimizer"] == "sgd") for own in seen)


def test_a_condition_may_be_on_what_the_baseline_fixes() -> None:
    table = {"residual": {"levels": [True, False], "when": {"depth": [3, 4]}}, "dropout": [0.2]}
    space = search(space=table).space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    assert suggest(study.ask(), space, BASE) == {"dropout": 0.2}
    assert "residual" in suggest(study.ask(), space, BASE.replace(depth=3))


@given(st.integers(0, 10_000))
def test_every_proposal_of_the_catalogue_is_a_valid_config_inside_its_space(seed: int) -> None:
    plan = load_plan("search", dataset="digits")
    assert plan.search is not None
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    params = suggest(study.ask(), plan.search.space, plan.base_config)
    plan.base_config.replace(**params)
    for own in plan.search.space:
        assert own.name not in params or own.holds(params[own.name])


def test_whole_numbers_stay_whole_and_steps_are_kept() -> None:
    space = search(space={"width": {"low": 16, "high": 64, "step": 16}}).space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    widths = {suggest(study.ask(), space, BASE)["width"] for _ in range(40)}
    assert widths == {16, 32, 48, 64}
    assert all(isinstance(width, int) for width in widths)
    assert space[0].grid() == (16, 32, 48, 64)


def test_a_grid_has_no_more_trials_than_points() -> None:
    space = {"width": [16, 32], "pooling": ["max", "avg"]}
    assert search(sampler="grid", space=space).trials == 4
    assert search(sampler="grid", space=space, trials=3).trials == 3
    assert search(sampler="grid", space=space, trials=30).trials == 4


@given(st.integers(1, 10), st.integers(0, 40), st.integers(0, 40))
def test_steps_are_the_decimals_that_are_written(step: int, before: int, after: int) -> None:
    least, most = max(20 - step * before, 20 % step), min(20 + step * after, 99)
    numbers = [n / 100 for n in range(least, most + 1, step)]  # the baseline's 0.2 among them
    if len(numbers) > 1:
        entry = {"low": numbers[0], "high": numbers[-1], "step": step / 100}
        (dropout,) = search(space={"dropout": entry}).space
        assert list(dropout.grid() or ()) == numbers
        assert [dropout.nearest(n + 1e-9) for n in numbers] == numbers
        assert dropout.last == numbers[-1]


def test_a_range_ends_at_its_last_step() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (dropout,) = search(space={"dropout": {"low": 0.0, "high": 0.5, "step": 0.3}}).space
        assert dropout.grid() == (0.0, 0.3)
        distribution = dropout.distribution()
        assert (distribution.low, distribution.high) == (0.0, 0.3)


def test_every_point_comes_once_and_under_conditions_only_what_matters() -> None:
    space = {
        "optimizer": ["adam", "sgd"],
        "momentum": {"low": 0.5, "high": 0.9, "step": 0.2, "when": {"optimizer": ["sgd"]}},
    }
    points = list(every_point(search(space=space).space, BASE))
    momenta = [{"optimizer": "sgd", "momentum": value} for value in (0.5, 0.7, 0.9)]
    assert points == [{"optimizer": "adam"}, *momenta]
    assert search(space=space, sampler="grid").trials == 4
    assert search(space=space, sampler="tpe", trials=12).trials == 4
    assert search(space=space, sampler="tpe", trials=12).exhaustive
    assert not search(space=space, sampler="tpe", trials=3).exhaustive


def test_a_baseline_or_point_between_steps_is_a_point_more() -> None:
    space = {"dropout": {"low": 0.0, "high": 0.75, "step": 0.25}}
    own = search(space=space, sampler="grid", points=[{"dropout": 0.6}])
    assert own.trials == 6
    points = [point["dropout"] for point in every_point(own.space, BASE, own.points)]
    assert points == [0.2, 0.6, 0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("name", ["search", "pareto"])
def test_a_stored_search_reads_back_as_the_same_study(name: str) -> None:
    plan = load_plan(name)
    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again.hash == plan.hash
    assert again.search is not None
    assert plan.search is not None
    assert again.search.space == plan.search.space


def test_more_trials_or_another_sampler_go_on_with_the_study_another_space_does_not() -> None:
    values = {
        "name": "s",
        "design": "search",
        "search": {"trials": 5, "space": {"learning_rate": RATE}},
    }
    plan = Plan.from_dict(values)
    assert plan.override(trials=50).hash == plan.hash
    other = {**values["search"], "sampler": "random"}  # type: ignore[dict-item] # it is the table
    assert Plan.from_dict({**values, "search": other}).hash == plan.hash
    narrow = {"trials": 5, "space": {"learning_rate": {**RATE, "high": 1e-2}}}
    assert Plan.from_dict({**values, "search": narrow}).hash != plan.hash


def test_trials_are_for_searches_only() -> None:
    with pytest.raises(UserError, match="trials = 5: is for searches"):
        load_plan("ablation").override(trials=5)
