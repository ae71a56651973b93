"""Variants that would train the same network are found, and others are not."""

from typing import Any

import pytest

from study.plans import catalog
from study.plans.plan import Plan, load_plan
from study.plans.unread import as_read, unread_factors, unread_fields
from trainer.config import TrainConfig


def plan(**changes: Any) -> Plan:
    return Plan.from_dict({"name": "p", "dataset": "digits", "epochs": 3, **changes})


UNREAD = {
    "momentum under Adam": ({}, {"momentum": [0.5, 0.9, 0.99]}),
    "patience without early stopping": ({}, {"patience": [2, 4]}),
    "step epochs under one-cycle": ({}, {"step_epochs": [1, 2]}),
    "step factor under cosine": ({"schedule": "cosine"}, {"step_factor": [0.1, 0.5]}),
    "exponential factor under a step": (
        {"schedule": "step", "step_epochs": 1},
        {"exponential_factor": [0.9, 0.99]},
    ),
    "steps that never come": ({"schedule": "step"}, {"step_epochs": [10, 20]}),
    "a factor of steps that never come": ({"schedule": "step"}, {"step_factor": [0.1, 0.5]}),
    "patience longer than the training": ({"early_stopping": "val_loss"}, {"patience": [4, 8]}),
    "a bias under batch norm": ({}, {"conv_bias": [False, True]}),
    "a block without residuals": ({}, {"block": ["bottleneck", "basic"]}),
    "pooling of steps that there are not": ({"depth": 1}, {"pool_steps": ["1+2", "1+3"]}),
    "a kind of pooling where none is": ({"pool_steps": "3"}, {"pooling": ["max", "avg"]}),
    "AdamW without weight decay": ({}, {"optimizer": ["adam", "adamw"]}),
    "Nesterov under Adam": ({}, {"nesterov": [False, True]}),
    "Nesterov without momentum": (
        {"optimizer": "sgd", "momentum": 0.0},
        {"nesterov": [False, True]},
    ),
    "what a decay of 0 acts on": ({}, {"norm_bias_decay": [True, False]}),
}


@pytest.mark.parametrize(("baseline", "factors"), UNREAD.values(), ids=UNREAD)
@pytest.mark.parametrize("design", ["ablation", "factorial"])
def test_levels_that_nothing_reads_are_named(
    design: str, baseline: dict[str, Any], factors: dict[str, Any]
) -> None:
    read = {"dropout": [0.0, 0.2]}
    unread = unread_factors(plan(design=design, baseline=baseline, factors={**read, **factors}))
    assert [own.factor for own in unread] == list(factors)
    assert set(unread[0].levels) >= set(*factors.values())
    assert unread[0].message.startswith(f"{unread[0].factor} = ")
    assert all(label in unread[0].message for label in unread[0].variants[:4])


READ = {
    "momentum under SGD": ({"optimizer": "sgd"}, {"momentum": [0.5, 0.9]}),
    "patience with early stopping": ({"early_stopping": "val_loss"}, {"patience": [1, 2]}),
    "steps that come": ({"schedule": "step"}, {"step_epochs": [1, 2]}),
    "a bias without batch norm": ({"batchnorm": False}, {"conv_bias": [False, True]}),
    "a block of residuals": ({"residual": True}, {"block": ["bottleneck", "basic"]}),
    "pooling of other steps": ({"depth": 3}, {"pool_steps": ["1+2", "1+3"]}),
    "AdamW with weight decay": ({"weight_decay": 0.1}, {"optimizer": ["adam", "adamw"]}),
    "Nesterov under SGD": ({"optimizer": "sgd"}, {"nesterov": [False, True]}),
    "what a decay acts on": ({"weight_decay": 0.1}, {"norm_bias_decay": [True, False]}),
    "averages, mixtures and flips": (
        {},
        {
            "ema": [0.0, 0.9],
            "mixup": [0.0, 0.2],
            "cutmix": [0.0, 1.0],
            "test_time_flip": [False, True],
        },
    ),
}


@pytest.mark.parametrize(("baseline", "factors"), READ.values(), ids=READ)
def test_levels_that_are_read_are_not(baseline: dict[str, Any], factors: dict[str, Any]) -> None:
    assert unread_factors(plan(baseline=baseline, factors=factors)) == ()


def test_a_listed_variant_that_is_another_training_under_a_new_name_is_named() -> None:
    rows = [{"factor": "recipe", "level": "theirs", "changes": {"momentum": 0.5}}]
    (unread,) = unread_factors(plan(variants=rows))
    assert unread.variants == ("baseline", "momentum=0.5")


def test_a_factorial_names_a_factor_that_only_some_of_its_cells_read() -> None:
    factors = {"optimizer": ["adam", "sgd"], "momentum": [0.5, 0.9]}
    (unread,) = unread_factors(plan(design="factorial", factors=factors))
    assert unread.factor == "momentum"
    assert len(unread.variants) == 2  # those of Adam


@pytest.mark.parametrize(
    ("space", "names"),
    [
        ({"momentum": {"low": 0.5, "high": 0.9}}, ["momentum"]),
        ({"optimizer": ["adam", "sgd"], "momentum": {"low": 0.5, "high": 0.9}}, []),
        ({"patience": [2, 4], "early_stopping": ["none", "val_loss"]}, []),
        (
            {"schedule": ["one-cycle", "cosine"], "step_epochs": {"low": 1, "high": 2}},
            ["step_epochs"],
        ),
        ({"block": ["bottleneck", "basic"]}, ["block"]),
        ({"residual": [False, True], "block": ["bottleneck", "basic"]}, []),
        ({"residual": {"levels": [False, True], "when": {"depth": [3]}}}, ["residual"]),
        (
            {
                "depth": {"low": 1, "high": 3},
                "residual": {"levels": [False, True], "when": {"depth": [3]}},
            },
            [],
        ),
    ],
)
def test_a_search_names_parameters_that_no_point_reads(
    space: dict[str, Any], names: list[str]
) -> None:
    baseline = {"patience": 4, "step_epochs": 2}
    own = plan(design="search", baseline=baseline, search={"trials": 4, "space": space})
    assert [unread.factor for unread in unread_factors(own)] == names


def test_what_is_read_is_kept_and_what_is_not_is_one_value() -> None:
    config = TrainConfig(momentum=0.5, learning_rate=0.1)
    assert "momentum" in unread_fields(config)
    assert as_read(config) == TrainConfig(learning_rate=0.1)
    assert as_read(config.replace(optimizer="sgd")).momentum == 0.5


@pytest.mark.parametrize("name", catalog.names())
def test_the_catalogue_trains_no_network_under_two_names(name: str) -> None:
    assert unread_factors(load_plan(name)) == ()
