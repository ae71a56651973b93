"""Settings that never change but together, so that no effect can be told to be one's alone."""

from collections.abc import Mapping, Sequence

from study.plans.variants import Level

FEW = 4  # levels; with more, two columns that differ in every run are drawn, not designed


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
