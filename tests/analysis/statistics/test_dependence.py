"""Partial dependence: what each parameter does, the others being as they were tried."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState
from PIL import Image

from analysis.misclassified import mistakes, png
from analysis.statistics.dependence import Dependence, dependences
from analysis.trials import Trial
from tests.support.studies import SEARCH, read, searched

Params = dict[str, Any]


def stored(folder: Path, rows: Iterable[FrozenTrial]) -> list[Trial]:
    return read(folder, rows, SEARCH)[1]


def drawn(accuracy: Callable[[Params], float], number: int = 60) -> list[FrozenTrial]:
    """Make finished trials of random parameters."""
    rng = np.random.default_rng(0)
    rows = []
    for candidate in range(number):
        params: Params = {
            "optimizer": ["adam", "sgd"][int(rng.integers(2))],
            "learning_rate": float(10 ** rng.uniform(-4, -1)),
            "width": int(rng.integers(8, 65)),
        }
        if params["optimizer"] == "sgd":
            params["momentum"] = float(rng.uniform(0, 0.99))
        value = accuracy(params) + 0.001 * rng.normal()
        rows.append(searched(SEARCH, params, candidate, value))
    return rows


def of(folder: Path, rows: Iterable[FrozenTrial], *names: str) -> list[Dependence]:
    return dependences(stored(folder, rows), names)


def test_a_parameter_that_matters_is_found_and_one_that_does_not_is_flat(tmp_path: Path) -> None:
    def peaked(params: Params) -> float:
        return float(0.9 - 0.05 * abs(np.log10(params["learning_rate"]) + 2.5))

    rate, width = of(tmp_path, drawn(peaked), "learning_rate", "width")
    best = rate.grid[int(np.argmax(rate.mean))]
    assert 1e-3 < best < 1e-2
    assert rate.logarithmic
    assert np.ptp(rate.mean) > 0.04
    assert np.ptp(width.mean) < 0.01
    assert all(
        low < mean < high for low, mean, high in zip(rate.low, rate.mean, rate.high, strict=True)
    )


def test_a_confounded_parameter_is_not_blamed(tmp_path: Path) -> None:
    # Wide networks were only tried with a good rate: their mean is high, their effect is none.
    rng = np.random.default_rng(1)
    rows = []
    for candidate in range(200):
        good = bool(rng.integers(2))
        wide = good or rng.random() < 0.2
        params = {
            "optimizer": "adam",
            "learning_rate": float(10 ** rng.uniform(*((-3, -2) if good else (-2, -1)))),
            "width": int(rng.integers(40, 65) if wide else rng.integers(8, 25)),
        }
        rows.append(searched(SEARCH, params, candidate, 0.9 if good else 0.8))
    width, rate = of(tmp_path, rows, "width", "learning_rate")
    apparent = float(np.mean([value for level, value in width.trials if level >= 40])) - 0.8
    assert apparent > 0.07
    assert np.ptp(width.mean) < apparent / 2
    assert np.ptp(rate.mean) > 2 * np.ptp(width.mean)


def test_a_conditional_parameter_is_judged_by_the_trials_that_have_it(tmp_path: Path) -> None:
    def by_momentum(params: Params) -> float:
        return 0.8 + 0.1 * float(params.get("momentum", 0.5))

    momentum, optimizer = of(tmp_path, drawn(by_momentum, 120), "momentum", "optimizer")
    assert momentum.mean[-1] - momentum.mean[0] > 0.05
    assert len(momentum.trials) < 120
    assert (optimizer.categorical, optimizer.grid) == (True, ["adam", "sgd"])


def test_a_range_of_few_whole_numbers_is_tried_at_each(tmp_path: Path) -> None:
    rows = [
        searched(SEARCH, {"optimizer": "adam", "learning_rate": 0.01, "width": 8 + number % 4},
                 number, 0.8 + number % 4 / 100)
        for number in range(40)
    ]  # fmt: skip
    (width,) = of(tmp_path, rows, "width", "learning_rate")  # which has one value only
    assert width.grid == [8, 9, 10, 11]
    assert width.mean == pytest.approx([0.80, 0.81, 0.82, 0.83], abs=2e-3)


def test_too_few_trials_and_pruned_ones_say_nothing(tmp_path: Path) -> None:
    rows = drawn(lambda _: 0.9, 10)
    params = {"optimizer": "adam", "learning_rate": 0.01, "width": 8}
    rows += [
        searched(SEARCH, params, number, 0.5, state=TrialState.PRUNED, epochs=1)
        for number in range(10, 30)
    ]
    assert of(tmp_path, rows, "width") == []


def test_the_same_trials_give_the_same_curve(tmp_path: Path) -> None:
    found = stored(tmp_path, drawn(lambda params: params["width"] / 100))
    assert dependences(found, ["width"]) == dependences(found, ["width"])


def test_a_picture_is_read_as_it_was_written() -> None:
    picture = Image.open(io.BytesIO(png(bytes(range(9)), 3)))
    assert (picture.mode, picture.size) == ("L", (3, 3))
    assert picture.tobytes() == bytes(range(9))


def test_a_checkpoint_without_mistakes_has_none(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    assert mistakes(path) == []
    for content in ("", "[]", '{"confused": 3}', '{"confused": null}'):
        path.with_suffix(".json").write_text(content)
        assert mistakes(path) == []
