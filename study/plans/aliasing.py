"""Settings that never change but together, so that no effect can be told to be one's alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from study.plans.variants import Level

FEW = 4  # levels; with more, two columns that differ in every run are drawn, not designed
MOST_COLUMNS = 100
NEAR = 0.1  # share of runs that tell two settings apart, below which hardly any do


def alias_groups(columns: Mapping[str, Sequence[Level]]) -> list[list[str]]:
    """Group columns of levels, one level a run, by which determine each other; most are alone.

    Columns with a level of its own for almost every run are alone: they were drawn at random, or
    name the run.
    """
    groups: list[list[str]] = []
    for name, levels in columns.items():
        count = len(set(levels))
        designed = count > 1 and (count <= FEW or 2 * count <= len(levels))
        for group in groups if designed else ():
            first = columns[group[0]]
            if count == len(set(first)) == len(set(zip(first, levels, strict=True))):
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


@dataclass(frozen=True)
class NearAlias:
    """Two columns that change together in all runs but a few."""

    names: tuple[str, str]
    exceptions: int  # runs that tell them apart
    runs: int


def near_aliases(columns: Mapping[str, Sequence[Level]]) -> list[NearAlias]:
    """Find pairs of columns whose levels correspond one to one in nine runs of ten and more.

    At least two pairs of levels must occur together, each in two runs and in more runs than there
    are exceptions: so one factor at a time around a baseline, which most runs share, is none. Of
    more columns than a person designs nothing is said: some of so many pairs agree by chance.
    """
    if len(columns) > MOST_COLUMNS:
        return []
    return [
        alias
        for names in combinations(columns, 2)
        if (alias := _near_alias(names, columns[names[0]], columns[names[1]])) is not None
    ]


def _near_alias(
    names: tuple[str, str], first: Sequence[Level], second: Sequence[Level]
) -> NearAlias | None:
    together: dict[Level, tuple[Level, int]] = {}
    for (a, b), count in Counter(zip(first, second, strict=True)).most_common():
        if a not in together and all(b != taken for taken, _ in together.values()):
            together[a] = (b, count)
    counts = [count for _, count in together.values() if count > 1]
    exceptions = len(first) - sum(counts)
    is_near = 0 < exceptions < min(counts, default=0) and len(counts) > 1
    if not is_near or exceptions > NEAR * len(first):
        return None
    return NearAlias(names, exceptions, len(first))
