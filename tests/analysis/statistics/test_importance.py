"""Importance: what matters comes first, intervals are honest, odd spaces are told about."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, create_trial

from analysis.statistics import importance
from analysis.statistics.importance import ENOUGH, FANOVA, PED_ANOVA, Importances, importances
from analysis.trials import Trial
from tests.support.studies import SEARCH, read, searched, small_search

SPACE: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "dropout": FloatDistribution(0, 0.5),
    "width": IntDistribution(8, 64),
    "batch_size": IntDistribution(16, 256, log=True),
    "pooling": CategoricalDistribution(["max", "avg"]),
    "batchnorm": CategoricalDistribution([True, False]),
    "activation": CategoricalDistribution(["relu", "gelu", "silu"]),
    "label_smoothing": FloatDistribution(0, 0.3),
    "weight_decay": FloatDistribution(1e-6, 1e-2, log=True),
    "depth": IntDistribution(1, 4),
}


def draw(distribution: BaseDistribution, rng: np.random.Generator) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[rng.integers(len(distribution.choices))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    value = (
        math.exp(rng.uniform(math.log(low), math.log(high)))
        if distribution.log
        else rng.uniform(low, high)
    )
    return round(value) if isinstance(distribution, IntDistribution) else value


def accuracy(params: dict[str, Any], rng: np.random.Generator) -> float:
    """Nearly all by the learning rate, best at 3e-3; a little by pooling."""
    off = math.log10(params["learning_rate"] / 3e-3)
    return float(0.9 - 0.03 * off**2 + 0.002 * (params["pooling"] == "avg") + rng.normal(0, 0.002))


def search(
    folder: Path,
    n: int,
    objective: Callable[[dict[str, Any], np.random.Generator], float] = accuracy,
    space: dict[str, BaseDistribution] = SPACE,
    keep: Callable[[str, dict[str, Any]], bool] = lambda name, params: True,
) -> list[Trial]:
    rng = np.random.default_rng(0)
    rows: list[FrozenTrial] = []
    for number in range(n):
        drawn = {name: draw(own, rng) for name, own in space.items()}
        params = {name: value for name, value in drawn.items() if keep(name, drawn)}
        rows.append(
            create_trial(
                value=objective(params, rng),
                params=params,
                distributions={name: space[name] for name in params},
                user_attrs={"variant": f"#{number}", "candidate": number, "seed": 0},
            )
        )
    return read(folder, rows, SEARCH)[1]


def names(found: Importances) -> list[str]:
    return [one.parameter for one in found.parameters]


@pytest.mark.parametrize(
    ("resamples", "forests"),
    [
        (20, 10),
        pytest.param(
            importance.RESAMPLES, importance.FOREST_RESAMPLES, marks=pytest.mark.slow, id="all"
        ),
    ],
)
def test_the_parameter_that_explains_most_is_first_and_apart_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resamples: int, forests: int
) -> None:
    monkeypatch.setattr(importance, "RESAMPLES", resamples)
    monkeypatch.setattr(importance, "FOREST_RESAMPLES", forests)
    rows = search(tmp_path, 200)
    start = time.process_time()
    found = importances(rows)
    taken = time.process_time() - start

    assert (found.trials, found.warning, found.left_out) == (200, None, {})
    first, *others = found.parameters
    assert first.parameter == "learning_rate"
    assert len(others) == 9
    for method in ("ped_anova", "fanova"):
        shares = [getattr(one, method) for one in found.parameters]
        assert sum(own.share for own in shares) == pytest.approx(1)
        assert all(0 <= own.low <= own.share <= own.high <= 1 for own in shares)
        assert shares[0].low > max(own.high for own in shares[1:])
    # Variance by the learning rate: 0.03 * u**2 for u from -1.48 to 1.52; beside it, 0.002.
    assert first.fanova is not None
    assert first.fanova.share > 0.9
    assert taken < 60  # about 6 s on an idle core with all resamples


def test_the_result_depends_on_the_seed_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importance, "RESAMPLES", 5)
    monkeypatch.setattr(importance, "FOREST_RESAMPLES", 3)
    rows = search(tmp_path, 60)
    before = optuna.logging.get_verbosity()
    np.random.seed(1)
    one = importances(rows)
    np.random.seed(2)
    assert importances(rows) == one
    assert importances(rows, seed=1) != one
    assert optuna.logging.get_verbosity() == before


def test_a_logarithmic_range_counts_every_order_of_magnitude(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importance, "RESAMPLES", 2)
    monkeypatch.setattr(importance, "FOREST_RESAMPLES", 2)
    space = {
        "learning_rate": FloatDistribution(1e-6, 1, log=True),
        "dropout": FloatDistribution(0, 1),
    }

    def objective(params: dict[str, Any], rng: np.random.Generator) -> float:
        # All that the learning rate does, it does below a hundredth of its range.
        return float((params["learning_rate"] > 1e-3) + 0.5 * params["dropout"]) / 2

    found = importances(search(tmp_path, 100, objective, dict(space)))
    shares = {one.parameter: one.fanova for one in found.parameters}
    # Variances: 1/16 and 1/192.
    assert shares["learning_rate"] is not None
    assert shares["learning_rate"].share == pytest.approx(12 / 13, abs=0.05)


def test_conditional_parameters_are_in_ped_anova_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importance, "RESAMPLES", 5)
    monkeypatch.setattr(importance, "FOREST_RESAMPLES", 5)
    space: dict[str, BaseDistribution] = {
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "learning_rate": SPACE["learning_rate"],
        "momentum": FloatDistribution(0, 0.99),
        "kernel_size": CategoricalDistribution([3]),
    }

    def objective(params: dict[str, Any], rng: np.random.Generator) -> float:
        return 0.8 + 0.1 * float(params.get("momentum", 0.5)) + float(rng.normal(0, 0.001))

    found = importances(
        search(
            tmp_path,
            80,
            objective,
            space,
            keep=lambda name, params: name != "momentum" or params["optimizer"] == "sgd",
        )
    )
    assert names(found)[0] == "momentum"
    assert set(names(found)) == {"optimizer", "learning_rate", "momentum"}
    missing = {one.parameter: one.fanova is None for one in found.parameters}
    assert missing == {"optimizer": False, "learning_rate": False, "momentum": True}
    assert found.left_out == {
        "kernel_size": "left out, as it has one value only",
        "momentum": "not in fANOVA, as not every trial has it",
    }


def test_few_trials_are_warned_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "RESAMPLES", 3)
    monkeypatch.setattr(importance, "FOREST_RESAMPLES", 3)
    space = {name: SPACE[name] for name in ("learning_rate", "pooling")}
    rows = search(tmp_path, ENOUGH, space=space)

    assert importances(rows).warning is None
    hint = importances(rows[: ENOUGH - 1])
    assert hint.parameters
    assert hint.warning is not None
    assert "With 49 finished trials this is a hint at most" in hint.warning
    few = importances(rows[:10])
    assert few.parameters == []
    assert few.warning == "10 finished trials are too few to say which parameters matter."


def test_equal_accuracies_explain_nothing(tmp_path: Path) -> None:
    rows = search(tmp_path, 20, lambda params, rng: 0.9)
    found = importances(rows)
    assert found.parameters == []
    assert found.warning == "All accuracies are the same: there is nothing to explain."


def test_pruned_trials_and_replicates_do_not_count(tmp_path: Path) -> None:
    rows = read(tmp_path, small_search(), SEARCH)[1]
    assert importances(rows).trials == 5


def test_a_starting_point_outside_the_space_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importance, "RESAMPLES", 2)
    monkeypatch.setattr(importance, "FOREST_RESAMPLES", 2)
    own = {"optimizer": "adam", "learning_rate": 3e-3}
    rows = [
        searched(SEARCH, {**own, "width": 10 + number}, number, 0.9 + number / 1000)
        for number in range(15)
    ]
    found = read(tmp_path, rows, SEARCH)[1]
    found[0].params["width"] = 500

    assert importances(found).trials == 14


@pytest.mark.slow
def test_after_a_sampler_that_learns_the_order_is_fanovas(tmp_path: Path) -> None:
    rows = search(tmp_path, 12)
    for sampler in ("tpe", None):
        found = importances(rows, sampler)
        shares = [-1.0 if one.fanova is None else one.fanova.share for one in found.parameters]
        assert found.ranked_by == FANOVA
        assert shares == sorted(shares, reverse=True)
        assert found.warning is not None
        assert "fANOVA" in found.warning
    assert importances(rows, "qmc").ranked_by == PED_ANOVA


def test_a_parameter_without_effect_that_tpe_crowds_is_not_ranked_high(tmp_path: Path) -> None:
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=1, multivariate=True)
    )

    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr("variant", f"#{trial.number}")
        trial.set_user_attr("candidate", trial.number)
        trial.set_user_attr("seed", 0)
        strong, weak = (trial.suggest_float(name, 0, 1) for name in ("strong", "weak"))
        trial.suggest_categorical("nothing", ["a", "b", "c"])
        return 0.9 - 0.1 * (strong - 0.3) ** 2 - 0.03 * (weak - 0.6) ** 2

    study.optimize(objective, 60)
    found = importances(read(tmp_path, study.trials, SEARCH)[1], "tpe")
    assert found.parameters[0].parameter == "strong"
    (nothing,) = (one for one in found.parameters if one.parameter == "nothing")
    assert nothing.fanova is not None
    assert nothing.fanova.share < 0.1
