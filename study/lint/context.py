"""What is examined: a plan, ours or imported, and its results, seen alike by all checks."""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Protocol

from study.plans.plan import Level, Plan, Row, Variant
from trainer.config import TrainConfig
from trainer.datasets import DATASETS, DataSet

ENOUGH = 3  # replicates; two leave one degree of freedom, and any two may agree by chance
CONFIDENCE = 0.95
ROUNDING = 1e-12  # accuracies that differ by less are equal


class Result(Protocol):
    """What is read of a trial; accuracies are fractions."""

    @property
    def state(self) -> str:
        """COMPLETE, FAIL, PRUNED, RUNNING or WAITING."""

    @property
    def label(self) -> str:
        """Its variant."""

    @property
    def value(self) -> float | None:
        """The compared accuracy."""

    @property
    def seed(self) -> int | None:
        """Its replicate seed."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Factor -> level."""

    @property
    def changes(self) -> Mapping[str, Any]:
        """What differs from the baseline."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Every setting."""

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """Its epochs."""

    @property
    def val_loss(self) -> float | None:
        """Validation loss at the best epoch."""

    @property
    def test_loss(self) -> float | None:
        """Test loss at the best epoch."""

    @property
    def test_accuracy(self) -> float | None:
        """Test accuracy at the best epoch."""


Point = frozenset[tuple[str, str]]
Values = Mapping[Hashable, float]  # accuracy by what pairs it with another variant's


def point(changes: Mapping[str, Any]) -> Point:
    """Return what identifies a variant, in whatever order its changes were written."""
    return frozenset((name, repr(level)) for name, level in changes.items())


def mean(values: Iterable[float]) -> float:
    """Return the mean of at least one value."""
    own = list(values)
    return math.fsum(own) / len(own)


def standard_error(accuracy: float, images: int) -> float:
    """Return the binomial standard error of an accuracy measured on so many images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


@dataclass(frozen=True)
class Lead:
    """How far one level is ahead of another. Accuracies are fractions."""

    mean: float
    low: float | None = None  # of the 95 % interval; None for fewer than two pairs, or no spread
    high: float | None = None
    p_value: float = 1.0  # two-sided, of no difference

    def is_proven(self, comparisons: int = 1) -> bool:
        """Whether it is more than chance, as one of so many comparisons (Bonferroni)."""
        return self.mean > 0 and self.p_value * comparisons <= 1 - CONFIDENCE

    def __str__(self) -> str:
        text = f"{100 * self.mean:.2f} points"
        if self.low is None or self.high is None:
            return text
        return f"{text} [{100 * self.low:.2f}, {100 * self.high:.2f}]"


def lead(level: Values, other: Values) -> Lead:
    """Estimate level minus other, with the paired t interval (Student 1908) if there are pairs."""
    shared = level.keys() & other.keys()
    if len(shared) < 2:
        return Lead(mean(level.values()) - mean(other.values()))
    from scipy import special

    deltas = [level[key] - other[key] for key in shared]
    n, middle = len(deltas), mean(deltas)
    error = math.sqrt(math.fsum((delta - middle) ** 2 for delta in deltas) / (n - 1) / n)
    if error < ROUNDING:
        return Lead(middle)
    half = float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * error
    p_value = 2 * float(special.stdtr(n - 1, -abs(middle) / error))
    return Lead(middle, middle - half, middle + half, p_value)


class Case:
    """A plan and its results.

    Raises:
        UserError: the plan is ours, but not valid.
    """

    def __init__(self, plan: Mapping[str, Any], trials: Sequence[Result]) -> None:
        self.plan = plan
        self.trials = trials
        self.imported: Mapping[str, Any] | None = plan.get("imported")
        self.ours = Plan.from_dict(plan) if plan and self.imported is None else None
        self.design: str | None = plan.get("design")
        self.source: Mapping[str, Any] | None = plan.get("source")
        self.factors: Mapping[str, Sequence[Level]] = plan.get("factors", {})
        self.baseline: Mapping[str, Level] = plan.get("baseline", {})

    @cached_property
    def facts(self) -> DataSet | None:
        """What is known of the data set; of one that is not named, nothing."""
        return DATASETS.get(str(self.plan.get("dataset")))

    @cached_property
    def finished(self) -> list[Result]:
        """The trials that count: complete, the first of each cell."""
        cells: dict[Hashable, Result] = {}
        for number, trial in enumerate(self.trials):
            if trial.state == "COMPLETE" and trial.value is not None and math.isfinite(trial.value):
                cell = (trial.label, trial.seed) if self.plan else number
                cells.setdefault(cell, trial)
        return list(cells.values())

    @cached_property
    def by_variant(self) -> Mapping[str, Sequence[Result]]:
        """The finished trials of each variant."""
        groups: dict[str, list[Result]] = defaultdict(list)
        for trial in self.finished:
            groups[trial.label].append(trial)
        return groups

    @cached_property
    def rows(self) -> Sequence[Row]:
        """The rows that a plan lists beside its factors' levels."""
        if self.ours is not None:
            return tuple(self.ours.listed)
        return [
            Row(own["factor"], own["level"], Variant(tuple(own["changes"].items())))
            for own in self.plan.get("variants", ())
        ]

    @cached_property
    def variants(self) -> frozenset[Point]:
        """Every variant of an ablation, by what it changes."""
        single = [
            {name: level}
            for name, levels in self.factors.items()
            for level in levels
            if level != self.baseline.get(name)
        ]
        listed = [dict(own.changes) for row in self.rows for own in (row.variant, row.against)]
        return frozenset(map(point, [{}, *single, *listed]))

    def config(self, changes: Mapping[str, Any]) -> TrainConfig:
        """Return the config of a variant of our plan."""
        assert self.ours is not None
        return self.ours.base_config.replace(**changes)

    def configs(self, *fields: str) -> Iterator[TrainConfig]:
        """Yield our plan's configs, as far as they differ in these fields."""
        if self.ours is None:
            return
        if self.ours.design == "ablation":
            yield from (self.config(dict(variant.changes)) for variant in self.ours.variants)
            return
        tried: Mapping[str, Iterable[Level]] = self.factors
        if self.ours.search is not None:
            tried = {own.name: own.levels for own in self.ours.search.space if own.levels}
        varied = [name for name in fields if name in tried]
        for levels in product(*(tried[name] for name in varied)):
            yield self.config(dict(zip(varied, levels, strict=True)))

    @cached_property
    def _values(self) -> Mapping[Point, Values]:
        found: dict[Point, dict[Hashable, float]] = defaultdict(dict)
        for trial in self.finished:
            if trial.value is not None:
                found[point(trial.changes)][trial.seed] = trial.value
        return found

    def values(self, changes: Mapping[str, Level]) -> Values:
        """Return a variant's accuracies by seed."""
        return self._values.get(point(changes), {})

    @cached_property
    def _reported(self) -> Mapping[Point, Mapping[str, Any]]:
        return {point(own["changes"]): own for own in self.plan.get("reported", ())}

    def reported(self, changes: Mapping[str, Level]) -> float | None:
        """Return the test accuracy that the source reported for a variant."""
        found = self._reported.get(point(changes), {}).get("test_accuracy")
        return None if found is None else float(found)

    def is_reproduced(self, variant: Variant) -> bool:
        """Whether a source reported figures of a variant, so that it is here on purpose."""
        return point(dict(variant.changes)) in self._reported
