"""A factor's levels, each with its accuracies here and the one that was reported."""

from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from fmnist_common.designs import variant_key
from study.lint.context import Context
from study.lint.leads import Accuracies, mean
from study.plans.plan import Level


@dataclass(frozen=True)
class Entry:
    """A level of a factor: what it changes, its accuracies here, and the one reported."""

    level: Level
    changes: Mapping[str, Level]
    accuracies: Accuracies
    reported: float | None


def entries(context: Context, factor: str) -> list[Entry]:
    """List a factor's levels, the baseline's or the compared one among them."""
    if factor in context.factors:
        if context.design == "factorial":
            return _marginal(context, factor)
        levels = list(context.factors[factor])
        base = context.baseline.get(factor)
        if base not in levels:
            levels.insert(0, base)
        places = [(level, {} if level == base else {factor: level}) for level in levels]
    else:
        places = [
            (row.level, dict(row.variant.changes)) for row in context.rows if row.factor == factor
        ]
    return [
        Entry(level, changes, context.accuracies(changes), context.reported(changes))
        for level, changes in places
    ]


def _marginal(context: Context, factor: str) -> list[Entry]:
    """List a factorial's levels, each averaged over the other factors within a seed.

    The cells of one seed share its split and its start, and so are no runs of their own. Of a seed,
    only combinations of the others count that it has for every level.
    """
    levels = context.factors[factor]
    cells: dict[Hashable, dict[Hashable, dict[Level, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for trial in context.finished:
        others = {name: level for name, level in trial.params.items() if name != factor}
        if trial.value is not None:
            cells[trial.seed][variant_key(others)][trial.params.get(factor)] = trial.value
    accuracies: dict[Level, dict[Hashable, float]] = defaultdict(dict)
    for seed, combinations in cells.items():
        whole = [cell for cell in combinations.values() if all(level in cell for level in levels)]
        for level in levels if whole else ():
            accuracies[level][seed] = mean(cell[level] for cell in whole)
    theirs = _reported_margins(context, factor)
    return [Entry(level, {}, accuracies.get(level, {}), theirs.get(level)) for level in levels]


def _reported_margins(context: Context, factor: str) -> Mapping[Level, float]:
    """Average the reported cells of each level, if the source has a figure for every cell."""
    cells: dict[Level, list[float]] = defaultdict(list)
    for entry in context.plan.get("reported", ()):
        if "test_accuracy" in entry:
            level = entry["changes"].get(factor, context.baseline.get(factor))
            cells[level].append(entry["test_accuracy"])
    told = sum(map(len, cells.values()))
    complete = context.ours is not None and told == context.ours.variant_count
    return {level: mean(cell) for level, cell in cells.items()} if complete else {}
