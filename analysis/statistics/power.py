"""What a number of replicate seeds can detect: the power of the paired t-test.

Power is the chance that a study finds a difference that is there. It follows from the noncentral t
distribution (Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988): a difference
of `d` standard deviations of the paired differences moves the statistic of n pairs by d * sqrt(n).
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

ALPHA = 0.05  # of every test, two-sided
CONFIDENCE = 1 - ALPHA  # of every interval
POWER = 0.8
MOST_SEEDS = 10_000
# Of the paired differences of a usual pair of variants, in fractions: what is taken before a study
# has trials of its own, on all images; with fewer, differences spread more (docs/statistics.md).
USUAL_SPREAD = 0.0025
WANTED = 0.002  # the difference that tables of Fashion-MNIST results are often read for


def power(effect: float, n: int, alpha: float = ALPHA) -> float:
    """Return the chance that a two-sided paired t-test of n pairs finds a difference.

    Args:
        effect: the true mean difference, in standard deviations of the differences.
        n: pairs, at least 2.
        alpha: level of the test.
    """
    critical = float(special.stdtrit(n - 1, 1 - alpha / 2))
    shift = abs(effect) * math.sqrt(n)
    spread, weight = _spreads(n - 1)
    either_sign = special.ndtr(shift - critical * spread) + special.ndtr(-shift - critical * spread)
    return float(either_sign @ weight)


@lru_cache(maxsize=8)
def _spreads(freedom: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return standard deviations that a sample of a unit normal may have, and their weights.

    A grid for integrals over the chi distribution in the logarithm of the spread, where the
    trapezoidal rule is exact to about 1e-12. scipy.special.nctdtr gives NaN in many tails.
    """
    root = math.sqrt(freedom)
    u = np.linspace(-40 / freedom - 6.5 / root, 6.5 / root, 8001)  # density below 1e-17 at the ends
    half = freedom / 2
    log_density = math.log(2) + half * math.log(half) - special.gammaln(half)
    density = np.exp(log_density + freedom * u - half * np.exp(2 * u))
    return np.exp(u), density * (u[1] - u[0])


@lru_cache
def detectable(n: int, alpha: float = ALPHA, wanted: float = POWER) -> float | None:
    """Return the smallest difference that n pairs detect, in standard deviations of differences.

    Args:
        n: pairs; None for fewer than two.
        alpha: level of the test; divided by m for the first of m comparisons under Holm.
        wanted: power.
    """
    if n < 2:
        return None
    low, high = 0.0, 1.0
    while power(high, n, alpha) < wanted:
        high *= 2
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, n, alpha) >= wanted else (middle, high)
    return high


def needed(effect: float, alpha: float = ALPHA, wanted: float = POWER) -> int | None:
    """Return the fewest pairs that detect a difference, in standard deviations of differences.

    None for no difference, and for one that 10,000 pairs do not detect.
    """
    if effect == 0 or power(effect, MOST_SEEDS, alpha) < wanted:
        return None
    low, high = 1, MOST_SEEDS  # power grows with n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle, alpha) >= wanted else (middle, high)
    return high


def note(spread: float | None, n: int, wanted: float = WANTED, what: str = "seeds") -> str:
    """Say what n seeds can detect, and how many a wanted difference takes.

    E.g. `5 seeds: 0.42 points; for 0.2: 15 seeds`, then what that rests on.

    Args:
        spread: standard deviation of the paired differences, a fraction, from earlier trials
            (`effects.spread_of_differences`); None: there are none, and 0.25 points are taken.
        n: replicate seeds, or pairs of another kind.
        wanted: a difference, a fraction.
        what: a plural word for n.
    """
    sd = USUAL_SPREAD if spread is None else spread
    words = []
    smallest = detectable(n)
    seeds = f"{n} {what.removesuffix('s') if n == 1 else what}"
    if smallest is None:
        words.append(f"{seeds}: no difference, as it has no spread to be judged by")
    else:
        words.append(f"{seeds}: {_points(smallest * sd)} points")
    target = _points(wanted)
    if sd > 0:
        count = needed(wanted / sd)
        enough = f"more than {MOST_SEEDS:,}" if count is None else f"{count:,}"
        words.append(f"for {target}: {enough} {what}")
    source = "assumed" if spread is None else "of the trials so far"
    return (
        f"{'; '.join(words)} (80 % power at 5 %, a single comparison; "
        f"differences spread by {_points(sd)} points, {source})"
    )


def _points(fraction: float) -> str:
    points = 100 * fraction
    return f"{points:.2g}" if points < 99 else f"{points:.0f}"
