"""Proportions of test images: how sure one is, and how sure the difference of two is.

Pure functions over counts. Two classifiers are compared on the same images, so only the images
that exactly one of them gets right say anything.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.statistics.power import CONFIDENCE

Z = float(special.ndtri((1 + CONFIDENCE) / 2))


@dataclass(frozen=True)
class Proportion:
    """The share of some images that a classifier gets right."""

    images: int
    right: int
    accuracy: float
    low: float  # 95 % interval, Wilson's
    high: float


@dataclass(frozen=True)
class PairedShares:
    """A first classifier against a second one on the same images. Differences are fractions."""

    images: int
    only_first: int  # images that only the first one gets right
    only_second: int
    difference: float  # first minus second
    low: float  # 95 % interval, Tango's
    high: float
    p_value: float  # two-sided, of no difference: McNemar's exact test


def share(right: int, images: int) -> Proportion:
    """Describe a count of images."""
    return Proportion(images, right, right / images, *wilson(right, images))


def wilson(right: float, images: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion; `right` may be a fraction, as ties count half.

    The score interval of E. B. Wilson, "Probable inference, the law of succession, and statistical
    inference" (JASA 22, 1927).
    """
    observed = right / images
    middle = observed + Z**2 / (2 * images)
    half = Z * math.sqrt(observed * (1 - observed) / images + Z**2 / (4 * images**2))
    scale = 1 + Z**2 / images
    # None and all of them are limits themselves, which floats miss by a rounding.
    low = (middle - half) / scale if right else 0.0
    return low, (middle + half) / scale if right < images else 1.0


def compare(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> PairedShares:
    """Compare two classifiers by whether they get each image right, both of shape (n,)."""
    only_first = int(np.sum(first & ~second))
    only_second = int(np.sum(~first & second))
    low, high = tango(only_first, only_second, len(first))
    return PairedShares(
        images=len(first),
        only_first=only_first,
        only_second=only_second,
        difference=(only_first - only_second) / len(first),
        low=low,
        high=high,
        p_value=mcnemar(only_first, only_second),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test (Psychometrika 12, 1947).

    Were both classifiers equally good, each image that they disagree on would be as likely right
    for the one as for the other: a binomial distribution with probability 1/2.
    """
    disagreements = only_first + only_second
    return min(1.0, 2 * float(special.bdtr(min(only_first, only_second), disagreements, 0.5)))


def tango(only_first: int, only_second: int, images: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two paired proportions.

    The score interval of T. Tango, "Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design" (Statistics in Medicine 17, 1998): the differences
    that a score test does not reject. That of no difference is McNemar's; unlike Wald's interval
    it has a width where the classifiers never disagree.
    """

    def rejected(difference: float) -> bool:
        # The second's share of lone successes, by maximum likelihood given the difference: the
        # larger root of a quadratic equation.
        linear = (2 * images - only_first + only_second) * difference - only_first - only_second
        constant = -only_second * difference * (1 - difference)
        root = math.sqrt(max(0.0, linear**2 - 8 * images * constant))
        lone = (root - linear) / (4 * images)
        variance = images * (2 * lone + difference * (1 - difference))
        return (only_first - only_second - images * difference) ** 2 > Z**2 * variance

    estimate = (only_first - only_second) / images
    return _boundary(rejected, estimate, -1.0), _boundary(rejected, estimate, 1.0)


def _boundary(rejected: Callable[[float], bool], inside: float, outside: float) -> float:
    """Bisect to where rejection begins, to the last bit or so."""
    for _ in range(60):
        middle = (inside + outside) / 2
        if rejected(middle):
            outside = middle
        else:
            inside = middle
    return inside
