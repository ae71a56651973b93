"""Marginal effects of a search: the accuracy of the trials by the value of one parameter.

What the trials themselves say, without a model. A sampler tries good regions more often, and there
with other parameters: the accuracy at a value is that of the company it was tried in, which partial
dependence (`analysis/statistics/dependence.py`) evens out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.statistics.candidates import first_trials, mean_interval
from analysis.statistics.effects import summarize
from analysis.trials import Trial, finished

FEW = 8  # values that are shown one by one
PARTS = 4  # of equally many trials, of a number with more values


@dataclass(frozen=True)
class ValueRange:
    """Trials whose value lies from `first` to `last`; of a level, both are the level."""

    first: Any
    last: Any
    n: int
    mean: float  # validation accuracy
    low: float | None  # 95 % t-interval of the mean
    high: float | None


@dataclass(frozen=True)
class Marginal:
    """A parameter's values or parts, rising or in the order they were first tried."""

    parameter: str
    parts: list[ValueRange]


def marginals(trials: Sequence[Trial], *, fractions: bool = True) -> list[Marginal]:
    """Average the finished trials of a search, without replicates, by each parameter's values.

    A parameter is left out where only one value was tried.

    Args:
        trials: of the search.
        fractions: whether values are accuracies.
    """
    done = finished(first_trials(trials))
    names = dict.fromkeys(name for trial in done for name in trial.params)
    averages = [
        _marginal(name, [trial for trial in done if name in trial.params], fractions)
        for name in names
    ]
    return [marginal for marginal in averages if len(marginal.parts) > 1]


def _marginal(name: str, trials: Sequence[Trial], fractions: bool) -> Marginal:
    by_value: dict[Any, list[float]] = {}
    for trial in trials:
        if trial.value is not None:
            by_value.setdefault(trial.params[name], []).append(trial.value)
    values = list(by_value)
    number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if number:
        values.sort()
    groups = [[value] for value in values]
    if number and len(values) > FEW:
        # A value's part is told by how many trials lie below it, so that equal ones stay together.
        counts = np.array([len(by_value[value]) for value in values])
        place = (np.cumsum(counts) - counts) * PARTS // counts.sum()
        groups = [
            [value for value, assigned in zip(values, place, strict=True) if assigned == part]
            for part in range(PARTS)
        ]
    return Marginal(
        name,
        [
            _part(
                group[0], group[-1], [value for key in group for value in by_value[key]], fractions
            )
            for group in groups
            if group
        ],
    )


def _part(first: Any, last: Any, values: Sequence[float], fractions: bool) -> ValueRange:
    summary = summarize(values)
    ends = mean_interval(values, fractions=fractions)
    return ValueRange(first, last, summary.n, summary.mean or 0.0, *ends)
