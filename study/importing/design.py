"""Which design a table of results has, told from the settings that are in it."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fmnist_common.text import level_text
from study.plans.aliasing import alias_groups
from study.plans.plan import Level

JOIN = " & "
MANY = 8  # runs, from which on numbers that hardly repeat were drawn, not chosen

FactorLevels = tuple[Level, ...]  # a level per factor


@dataclass(frozen=True)
class Design:
    """What a table varies, and how."""

    kind: str  # "factorial", "ablation", or "search": no design was found
    factors: Mapping[str, Sequence[Level]]  # with every level that is there
    points: Sequence[FactorLevels]  # of each run
    baseline: Mapping[str, Level]
    variants: Sequence[Mapping[str, Any]] = ()  # runs off an ablation's axes, as in a plan file
    merged: Mapping[str, Sequence[str]] = field(default_factory=dict)  # factor -> its columns

    def axes(self) -> dict[str, list[Level]]:
        """Return the factors of the plan: of an ablation, only levels that are there by themselves.

        A level that occurs with other changes alone is among `variants`.
        """
        if self.kind == "factorial":
            return {name: list(levels) for name, levels in self.factors.items()}
        alone = {name: {level} for name, level in self.baseline.items()}
        for run in range(len(self.points)):
            changes = self.changes(run)
            if len(changes) == 1:
                for name, level in changes.items():
                    alone[name].add(level)
        axes = {
            name: [level for level in levels if level in alone[name]]
            for name, levels in self.factors.items()
        }
        return {
            n: levels
            for n, levels in axes.items()
            if levels != [self.baseline[n]] or not self.variants
        }

    def changes(self, run: int) -> dict[str, Level]:
        """Return what a run changes of the baseline."""
        pairs = zip(self.factors, self.points[run], strict=True)
        return {name: level for name, level in pairs if level != self.baseline[name]}

    def params(self, run: int) -> dict[str, Level]:
        """Return a run's levels by factor."""
        return dict(zip(self.factors, self.points[run], strict=True))


def find_design(columns: Mapping[str, Sequence[Level]], runs: int) -> Design:
    """Find the design of so many runs from their levels, a list per factor in their order.

    Columns that never change but together are merged into one factor: nobody can say which of
    them an effect belongs to. *Factorial*: every combination, equally often; the first run is the
    baseline. *Ablation*: most settings differ from one of them in a single factor; what differs
    in several is listed. Anything else has no design, like the trials of a search.
    """
    merged, factor_levels = merge(columns)
    factors = {name: ordered(levels) for name, levels in factor_levels.items()}
    points: list[FactorLevels] = list(zip(*factor_levels.values(), strict=True)) or [()] * runs
    counts = Counter(points)
    cells = math.prod(map(len, factors.values()))
    baseline = points[0]
    kind = "search"
    if len(counts) == 1:
        kind = "ablation"  # of nothing: replicates of one setting
    elif len(factors) > 1 and cells == len(counts) and len(set(counts.values())) == 1:
        kind = "factorial"
    else:
        centre = _centre(counts)
        distances = [_distance(point, centre) for point in counts]
        beside = sum(distance > 1 for distance in distances)
        if distances.count(1) >= max(1, beside) and not (beside and _drawn(factor_levels)):
            kind, baseline = "ablation", centre
    variants = _off_axis(factors, counts, baseline) if kind == "ablation" else []
    named = dict(zip(factors, baseline, strict=True))
    return Design(kind, factors, points, named, variants, merged)


def _drawn(columns: Mapping[str, Sequence[Level]]) -> bool:
    """Whether a factor has another number in nearly every run, as random draws have."""
    return any(
        len(levels) > MANY
        and len(set(levels)) > 0.8 * len(levels)
        and all(isinstance(level, int | float) for level in levels)
        for levels in columns.values()
    )


def merge(
    columns: Mapping[str, Sequence[Level]],
) -> tuple[dict[str, list[str]], dict[str, list[Level]]]:
    """Merge columns that only change together; return the merged names, and all factors."""
    merged, factors = {}, {}
    for group in alias_groups(columns):
        if len(group) == 1:
            factors[group[0]] = list(columns[group[0]])
            continue
        merged[JOIN.join(group)] = group
        rows = zip(*(columns[name] for name in group), strict=True)
        factors[JOIN.join(group)] = [JOIN.join(map(_text, row)) for row in rows]
    return merged, factors


def _text(level: Level) -> str:
    return "none" if level is None else level_text(level)


def ordered(levels: Sequence[Level]) -> list[Level]:
    """List the levels that are there: numbers by size, words as they come, nothing first."""
    present = list(dict.fromkeys(levels))
    values = [level for level in present if level is not None]
    if values and not any(isinstance(level, str) for level in values):
        values.sort()  # of one kind: numbers, or true and false
    return [*([None] if None in present else []), *values]


def _distance(point: FactorLevels, other: FactorLevels) -> int:
    return sum(a != b for a, b in zip(point, other, strict=True))


def _centre(counts: Mapping[FactorLevels, int]) -> FactorLevels:
    """Return the setting that differs least from all settings, the first of equals.

    A setting's distances add up factor by factor: for each, the settings of another level.
    """
    by_level = [Counter(levels) for levels in zip(*counts, strict=True)]
    return max(
        counts, key=lambda point: sum(n[level] for n, level in zip(by_level, point, strict=True))
    )


def _off_axis(
    factors: Mapping[str, Sequence[Level]],
    counts: Mapping[FactorLevels, int],
    baseline: FactorLevels,
) -> list[dict[str, Any]]:
    variants = []
    for point in counts:
        changes = {
            name: level
            for name, level, base in zip(factors, point, baseline, strict=True)
            if level != base
        }
        if len(changes) > 1:
            factor = " + ".join(changes)
            level = " + ".join(map(_text, changes.values()))
            variants.append({"factor": factor, "level": level, "changes": changes})
    return variants
