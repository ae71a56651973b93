"""How far one level is ahead of another, from runs that are paired; accuracies are fractions."""

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

ENOUGH = 3  # replicates; two leave one degree of freedom, and any two may agree by chance
CONFIDENCE = 0.95
ROUNDING = 1e-12  # accuracies that differ by less are equal

Accuracies = Mapping[Hashable, float]  # of one level, by what pairs it with another level's


def mean(values: Iterable[float]) -> float:
    """Return the mean of at least one value."""
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)


def standard_error(accuracy: float, images: int) -> float:
    """Return the binomial standard error of an accuracy measured on so many images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


@dataclass(frozen=True)
class Lead:
    """How far one level is ahead of another."""

    mean: float
    pairs: int
    low: float | None = None  # of the interval; None for fewer than two pairs, or no spread
    high: float | None = None

    @property
    def is_proven(self) -> bool:
        """Whether it is more than chance.

        Two pairs prove nothing: whether they agree by chance, a single degree of freedom cannot
        tell.
        """
        return self.pairs >= ENOUGH and self.low is not None and self.low > 0

    def __str__(self) -> str:
        text = f"{100 * self.mean:.2f} points"
        if self.low is None or self.high is None:
            return text
        return f"{text} [{100 * self.low:.2f}, {100 * self.high:.2f}]"


def lead(level: Accuracies, other: Accuracies, comparisons: int = 1) -> Lead:
    """Estimate level minus other, with the paired t interval (Student 1908) if there are pairs.

    Args:
        level: accuracies of one level.
        other: those of the other one.
        comparisons: of how many it is one; their intervals hold together in 95 % (Bonferroni).
    """
    shared = level.keys() & other.keys()
    if len(shared) < 2:
        return Lead(mean(level.values()) - mean(other.values()), len(shared))
    from scipy import special

    deltas = [level[key] - other[key] for key in shared]
    n, middle = len(deltas), mean(deltas)
    error = math.sqrt(math.fsum((delta - middle) ** 2 for delta in deltas) / (n - 1) / n)
    if error < ROUNDING:
        return Lead(middle, n)
    half = float(special.stdtrit(n - 1, 1 - (1 - CONFIDENCE) / (2 * comparisons))) * error
    return Lead(middle, n, middle - half, middle + half)
