"""The rows of a table: which variants are compared with which, and the trials behind each.

Pure functions of a plan and of trials.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.trials import Trial
from fmnist_common.designs import VariantKey, variant_key

Group = Mapping[Hashable, Trial]  # trials by the condition that pairs them across variants


@dataclass(frozen=True)
class PlannedRow:
    """A row of an ablation's table, before any result."""

    factor: str
    level: Any
    changes: dict[str, Any]  # what differs from the baseline
    against: dict[str, Any]  # the same of what it is compared with; {}: the baseline itself

    @property
    def is_reference(self) -> bool:
        """Whether it is only listed because others are compared with it."""
        return same(self.changes, self.against)


def planned_rows(plan: Mapping[str, Any]) -> list[PlannedRow]:
    """List the rows of an ablation's table in plan order, without the baseline; of others, none.

    First the levels of the factors, each a single change of the baseline; then the listed variants.
    One of these may be the baseline or what others are compared with: a row without a difference.
    """
    if plan.get("design") != "ablation":
        return []
    rows = [
        PlannedRow(factor, level, {factor: level}, {})
        for factor, levels in plan.get("factors", {}).items()
        for level in levels
        if level != baseline_level(plan, factor)
    ]
    return rows + [
        PlannedRow(
            variant["factor"],
            variant["level"],
            differing(plan, variant["changes"]),
            differing(plan, variant.get("against") or {}),
        )
        for variant in plan.get("variants") or []
    ]


def differing(plan: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the changes to what a plan's baseline has anyway."""
    base = {**plan.get("baseline", {}), "epochs": plan.get("epochs")}
    return {
        name: level for name, level in changes.items() if name not in base or base[name] != level
    }


def same(changes: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether two sets of changes make the same variant."""
    return variant_key(changes) == variant_key(others)


def baseline_level(plan: Mapping[str, Any], factor: str) -> Any:
    """Return the level that the other levels of a factor are compared with.

    A factorial need not contain the baseline's level: then it is the first one.
    """
    levels = plan["factors"][factor]
    level = plan.get("baseline", {}).get(factor, levels[0])
    return levels[0] if plan.get("design") == "factorial" and level not in levels else level


def groups(plan: Mapping[str, Any], done: Iterable[Trial]) -> list[tuple[PlannedRow, Group, Group]]:
    """Give each row of the table its trials, and those it is compared with.

    A group holds finished trials by what pairs them: the seed; in a factorial the other factors'
    levels and the seed.
    """
    of = _factorial_groups if plan.get("design") == "factorial" else _listed_groups
    return of(plan, done)


def _listed_groups(
    plan: Mapping[str, Any], done: Iterable[Trial]
) -> list[tuple[PlannedRow, Group, Group]]:
    """Give each row its trials and those it is compared with, by seed."""
    variants: defaultdict[Hashable, dict[Hashable, Trial]] = defaultdict(dict)
    for trial in done:
        if trial.variant is not None:
            variants[variant_key(trial.changes)][trial.seed] = trial
    return [
        (row, variants[variant_key(row.changes)], variants[variant_key(row.against)])
        for row in planned_rows(plan)
    ]


def _factorial_groups(
    plan: Mapping[str, Any], done: Iterable[Trial]
) -> list[tuple[PlannedRow, Group, Group]]:
    """Give each level all cells that have it, and those with the factor's baseline level."""
    factors = plan.get("factors", {})
    groups: defaultdict[tuple[str, Any], dict[Hashable, Trial]] = defaultdict(dict)
    for trial in done:
        for factor in factors:
            others = tuple(trial.params.get(name) for name in factors if name != factor)
            groups[factor, trial.params.get(factor)][others, trial.seed] = trial
    return [
        (
            PlannedRow(factor, level, {factor: level}, {factor: baseline_level(plan, factor)}),
            groups[factor, level],
            groups[factor, baseline_level(plan, factor)],
        )
        for factor, levels in factors.items()
        for level in levels
        if level != baseline_level(plan, factor)
    ]


def planned_points(plan: Mapping[str, Any]) -> set[VariantKey]:
    """Return what identifies each variant of an ablation, the baseline among them."""
    listed = (changes for row in planned_rows(plan) for changes in (row.changes, row.against))
    return {variant_key({}), *map(variant_key, listed)}


def planned_cells(plan: Mapping[str, Any]) -> int | None:
    """Count the (variant, seed) cells of a plan; None for a design without fixed cells.

    Nobody planned an imported study here: what is there is all there is.
    """
    if plan.get("imported"):
        return None
    if plan.get("design") == "ablation":
        variants = len(planned_points(plan))
    elif plan.get("design") == "factorial":
        variants = math.prod(len(levels) for levels in plan.get("factors", {}).values())
    else:
        return None
    return int(variants * plan["seeds"])


def seeds_are_known(plan: Mapping[str, Any]) -> bool:
    """Whether the seeds of a plan's runs are those that they had: not in a table that has none."""
    imported = plan.get("imported")
    return not imported or any("seed" in use for use in imported.get("columns", {}).values())
