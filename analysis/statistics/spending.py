"""Looking at growing data again and again without claiming too much: alpha spending.

A test that is repeated after every few values finds something sooner or later. Its chance of doing
so where there is nothing is kept at alpha by spending it over the looks: a function of the share of
the data says how much may be spent by then (Lan and DeMets, "Discrete sequential boundaries for
clinical trials", Biometrika 70, 1983), here a power of the share (Kim and DeMets 1987). The
boundaries follow from the joint distribution of the looks' statistics, whose increments are
independent (Armitage, McPherson and Rowe 1969); for statistics with few degrees of freedom, the
boundaries' tail probabilities are used instead of the boundaries (Jennison and Turnbull, "Group
Sequential Methods", 2000, section 3.8).

Pure functions.
"""

from functools import lru_cache

import numpy as np
from scipy import optimize, special

from analysis.statistics.arrays import Array

NODES = 401  # of the grid for the sum of the values so far
FARTHEST = 12.0  # standard deviations of a boundary: nothing gets there
NOTHING = 1e-15  # a chance that is not worth a boundary


@lru_cache(maxsize=256)
def nominal_levels(looks: tuple[int, ...], alpha: float, power: float) -> tuple[float, ...]:
    """Return the two-sided level at which each look may test, so that all together spend alpha.

    Args:
        looks: numbers of values at each, increasing; alpha is used up at the last.
        alpha: of all looks together, two-sided. Half of it is what one side spends.
        power: alpha * (n / last) ** power is spent after n values: the larger, the later.
    """
    levels: list[float] = []
    spent, before = 0.0, 0
    sums: Array = np.zeros(1)
    chances: Array = np.ones(1)  # of the values so far, where no look has ended it
    for n in looks:
        target = alpha * (n / looks[-1]) ** power
        boundary = _boundary(sums, chances, n - before, target - spent, FARTHEST * np.sqrt(n))
        levels.append(2 * float(special.ndtr(-boundary / np.sqrt(n))))
        sums, chances = _go_on(sums, chances, n - before, boundary)
        spent, before = target, n
    return tuple(levels)


def _boundary(sums: Array, chances: Array, values: int, chance: float, farthest: float) -> float:
    """Return what the sum of all values leaves, to either side, with a chance at this look."""
    sd = np.sqrt(values)

    def leaves(boundary: float) -> float:
        tails = special.ndtr((-boundary - sums) / sd) + special.ndtr((sums - boundary) / sd)
        return float(chances @ tails)

    if chance < NOTHING or leaves(farthest) >= chance:
        return farthest
    return float(optimize.brentq(lambda boundary: leaves(boundary) - chance, 0.0, farthest))


def _go_on(sums: Array, chances: Array, values: int, boundary: float) -> tuple[Array, Array]:
    """Return where the sum is after further values, if it is inside: a grid, and its chances."""
    grid = np.linspace(-boundary, boundary, NODES)
    density = np.exp(-((grid[:, None] - sums) ** 2) / (2 * values)) @ chances
    step = np.full(NODES, grid[1] - grid[0])
    step[[0, -1]] /= 2  # trapezoidal rule
    return grid, density * step / np.sqrt(2 * np.pi * values)
