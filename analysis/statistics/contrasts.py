"""Contrasts of a factorial's linear model, with the intervals that their terms' errors give."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.statistics.arrays import Array
from analysis.statistics.power import CONFIDENCE


@dataclass(frozen=True)
class TermError:
    """What a term is judged by."""

    variance: float  # of a run
    degrees: int
    source: str


@dataclass(frozen=True)
class ContrastFit:
    """A linear model's coefficients, of which each term has some."""

    coefficients: Array
    covariance: Array  # for an error of variance 1
    where: Mapping[tuple[str, ...], slice]
    errors: Mapping[tuple[str, ...], TermError]

    @property
    def mean(self) -> float:
        """The mean of all cells, evenly."""
        return float(self.coefficients[0])

    def estimate(self, term: tuple[str, ...], contrast: Array) -> tuple[float, float, float]:
        """Return the value of a contrast of a term's coefficients, and its 95 % interval."""
        part = self.where[term]
        value = float(contrast @ self.coefficients[part])
        error = self.errors[term]
        squared = error.variance * float(contrast @ self.covariance[part, part] @ contrast)
        half = float(special.stdtrit(error.degrees, (1 + CONFIDENCE) / 2)) * math.sqrt(squared)
        return value, value - half, value + half


def effect_coding(levels: int) -> Array:
    """Code levels so that their effects add up to zero: a row per level, levels - 1 columns."""
    return np.vstack([np.eye(levels - 1), -np.ones((1, levels - 1))])
