"""What is examined: a plan, ours or imported, and its results, seen alike by all checks."""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any, Protocol

from fmnist_common.designs import VariantKey, variant_key
from study.lint.leads import Accuracies
from study.plans.plan import Level, Plan, Row, Variant
from trainer.config import TrainConfig
from trainer.datasets import DATASETS, DataSet


class TrialRecord(Protocol):
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


class Context:
    """A plan and its results.

    Raises:
        UserError: the plan is ours, but not valid.
    """

    def __init__(self, plan: Mapping[str, Any], trials: Sequence[TrialRecord]) -> None:
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
    def figure(self) -> Mapping[str, Any]:
        """What is compared in an imported study: name, unit, which way is better."""
        told: Mapping[str, Any] = (self.imported or {}).get("figure") or {}
        return told

    @property
    def is_accuracy(self) -> bool:
        """Whether values are accuracies, fractions from 0 to 1."""
        return bool(self.figure.get("accuracy", True))

    @property
    def sign(self) -> int:
        """What makes more of a value better: -1 for losses and errors."""
        return -1 if self.figure.get("better") == "lower" else 1

    @property
    def unit(self) -> str:
        """Of values that are no accuracies."""
        return str(self.figure.get("unit", ""))

    @cached_property
    def finished(self) -> list[TrialRecord]:
        """The trials that count: complete, the first of each cell."""
        cells: dict[Hashable, TrialRecord] = {}
        for number, trial in enumerate(self.trials):
            if trial.state == "COMPLETE" and trial.value is not None and math.isfinite(trial.value):
                cell = (trial.label, trial.seed) if self.plan else number
                cells.setdefault(cell, trial)
        return list(cells.values())

    @cached_property
    def by_variant(self) -> Mapping[str, Sequence[TrialRecord]]:
        """The finished trials of each variant."""
        groups: dict[str, list[TrialRecord]] = defaultdict(list)
        for trial in self.finished:
            groups[trial.label].append(trial)
        return groups

    @cached_property
    def rows(self) -> Sequence[Row]:
        """The rows that a plan lists beside its factors' levels."""
        if self.ours is not None:
            return tuple(self.ours.listed)
        return [
            Row(row["factor"], row["level"], Variant(tuple(row["changes"].items())))
            for row in self.plan.get("variants", ())
        ]

    @cached_property
    def variants(self) -> frozenset[VariantKey]:
        """Every variant of an ablation, by what it changes."""
        single = [
            {name: level}
            for name, levels in self.factors.items()
            for level in levels
            if level != self.baseline.get(name)
        ]
        listed = [dict(side.changes) for row in self.rows for side in (row.variant, row.against)]
        return frozenset(map(variant_key, [{}, *single, *listed]))

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
            tried = {
                parameter.name: parameter.levels
                for parameter in self.ours.search.space
                if parameter.levels
            }
        varied = [name for name in fields if name in tried]
        for levels in product(*(tried[name] for name in varied)):
            yield self.config(dict(zip(varied, levels, strict=True)))

    @cached_property
    def _accuracies(self) -> Mapping[VariantKey, Accuracies]:
        groups: dict[VariantKey, dict[Hashable, float]] = defaultdict(dict)
        for trial in self.finished:
            if trial.value is not None:
                groups[variant_key(trial.changes)][trial.seed] = trial.value
        return groups

    def accuracies(self, changes: Mapping[str, Level]) -> Accuracies:
        """Return a variant's accuracies by seed."""
        return self._accuracies.get(variant_key(changes), {})

    @cached_property
    def _reported(self) -> Mapping[VariantKey, Mapping[str, Any]]:
        return {variant_key(entry["changes"]): entry for entry in self.plan.get("reported", ())}

    def reported(self, changes: Mapping[str, Level]) -> float | None:
        """Return the test accuracy that the source reported for a variant."""
        accuracy = self._reported.get(variant_key(changes), {}).get("test_accuracy")
        return None if accuracy is None else float(accuracy)

    def is_reproduced(self, variant: Variant) -> bool:
        """Whether a source reported figures of a variant, so that it is here on purpose."""
        return self.is_reported(dict(variant.changes))

    def is_reported(self, changes: Mapping[str, Level]) -> bool:
        """Whether a source reported figures of what changes so much."""
        return variant_key(changes) in self._reported
