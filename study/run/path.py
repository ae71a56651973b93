"""The ablation path: from the baseline to the best combination of levels, one factor at a time.

Every step tries each remaining change on top of those taken, and takes the best: the rule is in
`fmnist_common/ablation_path.py`. The first step's trials are the ablation's own; m changes need
m (m - 1) / 2 further variants.

Everything is chosen by validation accuracy, so the path's end is a choice like any other: its own
accuracy is to be read beside its test figure, or confirmed on new seeds.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fmnist_common import ablation_path
from study.plans.plan import Cell, Level, Plan, Variant
from study.plans.variants import variant
from study.run.work import DesignedWork, Task, records, settled_values
from trainer.errors import UserError
from trainer.results import Result

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

CellValues = Mapping[tuple[str | None, int | None], float | None]
"""(variant, seed) -> validation accuracy of a settled cell; None: it gave no result."""


def check_has_path(plan: Plan) -> None:
    """Check that a plan is an ablation with factors.

    Raises:
        UserError: it is not.
    """
    if plan.design != "ablation" or not plan.factors:
        without = "" if plan.factors else " without factors"
        raise UserError(
            f"--path: is for ablations with [factors]; {plan.name} is of design "
            f"{plan.design!r}{without}"
        )


def next_step(plan: Plan, values: CellValues) -> list[Variant]:
    """Return the variants of the path's first unfinished step; none: the path is complete.

    The design's own cells must be settled.
    """

    def is_settled(changes: Mapping[str, Level]) -> bool:
        return _is_settled(plan, variant(plan.base_config, changes), values)

    base = plan.base_config
    for step in ablation_path.steps(best_levels(plan, values), _mean_of(plan, values), is_settled):
        if not step.settled:
            tried = [variant(base, {**step.taken, factor: level}) for factor, level in step.means]
            return [variant for variant in tried if not _is_settled(plan, variant, values)]
    return []


def best_levels(plan: Plan, values: CellValues) -> dict[str, Level]:
    """Return the path's end: the best level of every factor where that beats the baseline."""
    base = plan.base_config.to_dict()
    levels = {
        factor: [level for level in plan.factors[factor] if level != base[factor]]
        for factor in plan.factors
    }
    return ablation_path.target(levels, _mean_of(plan, values))


class PathWork(DesignedWork):
    """An ablation's pending cells, then those of its path. A `Work`.

    Args:
        plan: the ablation.
        trials: the study's trials so far.
        bank_size: members per bank at most.

    Raises:
        UserError: the plan is no ablation with factors.
    """

    def __init__(self, plan: Plan, trials: "Sequence[FrozenTrial]", bank_size: int) -> None:
        check_has_path(plan)
        super().__init__(plan, records(trials), bank_size)
        self.values = settled_values(trials)
        self.open = len(self.tasks)  # tasks queued or running
        self.length: int | None = None  # trials of the whole path, once its end is known
        self._extend()

    def on_result(self, task: Task, result: Result) -> None:
        """Take the result; where it was a step's last, queue the next step."""
        super().on_result(task, result)
        diverged = result.outcome == "diverged"
        self.values[task.variant, task.seed] = None if diverged else result.val_accuracy
        self.open -= 1
        self._extend()

    def _extend(self) -> None:
        """Queue the next step, once nothing is open. A cell that was given up ends the path."""
        if self.open:
            return
        if self.length is None:
            changes = len(best_levels(self.plan, self.values))
            self.length = changes * (changes - 1) // 2 * self.plan.seeds
            self.planned += self.length
            design = {variant.label for variant in self.plan.variants}
            self.done += sum(variant not in design for variant, _ in self.values)
        step = next_step(self.plan, self.values)
        cells = [
            Cell(variant, seed)
            for seed in range(self.plan.seeds)
            for variant in step
            if (variant.label, seed) not in self.values
        ]
        self.open = len(self.add(cells))


def _is_settled(plan: Plan, variant: Variant, values: CellValues) -> bool:
    return all((variant.label, seed) in values for seed in range(plan.seeds))


def _mean_of(plan: Plan, values: CellValues) -> ablation_path.Mean:
    def mean(changes: Mapping[str, Level]) -> float | None:
        label = variant(plan.base_config, changes).label
        accuracies = [values.get((label, seed)) for seed in range(plan.seeds)]
        settled_ones = [value for value in accuracies if value is not None]
        return statistics.fmean(settled_ones) if len(settled_ones) == plan.seeds else None

    return mean
