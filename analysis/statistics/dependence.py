"""How the accuracy of a search depends on each parameter, the others being as they were tried.

Partial dependence (Friedman, Annals of Statistics 29, 2001): a forest is fitted to the trials, and
its prediction is averaged over trials in which the parameter is set to one value after the other.
Where a sampler tried some regions more than others, this is fairer than averaging the trials that
happen to have a value; what no trial has shown, the forest does not know either.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.statistics.candidates import first_trials
from analysis.statistics.importance import FEWEST, LARGEST_RESAMPLE
from analysis.statistics.power import CONFIDENCE
from analysis.trials import Trial, finished

FORESTS = 20  # each of its own resample of the trials
TREES = 10  # in each of them
LEAF = 3  # trials in a leaf, at least
POINTS = 15  # of the curve of a number
BACKGROUND = 100  # trials that a prediction is averaged over


@dataclass(frozen=True)
class Dependence:
    """Accuracy, a fraction, by the value of one parameter."""

    parameter: str
    logarithmic: bool
    categorical: bool
    grid: list[Any]  # (p,) values or, of a categorical parameter, levels
    mean: list[float]  # (p,) over the resamples
    low: list[float]  # (p,) 95 % interval over resamples of the trials
    high: list[float]
    trials: list[tuple[Any, float]]  # value and accuracy of each trial that has the parameter


@dataclass(frozen=True)
class _Parameter:
    name: str
    choices: list[Any] | None  # None: a number
    logarithmic: bool

    def encode(self, value: Any) -> list[float]:
        """Return the features of a value; of none, what no value has."""
        if self.choices is not None:
            return [float(choice == value) for choice in self.choices]
        if value is None:
            return [math.nan]
        return [math.log(value) if self.logarithmic else float(value)]


def dependences(
    trials: Sequence[Trial], parameters: Iterable[str], seed: int = 0
) -> list[Dependence]:
    """Estimate the partial dependence of the validation accuracy on some parameters of a search.

    Counted are the finished trials of the search, without replicates. The interval is that of the
    mean over 20 resamples of the trials, a forest for each: mean ± 1.96 standard deviations. It
    does not hold what the forest cannot express.

    Returns:
        One for each parameter that has at least two values; none for fewer than 11 trials.
    """
    done = finished(first_trials(trials))
    by_name = _parameters(done)
    wanted = [by_name[name] for name in parameters if name in by_name]
    if len(done) < FEWEST or not wanted:
        return []
    rng = np.random.default_rng(seed)
    features = list(by_name.values())
    x = _features(features, done)
    y = np.array([trial.value for trial in done], float)
    forests = _forests(x, y, rng)
    return [_dependence(parameter, features, done, x, forests) for parameter in wanted]


def _parameters(trials: Iterable[Trial]) -> dict[str, _Parameter]:
    parameters = {}
    for trial in trials:
        for name, text in trial.distributions.items():
            if name not in parameters:
                distribution = json.loads(text)
                attributes = distribution["attributes"]
                parameters[name] = _Parameter(
                    name, attributes.get("choices"), bool(attributes.get("log"))
                )
    values: dict[str, set[str]] = {name: set() for name in parameters}
    for trial in trials:
        for name, value in trial.params.items():
            values[name].add(repr(value))
    return {name: parameter for name, parameter in parameters.items() if len(values[name]) > 1}


def _features(parameters: Sequence[_Parameter], trials: Sequence[Trial]) -> NDArray[np.float64]:
    rows = [
        [
            number
            for parameter in parameters
            for number in parameter.encode(trial.params.get(parameter.name))
        ]
        for trial in trials
    ]
    x = np.array(rows, float)
    # Trees split by order: a parameter that a trial does not have lies below all that others have.
    lowest = np.nanmin(np.where(np.isfinite(x), x, np.inf), axis=0)
    return np.where(np.isfinite(x), x, lowest - 1)


def _forests(
    x: NDArray[np.float64], y: NDArray[np.float64], rng: np.random.Generator
) -> list[list[Any]]:
    from sklearn.tree import DecisionTreeRegressor

    size = min(len(y), LARGEST_RESAMPLE)
    forests = []
    for _ in range(FORESTS):
        sample = rng.integers(0, len(y), size)
        trees = []
        for _ in range(TREES):
            drawn = sample[rng.integers(0, size, size)]
            tree = DecisionTreeRegressor(
                min_samples_leaf=LEAF, max_features=0.7, random_state=int(rng.integers(2**31))
            )
            trees.append(tree.fit(x[drawn], y[drawn]))
        forests.append(trees)
    return forests


def _dependence(
    parameter: _Parameter,
    features: Sequence[_Parameter],
    trials: Sequence[Trial],
    x: NDArray[np.float64],
    forests: Sequence[Sequence[Any]],
) -> Dependence:
    having = [index for index, trial in enumerate(trials) if parameter.name in trial.params]
    background = x[[having[round(i)] for i in np.linspace(0, len(having) - 1, BACKGROUND)]]
    start = 0
    for feature in features:
        width = 1 if feature.choices is None else len(feature.choices)
        if feature is parameter:
            break
        start += width
    values = [trials[index].params[parameter.name] for index in having]
    grid = _grid(parameter, values)
    rows = np.tile(background, (len(grid), 1))
    encoded = np.array([parameter.encode(value) for value in grid], float)
    rows[:, start : start + width] = np.repeat(encoded, len(background), axis=0)
    curves = np.array(
        [
            np.mean([tree.predict(rows) for tree in trees], axis=0)
            .reshape(len(grid), -1)
            .mean(axis=1)
            for trees in forests
        ]
    )  # [forests, grid]
    mean = curves.mean(axis=0)
    half = special.ndtri((1 + CONFIDENCE) / 2) * curves.std(axis=0, ddof=1)
    return Dependence(
        parameter=parameter.name,
        logarithmic=parameter.logarithmic,
        categorical=parameter.choices is not None,
        grid=grid,
        mean=mean.tolist(),
        low=np.maximum(mean - half, 0.0).tolist(),  # no accuracy lies beyond 0 and 1
        high=np.minimum(mean + half, 1.0).tolist(),
        trials=[
            (value, value_of)
            for value, index in zip(values, having, strict=True)
            if (value_of := trials[index].value) is not None
        ],
    )


def _grid(parameter: _Parameter, values: Sequence[Any]) -> list[Any]:
    if parameter.choices is not None:
        return [choice for choice in parameter.choices if choice in values]
    low, high = min(values), max(values)
    if isinstance(low, int) and high - low < POINTS:
        return list(range(low, high + 1))
    if parameter.logarithmic:
        return [float(value) for value in np.geomspace(low, high, POINTS)]
    return [float(value) for value in np.linspace(low, high, POINTS)]
