"""Trainings that collapsed: far below what the same variant reaches on its other seeds.

One seed of five at chance level moves a mean by fifteen points, and makes its spread so large that
nothing can be proven any more. That is neither noise nor an effect: it is named.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

Variant = TypeVar("Variant", bound=Hashable)
Seed = TypeVar("Seed", bound=Hashable)

FEWEST = 3  # values of a variant: of two, nobody knows which is the odd one
FAR = 8.0  # usual standard deviations below the variant's median
LEAST = 0.05  # and so much at least, a fraction: accuracies of a usual study spread by far less
LEARNED = 0.3  # a fraction: what has hardly learned anything cannot collapse
NORMAL = 1.4826  # standard deviations in a median absolute deviation of normal values


@dataclass(frozen=True)
class Collapse(Generic[Variant, Seed]):
    """A value far below the others of its variant; fractions."""

    variant: Variant
    seed: Seed
    value: float
    median: float  # of the variant's values


def collapsed(values: Mapping[Variant, Mapping[Seed, float]]) -> list[Collapse[Variant, Seed]]:
    """Find values that are far below the median of their variant.

    Far is judged by the median absolute deviation, over all variants or of the variant alone, which
    a few failures do not move (Hampel, "The influence curve and its role in robust estimation",
    JASA 69, 1974): a variant that always scatters widely has not collapsed. Of one that collapsed
    on most seeds, or hardly learned, nothing is found: low is what it usually reaches.

    Args:
        values: accuracies, fractions, by variant and seed.
    """
    medians = {name: median(row.values()) for name, row in values.items() if len(row) >= FEWEST}
    if not medians:
        return []
    deviations = {
        name: [abs(value - middle) for value in values[name].values()]
        for name, middle in medians.items()
    }
    usual = median(deviation for row in deviations.values() for deviation in row)
    return [
        Collapse(name, seed, value, middle)
        for name, middle in medians.items()
        for seed, value in values[name].items()
        if middle >= LEARNED
        and middle - value > max(LEAST, FAR * NORMAL * max(usual, median(deviations[name])))
    ]
