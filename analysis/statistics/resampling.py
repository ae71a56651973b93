"""What can be said of a mean without a distribution: the bootstrap and sign flips.

Pure functions over arrays, each with its own generator, so that a report repeats to the digit.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.statistics.power import CONFIDENCE

RESAMPLES = 9_999  # with the values themselves 10,000, of which the tails are whole numbers
FEWEST_RESAMPLES = 999
LARGEST = 5_000_000  # values drawn in all: beyond it, fewer resamples
CHUNK = 1_000_000  # values drawn at a time: 16 MB
MOST_EXACT = 14  # values whose 2**n sign patterns are all tried


def bca_interval(
    values: ArrayLike, rng: np.random.Generator, confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Return the bias-corrected and accelerated bootstrap interval of the mean (Efron 1987).

    The steps are those of scipy.stats.bootstrap, which draws the same resamples from the same
    generator; it costs half a second to import. With n values there are few different resamples,
    and the interval is too narrow: see docs/statistics.md for its coverage by n.

    Args:
        values: shape (n,).
        rng: draws the resamples.
        confidence: of both sides together.

    Returns:
        Low and high; None for fewer than two values and for values that are all the same.
    """
    sample = np.asarray(values, float)
    n = sample.size
    if n < 2 or np.ptp(sample) == 0:
        return None
    means = _resampled_means(sample, rng)
    mean = sample.mean()
    below = float(np.mean(means < mean) + np.mean(means <= mean)) / 2
    bias = special.ndtri(below)
    acceleration = _acceleration(sample)
    tail = special.ndtri((1 - confidence) / 2)
    z = bias + np.array([tail, -tail])
    low, high = np.quantile(means, special.ndtr(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def _acceleration(values: NDArray[np.float64]) -> float:
    left_out = (values.sum() - values) / (values.size - 1)  # the jackknife's n means
    away = left_out.mean() - left_out
    return float(np.sum(away**3) / (6 * np.sum(away**2) ** 1.5))


def _resampled_means(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    count = min(RESAMPLES, max(FEWEST_RESAMPLES, LARGEST // values.size))
    rows = max(1, CHUNK // values.size)
    sizes = [min(rows, count - start) for start in range(0, count, rows)]
    drawn = (rng.integers(0, values.size, (size, values.size)) for size in sizes)
    return np.concatenate([values[chosen].mean(axis=1) for chosen in drawn])


def sign_flip(differences: ArrayLike, rng: np.random.Generator) -> float | None:
    """Return the two-sided p-value of no difference, from flipped signs (Fisher 1935).

    Were there no difference, each pair's could as well have had the other sign. Counted are the
    sign patterns whose mean is at least as far from 0: of all 2**n up to 14 pairs, which is exact,
    else of 9,999 drawn ones and the observed one (Phipson and Smyth 2010). The smallest p of n
    pairs is 2 / 2**n: five pairs cannot reach 0.05.

    Args:
        differences: shape (n,).
        rng: draws the patterns where there are too many for all.

    Returns:
        The p-value; None for fewer than two differences.
    """
    deltas = np.asarray(differences, float)
    n = deltas.size
    if n < 2:
        return None
    observed = abs(deltas.sum())
    reached = observed - 1e-9 * np.abs(deltas).sum()  # equal but for the rounding of floats
    if n <= MOST_EXACT:
        patterns = 1 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float(np.mean(np.abs(patterns @ deltas) >= reached))
    return (1 + _drawn_beyond(reached, deltas, rng)) / (1 + RESAMPLES)


def _drawn_beyond(
    reached: float, differences: NDArray[np.float64], rng: np.random.Generator
) -> int:
    """Count the drawn sign patterns whose sum is at least as far from 0."""
    rows = max(1, CHUNK // differences.size)
    count = 0
    for start in range(0, RESAMPLES, rows):
        shape = (min(rows, RESAMPLES - start), differences.size)
        sums = differences.sum() - 2 * (rng.integers(0, 2, shape, np.int8) @ differences)
        count += int(np.sum(np.abs(sums) >= reached))
    return count
