"""The rule of the ablation path: from the baseline to the best combination, one factor at a time.

One-factor-at-a-time effects need not add up. Every step tries each remaining change on top of
those taken, and takes the best (Fawcett and Hoos, "Analysing differences between algorithm
configurations through ablation", Journal of Heuristics 22, 2016). `run --path` trains by this rule
and the report reads by it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Changes = Mapping[str, Any]
Mean = Callable[[Changes], float | None]
"""Mean validation accuracy over all planned seeds of the baseline with some changes; None: a seed
has no result."""


@dataclass(frozen=True)
class PathStep:
    """A step: what was taken before it, and what may be added."""

    taken: dict[str, Any]  # factor -> level
    means: dict[tuple[str, Any], float | None]  # (factor, level) that may be added -> with it
    settled: bool  # whether each of these has been tried on all seeds

    @property
    def best(self) -> tuple[str, Any] | None:
        """The factor and level to take; None: not all are settled, or all diverged."""
        means = {change: mean for change, mean in self.means.items() if mean is not None}
        return max(means, key=means.__getitem__) if means and self.settled else None


def target(levels: Mapping[str, Sequence[Any]], mean: Mean) -> dict[str, Any]:
    """Return the best level of every factor where that beats the baseline.

    Args:
        levels: of every factor, the baseline's own left out.
        mean: judges a combination.
    """
    start = mean({})
    best: dict[str, Any] = {}
    if start is None:
        return best
    for factor, others in levels.items():
        means = [(mean({factor: level}), level) for level in others]
        better = [(accuracy, level) for accuracy, level in means if (accuracy or 0.0) > start]
        if better:
            best[factor] = max(better, key=lambda pair: pair[0] or 0.0)[1]
    return best


def steps(
    changes: Mapping[str, Any], mean: Mean, is_settled: Callable[[Changes], bool]
) -> Iterator[PathStep]:
    """Follow the path to a target, up to its end or its first unfinished step.

    Args:
        changes: the target: factor -> level.
        mean: judges a combination.
        is_settled: whether a combination has been tried on all planned seeds.
    """
    taken: dict[str, Any] = {}
    left = dict(changes)
    while left:
        tried = {change: {**taken, change[0]: change[1]} for change in left.items()}
        step = PathStep(
            dict(taken),
            {change: mean(combination) for change, combination in tried.items()},
            all(map(is_settled, tried.values())),
        )
        yield step
        if step.best is None:
            return
        factor, level = step.best
        taken[factor] = level
        del left[factor]
