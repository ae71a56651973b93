"""The levels that a claim compares: their values here, and the figures that its source reported."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import fsum, prod
from typing import Any

from analysis.failures import failures
from analysis.quantity import quantity_of
from analysis.statistics.effects import BySeed, known_values, per_seed, values_by_variant
from analysis.statistics.rows import baseline_level, differing, planned_rows, seeds_are_known
from analysis.trials import Trial, finished
from fmnist_common.designs import variant_key
from fmnist_common.text import level_text


@dataclass(frozen=True)
class Levels:
    """Levels by name, in the plan's order. More of a value is better; accuracies are fractions."""

    keys: Mapping[str, Hashable]  # of each level: what its values are found by
    values: Mapping[Hashable, BySeed]  # by what pairs them; of an ablation all variants'
    theirs: Mapping[str, float]  # test accuracies that the source reported
    lost: frozenset[str]  # those of which a training failed
    sign: int  # what makes more of a value better: -1 for losses and errors
    design: str | None  # by whose method they are compared
    of_all_rows: bool = False  # whether every reported row has one of them: of a factorial
    of_variants: bool = False  # whether keys are those of variants
    of_cells: bool = False  # whether values are those of cells, to be averaged within a seed

    def sample(self, level: str, other: str) -> tuple[BySeed, BySeed]:
        """Return the values of `other` and of `level`, by what pairs them."""
        first, second = (self.values.get(self.keys[name], {}) for name in (other, level))
        return per_seed(first, second) if self.of_cells else (first, second)


def levels_of(plan: Mapping[str, Any], claim: Mapping[str, Any], trials: Sequence[Trial]) -> Levels:
    """Find the levels that a claim speaks of, with their values."""
    of = _of_factorial if plan.get("design") == "factorial" else _of_variants
    found = of(plan, claim, trials)
    among = claim.get("among")
    if among is None:
        return found
    chosen = set(map(level_text, among))
    keys = {name: key for name, key in found.keys.items() if name in chosen}
    return replace(found, keys=keys)


def _sign(plan: Mapping[str, Any]) -> int:
    return -1 if quantity_of(plan).lower_is_better else 1


def _of_variants(
    plan: Mapping[str, Any], claim: Mapping[str, Any], trials: Sequence[Trial]
) -> Levels:
    """Of an ablation a level is a variant, and its values have the seeds as names."""
    factor, given = str(claim.get("factor")), claim.get("with", {})
    places: dict[str, dict[str, Any]] = {}
    if factor in plan.get("factors", {}):
        places[level_text(baseline_level(plan, factor))] = {}
    for row in planned_rows(plan):
        if row.factor == factor:
            places.setdefault(level_text(row.level), row.changes)
    keys = {name: variant_key(differing(plan, changes | given)) for name, changes in places.items()}
    sign = _sign(plan)
    values = {
        key: {seed: sign * value for seed, value in sample.items()}
        for key, sample in values_by_variant(finished(trials)).items()
    }
    told = {
        variant_key(entry["changes"]): entry.get("test_accuracy")
        for entry in plan.get("reported") or []
    }
    theirs = {name: told[key] for name, key in keys.items() if told.get(key) is not None}
    failed = {variant_key(trial.changes) for trial in failures(plan, trials)}
    lost = frozenset(name for name, key in keys.items() if key in failed)
    return Levels(keys, values, theirs, lost, sign, plan.get("design"), of_variants=True)


def _of_factorial(
    plan: Mapping[str, Any], claim: Mapping[str, Any], trials: Sequence[Trial]
) -> Levels:
    """Of a factorial a level, or a combination of several, stands for all cells that have it.

    Where nobody knows the seeds, the cells are runs of their own, paired by their other levels.
    """
    best, given = claim.get("best"), claim.get("with", {})
    names = tuple(best) if isinstance(best, dict) else (str(claim.get("factor")),)
    cells: defaultdict[str, dict[Hashable, Trial]] = defaultdict(dict)
    for trial in finished(trials):
        if (level := _place(trial.params, names, given)) is not None:
            others = frozenset((n, repr(v)) for n, v in trial.params.items() if n not in names)
            cells[level][others, trial.seed] = trial
    failed = {_place(trial.params, names, given) for trial in failures(plan, trials)}
    order, sign = _combinations(plan, names), _sign(plan)
    values: dict[Hashable, BySeed] = {
        name: {cell: sign * value for cell, value in known_values(cells[name]).items()}
        for name in order
    }
    combined = len(names) > 1
    return Levels(
        keys={name: name for name in order},
        values=_means(values) if combined else values,
        theirs=_reported_means(plan, names, given),
        lost=frozenset(name for name in order if name in failed),
        sign=sign,
        design="ablation" if combined else "factorial",
        of_all_rows=True,
        of_cells=not combined and seeds_are_known(plan),
    )


def _means(values: Mapping[Hashable, Mapping[Any, float]]) -> dict[Hashable, BySeed]:
    """Average combinations, each a variant of its own now, within a seed.

    Over the cells, (other levels, seed), that all combinations with a value have.
    """
    there = [sample.keys() for sample in values.values() if sample]
    common: set[Any] = set.intersection(*map(set, there)) if there else set()
    seeds: defaultdict[Hashable, list[Any]] = defaultdict(list)
    for cell in common:
        seeds[cell[1]].append(cell)
    return {
        name: {
            seed: fsum(sample[cell] for cell in of) / len(of)
            for seed, of in seeds.items()
            if sample
        }
        for name, sample in values.items()
    }


def _combinations(plan: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    factors = plan.get("factors", {})
    levels = [[level_text(level) for level in factors.get(name, ())] for name in names]
    return [", ".join(combination) for combination in product(*levels)]


def combination_text(levels: Mapping[str, Any]) -> str:
    """Name a combination as the levels of a factorial are named: `false, 0.2, avg`."""
    return ", ".join(map(level_text, levels.values()))


def _place(levels: Mapping[str, Any], names: Sequence[str], given: Mapping[str, Any]) -> str | None:
    """Return which level a cell has; None: it is not one of those that the claim speaks of."""
    fits = all(
        name in levels and level_text(levels[name]) == level_text(level)
        for name, level in given.items()
    )
    if not fits or any(levels.get(name) is None for name in names):
        return None
    return combination_text({name: levels[name] for name in names})


def _reported_means(
    plan: Mapping[str, Any], names: Sequence[str], given: Mapping[str, Any]
) -> dict[str, float]:
    """Average the reported cells of each level, where the source has a figure for every cell."""
    factors = plan.get("factors", {})
    told: defaultdict[str, list[float]] = defaultdict(list)
    for entry in plan.get("reported") or []:
        cell = {n: entry["changes"].get(n, baseline_level(plan, n)) for n in factors}
        level = _place(cell, names, given)
        if level is not None and entry.get("test_accuracy") is not None:
            told[level].append(entry["test_accuracy"])
    free = [levels for name, levels in factors.items() if name not in {*names, *given}]
    whole = prod(map(len, free))
    return {level: fsum(cells) / whole for level, cells in told.items() if len(cells) == whole}
